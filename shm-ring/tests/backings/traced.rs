//! A child that makes, opens, replaces or removes a segment, and is stopped at a system call of the parent's choice.
//!
//! The parent traces it and sees each entry into the kernel and each way back. What lies between two stops touches
//! nothing but the child's own memory and a segment that nobody else has.

use std::fs;

use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{Signal, kill_process};
use shm_ring::ready::ReadyLayout;
use shm_ring::{Error, Place, Segment};

use crate::support::role::{Child, line};
use crate::{OPTIONS, lanes, tell, told};

/// The epoch of what the child makes.
pub const CHILDS: u64 = 2;

/// On the way into a system call, or back from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    In,
    Back,
}

/// A way and the number of a system call.
pub type Stop = (Way, i64);

/// What a child does when it is told so: what it says of it in the end, and what it has then.
fn act(what: &str, place: &Place) -> (String, Option<Segment<ReadyLayout>>) {
    let segment = match what {
        "make" => place.open_or_create(lanes(70), CHILDS, &OPTIONS).map(|(segment, _)| segment),
        "replace" => place.create(lanes(70), CHILDS, &OPTIONS),
        "open" => place.open::<ReadyLayout>(&OPTIONS),
        _ => return (format!("{:?}", place.remove()), None),
    };
    match segment {
        Ok(segment) => (segment.epoch().to_string(), Some(segment)),
        Err(Error::Taken { .. }) => ("taken".to_owned(), None),
        Err(error) => (error.to_string(), None),
    }
}

/// Must be used by the thread that started it: the kernel binds tracing to it.
pub struct Traced {
    child: Child,
    thread: Pid,
}

impl Traced {
    /// Whether a process may trace its children here; says so if not.
    pub fn may_be() -> bool {
        let mut child = Child::start("traced::role_of_one_that_is_stopped");
        let thread = Pid::from_raw(child.hear().parse().unwrap());
        let may = ptrace::seize(thread, ptrace::Options::empty()) != Err(nix::errno::Errno::EPERM);
        if may {
            Self { child, thread }.kill();
        } else {
            eprintln!("SKIP: child processes may not be traced here: stops at system calls were NOT tested");
        }
        may
    }

    /// A child that is about to begin.
    pub fn start(what: &str, place: &Place) -> Self {
        let mut child = Child::start("traced::role_of_one_that_is_stopped");
        let thread = Pid::from_raw(child.hear().parse().unwrap());
        child.say(tell(place));
        child.say(what);
        assert_eq!(child.hear(), "ready");
        ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD).expect("a child can be traced");
        ptrace::interrupt(thread).unwrap();
        Self { child, thread }
    }

    /// Lets it begin and stops it at the stop of this number; `None` if it has done everything before.
    pub fn run_to(&self, number: usize) -> Option<Stop> {
        // It waits for this line in the kernel, and is sent back there.
        assert!(matches!(self.next_stop(), WaitStatus::PtraceEvent(..)));
        self.child.say("go");
        let mut stops = 0;
        let mut has_begun = false;
        loop {
            ptrace::syscall(self.thread, None).unwrap();
            let WaitStatus::PtraceSyscall(_) = self.next_stop() else { continue };
            let info = ptrace::syscall_info(self.thread).unwrap();
            let way = if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY { Way::In } else { Way::Back };
            let call = system_call_of(&format!("/proc/{}", self.thread));
            // The child marks the beginning and the end of what it does by a call that it makes for nothing else.
            let is_mark = call == libc::SYS_getppid;
            if is_mark && way == Way::Back {
                if has_begun {
                    return None;
                }
                has_begun = true;
            } else if has_begun && !is_mark {
                if stops == number {
                    return Some((way, call));
                }
                stops += 1;
            }
        }
    }

    /// Kills it where it stands.
    pub fn kill(self) {
        kill_process(rustix::process::Pid::from_raw(self.child.pid() as i32).unwrap(), Signal::KILL).unwrap();
        // A process is not gone before whoever traces a thread of it has seen the end of that.
        while !matches!(self.next_stop(), WaitStatus::Signaled(..)) {}
        self.child.end();
    }

    /// Lets it go on to its end. Returns what it says then; it keeps what it has as long as the child is kept.
    pub fn go_on(mut self) -> (String, Child) {
        ptrace::detach(self.thread, None).unwrap();
        (self.child.hear(), self.child)
    }

    fn next_stop(&self) -> WaitStatus {
        waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap()
    }
}

/// The system call that a thread is in, by its directory in `/proc`; -1 if in none.
pub fn system_call_of(thread: &str) -> i64 {
    let text = fs::read_to_string(format!("{thread}/syscall")).unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(-1)
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_one_that_is_stopped() {
    let Some(mut line) = line() else { return };
    line.say(nix::unistd::gettid());
    let mut hear = || line.hear().unwrap();
    let (place, what) = (told(&hear()), hear());
    line.say("ready");
    line.hear();
    let mark = std::os::unix::process::parent_id;
    mark();
    let (answer, held) = act(&what, &place);
    mark();
    line.say(answer);
    line.hear();
    drop(held);
}
