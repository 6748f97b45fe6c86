//! A child that is stopped, and killed, at an instruction of the parent's choice.
//!
//! The child marks what it is to be killed in ([`between_marks`]); the parent holds one thread of it by ptrace and lets
//! that thread make one instruction at a time. Its other threads run freely.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::sys::personality::{self, Persona};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};

use crate::child::{Child, Line, PATIENCE};

/// How a child says where it is. Never delivered: the parent sees it coming and withholds it.
const MARK: Signal = Signal::SIGUSR1;

/// In the child, first of all: has the parent take hold of this thread, which is the one that will act.
pub fn be_held(line: &mut Line) {
    line.say(gettid());
    assert_eq!(line.hear().as_deref(), Some("held"));
}

/// In the child: does what it is to be killed in. Ends the process if no parent holds it.
pub fn between_marks<T>(act: impl FnOnce() -> T) -> T {
    // Between the first two is nothing, so that the parent learns how many instructions the marks themselves take.
    mark();
    mark();
    let done = act();
    mark();
    done
}

/// In the child: one mark. Two and one, on the same thread, are what is between which it is killed.
pub fn mark() {
    raise(MARK).expect("a process can signal itself");
}

/// In the parent, before it starts a child: the children will have everything at the same addresses, so that a path
/// that was found in one holds for all.
pub fn always_at_the_same_addresses() {
    // Children inherit it, and it changes nothing for this process.
    personality::set(Persona::ADDR_NO_RANDOMIZE).expect("the kernel knows it");
}

/// A place that was passed so often makes no landmark: it would have to be met as often again.
const OFTEN: u32 = 8;

/// What lies between two marks, found by one walk through it.
#[derive(Debug, Clone)]
pub struct Path {
    /// How many of the instructions are those of the marks.
    pub of_marks: u64,
    /// Where each instruction is in memory, in the order in which they are made; and the one behind the last.
    places: Vec<u64>,
    /// The numbers of those whose place was not passed often before, and how often it was.
    landmarks: Vec<(u64, u32)>,
}

impl Path {
    fn new(places: Vec<u64>, of_marks: u64) -> Self {
        let mut times = HashMap::new();
        let landmarks = (0..).zip(&places).filter_map(|(number, place)| {
            let passed = times.entry(*place).or_insert(0);
            *passed += 1;
            (*passed <= OFTEN).then_some((number, *passed - 1))
        });
        Self { of_marks, landmarks: landmarks.collect(), places }
    }

    /// The numbers of all instructions that begin the first so many rounds through their place.
    pub fn first_rounds(&self, rounds: u32) -> impl Iterator<Item = u64> {
        let mut times = HashMap::new();
        (0..).zip(&self.places).filter_map(move |(number, place)| {
            let passed = times.entry(*place).or_insert(0);
            *passed += 1;
            (*passed <= rounds).then_some(number)
        })
    }

    /// How many instructions there are, those of the marks included.
    pub fn steps(&self) -> u64 {
        self.places.len() as u64 - 1
    }
}

/// A child whose acting thread is held. Must be used by the thread that started it: the kernel binds tracing to it.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    thread: Pid,
    extent: Extent,
}

/// What a victim is to be killed in.
#[derive(Debug)]
enum Extent {
    /// Two marks, what it does, one mark.
    Marks,
    /// What it does from where it was taken hold of, until somebody else is done.
    Until(Arc<AtomicBool>),
}

impl Victim {
    /// Whether a process may hold its children here; says so if not. `role` is one that begins with [`be_held`].
    pub fn may_be(role: &'static str) -> bool {
        let mut child = Child::start::<&str>(role, &[]);
        let thread = told_thread(&mut child);
        let refused = ptrace::seize(thread, ptrace::Options::PTRACE_O_EXITKILL) == Err(nix::errno::Errno::EPERM);
        if refused {
            println!("SKIP: child processes may not be traced here: kills at instructions were NOT tested");
        } else {
            Self { child, thread, extent: Extent::Marks }.kill();
        }
        !refused
    }

    /// Starts a child in this role, which begins with [`be_held`], and takes hold of it.
    pub fn start<V: AsRef<OsStr>>(role: &'static str, environment: &[(&str, V)]) -> Self {
        Self::hold(Child::start(role, environment))
    }

    /// Takes hold of the thread of a child that calls [`be_held`].
    pub fn hold(mut child: Child) -> Self {
        let thread = told_thread(&mut child);
        let options = ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD;
        ptrace::seize(thread, options).expect("a child can be traced");
        child.say("held");
        Self { child, thread, extent: Extent::Marks }
    }

