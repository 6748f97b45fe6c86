//! Does an unloaded call allocate or make a system call? Counted in both processes, over every thread of them.
//!
//! Three processes: a service, a caller, and this one, which traces both. Heap allocations are counted by the allocator
//! of each process, system calls by the tracer. The caller makes windows of calls. A window with system calls does not
//! count if the processor was taken from a thread meanwhile, by the kernel's count or by the time of a call: then the
//! other side waited for something that was not the call, and may have yielded or slept. A window without any counts always, for disturbance only adds.
//!
//! The executable that uses this must make [`count_alloc::CountingAllocator`] its global allocator, and must run
//! [`roles::serve`] or [`roles::call`] when it is started as the command of that role.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub mod cores;
pub mod count_alloc;
pub mod roles;
mod tracer;

use cores::{TwoCores, pin_process};
pub use roles::Failure;
use tracer::Tracer;

/// Calls that must have been counted, at least, before the answer is believed.
pub const CALLS: u32 = 10_000;
/// Dropped windows after which the machine is called too busy.
const MOST_DROPPED_WINDOWS: u32 = 400;

/// The form of argument under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// 64 bytes by value, there and back.
    Words,
    /// A vector of 1,000 `f32`, read in place by the handler.
    Slice,
}

/// What the counted calls cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Calls in the windows that count.
    pub calls: u32,
    /// Windows that do not count: there were system calls, but a thread had lost its processor.
    pub dropped_windows: u32,
    /// Heap allocations in the caller's process during all windows.
    pub caller_allocations: u64,
    /// Heap allocations in the service's process during all windows, the warm calls of each included.
    pub service_allocations: u64,
    /// The numbers of the system calls that any thread of the two processes made in the windows that count.
    pub system_calls: Vec<i64>,
}

impl Cost {
    /// Enough calls were counted to believe the rest; or hundreds of windows, and not one without system calls.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.calls >= CALLS || (self.calls == 0 && self.dropped_windows >= MOST_DROPPED_WINDOWS)
    }

    /// The calls made no system call.
    #[must_use]
    pub fn is_free_of_system_calls(&self) -> bool {
        self.system_calls.is_empty() && self.calls > 0
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls: {} + {} allocations (caller + service), {} system calls",
            self.calls,
            self.caller_allocations,
            self.service_allocations,
            self.system_calls.len()
        )?;
        if let Some(first) = self.system_calls.first() {
            write!(f, " (the first is number {first})")?;
        }
        write!(f, "; {} disturbed windows dropped", self.dropped_windows)
    }
}

/// The commands that start this executable in each role, with the runtime directory already among their arguments.
#[derive(Debug)]
pub struct Roles {
    /// Runs [`roles::serve`].
    pub service: Command,
    /// Runs [`roles::call`].
    pub caller: Command,
}

/// The two processes, each on a processor of its own.
#[derive(Debug)]
pub struct Experiment {
    service: Process,
    caller: Process,
}

/// Why nothing can be counted on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impossible {
    /// Both sides can be awake only on two processors.
    OneProcessor,
}

impl Experiment {
    /// Starts both processes and blocks until the caller is connected.
    ///
    /// # Errors
    /// A process cannot be started, or ended before it was ready.
    pub fn start(roles: Roles) -> Result<Result<Self, Impossible>, Failure> {
        let Some(cores) = TwoCores::find()? else {
            return Ok(Err(Impossible::OneProcessor));
        };
        let service = Process::start("service", roles.service)?;
        let caller = Process::start("caller", roles.caller)?;
        pin_process(service.id(), cores.peer)?;
        pin_process(caller.id(), cores.caller)?;
        Ok(Ok(Self { service, caller }))
    }

    /// Counts what calls with this form of argument cost. Blocks, typically below a second.
    ///
    /// # Errors
    /// A process failed, or the kernel forbids tracing.
    pub fn count(&mut self, argument: Argument) -> Result<Cost, Failure> {
        let command = match argument {
            Argument::Words => roles::WORDS,
            Argument::Slice => roles::SLICE,
        };
        // The first windows of all fill every buffer that is made on first use.
        self.caller.ask(command)?;
        self.service.ask(roles::BEGIN)?;
        let mut cost = Cost {
            calls: 0,
            dropped_windows: 0,
            caller_allocations: 0,
            service_allocations: 0,
            system_calls: Vec::new(),
        };
        while cost.calls < CALLS && cost.dropped_windows < MOST_DROPPED_WINDOWS {
            let mut tracer = Tracer::seize(&[self.service.id(), self.caller.id()], self.caller.id())?;
            self.caller.tell(command)?;
            let mut window = tracer.watch()?;
            drop(tracer);
            let answer = self.caller.hear()?;
            let [allocations, waited, begin_ns] = answer.split(' ').collect::<Vec<_>>()[..] else {
                return Err(format!("the caller answered `{answer}`").into());
            };
            cost.caller_allocations += allocations.parse::<u64>()?;
            let begin_ns = begin_ns.parse::<u64>()?;
            window.system_calls.retain(|call| call.seen_ns >= begin_ns);
            let disturbed = window.preemptions > 0 || waited.parse()?;
            if disturbed && !window.system_calls.is_empty() {
                cost.dropped_windows += 1;
            } else {
                cost.calls += roles::WINDOW_CALLS;
                cost.system_calls.extend(window.system_calls.iter().map(|call| call.number));
            }
        }
        cost.service_allocations = self.service.ask(roles::END)?.parse()?;
        Ok(cost)
    }
}

/// A role in a process of its own. Dropping it kills the process.
#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(name: &'static str, mut command: Command) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = child.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut process = Self { name, child, commands, answers };
        process.hear()?;
        Ok(process)
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn tell(&mut self, command: u8) -> Result<(), Failure> {
        Ok(self.commands.write_all(&[command])?)
    }

    /// Blocks until the next answer.
    fn hear(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(format!("the {} ended", self.name).into());
            }
            if let Some(answer) = line.strip_prefix(roles::ANSWER) {
                return Ok(answer.trim_end().to_owned());
            }
        }
    }

    fn ask(&mut self, command: u8) -> Result<String, Failure> {
        self.tell(command)?;
        self.hear()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