    /// Takes hold of the thread of this name where it sleeps in the kernel. It is killed in what it does when it is woken,
    /// until `done` is set; whoever sets it wakes it once more then.
    pub fn hold_sleeper(child: Child, name: &str, done: Arc<AtomicBool>) -> Self {
        let until = Instant::now() + PATIENCE;
        // A thread takes its name some time after it was started.
        let thread = loop {
            match sleeper(child.id(), name) {
                Some(thread) => break thread,
                None => assert!(Instant::now() < until, "no thread `{name}` sleeps"),
            }
            std::thread::yield_now();
        };
        let options = ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD;
        ptrace::seize(thread, options).expect("a child can be traced");
        ptrace::interrupt(thread).expect("it is held");
        let victim = Self { child, thread, extent: Extent::Until(done) };
        assert!(matches!(victim.next_stop(), WaitStatus::PtraceEvent(..)));
        victim
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says one line to the child.
    pub fn say(&self, text: impl Display) {
        self.child.say(text);
    }

    /// Waits for the next line of a child that is not expected to end.
    pub fn hear(&mut self) -> String {
        self.child.hear()
    }

    /// Waits until the child has prepared everything and stands before what it is to be killed in.
    pub fn is_ready(&self) {
        match self.next_stop() {
            WaitStatus::Stopped(_, MARK) => {}
            other => panic!("not ready, but {other:?}"),
        }
    }

    /// From where it is ready: walks through to the end of what it does and tells what the way was.
    pub fn explore(&self) -> Path {
        let of_marks = match self.extent {
            Extent::Marks => self.walk().len() as u64 - 1,
            Extent::Until(_) => 0,
        };
        Path::new(self.walk(), of_marks)
    }

    /// Behind what only measures the marks.
    fn begin(&self) {
        if let Extent::Marks = self.extent {
            ptrace::cont(self.thread, None).expect("it stands");
            self.is_ready();
        }
    }

    /// From where it is ready: goes on until it has made so many instructions, or to the end of what it does if that comes
    /// first. It runs to a landmark of the path before that, the last one that leaves at least `walked` to walk, and
    /// walks the rest. Says whether it is where the path would have it.
    pub fn go(&self, path: &Path, steps: u64, walked: u64) -> bool {
        self.begin();
        let behind = path.landmarks.partition_point(|&(landmark, _)| landmark.saturating_add(walked) <= steps);
        let (landmark, passed) = behind.checked_sub(1).map_or((0, 0), |last| path.landmarks[last]);
        let is_there = landmark == 0 || self.run_to(path.places[landmark as usize], passed);
        // At each instruction: who goes a longer way may come by the last one's place at the same count by chance.
        is_there && (landmark..steps).all(|at| self.step() && self.place() == path.places[at as usize + 1])
    }

    /// From where it is ready: goes on to the system call stop of this number, two for each call: going in and
    /// coming back; or to the end of what it does if that comes first, `false` then.
    pub fn go_by_calls(&self, stops: u64) -> bool {
        self.begin();
        (0..stops).all(|_| {
            ptrace::syscall(self.thread, None).expect("it stands");
            self.is_stopped_before_the_end()
        })
    }

    /// Runs to the instruction at this place, for the first time after it has passed it so often; `false` if the end comes
    /// before.
    fn run_to(&self, place: u64, passed: u32) -> bool {
        // A breakpoint of the processor, not one in the code: the other threads must not meet it.
        self.set_debug_register(0, place);
        let mut met = u32::from(self.place() == place);
        while met <= passed {
            // Off the place where it stands, at which it would be stopped again.
            if !self.step() {
                return false;
            }
            if self.place() != place && !self.runs_on() {
                return false;
            }
            met += 1;
        }
        true
    }

    /// Runs to the breakpoint; `false` if the end comes before.
    fn runs_on(&self) -> bool {
        self.set_debug_register(7, 1);
        ptrace::cont(self.thread, None).expect("it stands");
        let is_there = self.is_stopped_before_the_end();
        self.set_debug_register(7, 0);
        is_there
    }

    fn set_debug_register(&self, number: usize, value: u64) {
        let offset = offset_of!(nix::libc::user, u_debugreg) + number * size_of::<u64>();
        let offset = std::ptr::without_provenance_mut(offset);
        ptrace::write_user(self.thread, offset, value as i64).expect("the processor has breakpoints");
    }

    /// Walks to the next mark; gives the place of each instruction, and of the one that would have been next.
    fn walk(&self) -> Vec<u64> {
        let mut places = vec![self.place()];
        while self.step() {
            places.push(self.place());
        }
        places
    }

    /// Where its next instruction is.
    fn place(&self) -> u64 {
        ptrace::getregs(self.thread).expect("it stands").rip
    }

    /// Makes one instruction, or one round of a repeated one, or one whole system call; `false` if it is at a mark.
    fn step(&self) -> bool {
        ptrace::step(self.thread, None).expect("it stands");
        self.is_stopped_before_the_end()
    }

    fn is_stopped_before_the_end(&self) -> bool {
        match self.next_stop() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceSyscall(_) => match &self.extent {
                Extent::Marks => true,
                Extent::Until(done) => !done.load(Ordering::Acquire),
            },
            WaitStatus::Stopped(_, MARK) => false,
            other => panic!("stopped by {other:?}"),
        }
    }

    /// Kills it where it stands, and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }

    fn next_stop(&self) -> WaitStatus {
        self.try_next_stop().expect("it is ours")
    }

    fn try_next_stop(&self) -> nix::Result<WaitStatus> {
        waitpid(self.thread, Some(WaitPidFlag::__WALL))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Fails if it has ended by itself.
        let _ = kill(Pid::from_raw(self.id().cast_signed()), Signal::SIGKILL);
        // A process is not gone before whoever traces a thread of it has seen the end of that: also if a test fails.
        while !matches!(self.try_next_stop(), Ok(WaitStatus::Signaled(..) | WaitStatus::Exited(..)) | Err(_)) {}
        self.child.kill();
    }
}

/// The thread of this name, if it is there and sleeps.
fn sleeper(process: u32, name: &str) -> Option<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("the child is not reaped yet");
    tasks.filter_map(Result::ok).find_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let is_it = stat.contains(&format!(" ({name}) S "));
        let number = task.file_name().to_str()?.parse().ok()?;
        is_it.then(|| Pid::from_raw(number))
    })
}

fn told_thread(child: &mut Child) -> Pid {
    Pid::from_raw(child.hear().parse().expect("a thread's id"))
}
