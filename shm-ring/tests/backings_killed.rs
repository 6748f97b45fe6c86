//! A process that is killed while it makes, opens, replaces or removes a segment, at each of its system calls.
//!
//! The parent traces the child, stops it at each entry into the kernel and each way back, and kills it there: before
//! the first stop in one round, at the second in the next, until a round comes to its end. What stands under the name
//! afterwards must be a complete segment or nothing, and everybody else must get on without a hand.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{Signal, kill_process};
use shm_ring::ready::ReadyLayout;
use shm_ring::{Error, Origin, Place, SegmentOptions};
use support::backings::{fresh_name, fresh_path};
use support::role::{Child, line};

const OPTIONS: SegmentOptions = SegmentOptions::new();
/// The epoch of what stands there before the child does anything, and of what the child makes.
const BEFORE: u64 = 1;
const CHILDS: u64 = 2;

fn layout() -> ReadyLayout {
    ReadyLayout::new(70)
}

/// On the way into a system call, or back from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    In,
    Back,
}

type Stop = (Way, i64);

/// What a child is to do; the answer is of no interest, it never gets that far but in the last round.
fn act(what: &str, place: &Place) {
    match what {
        "make" => drop(place.open_or_create(layout(), CHILDS, &OPTIONS)),
        "replace" => drop(place.create(layout(), CHILDS, &OPTIONS)),
        "open" => drop(place.open::<ReadyLayout>(&OPTIONS)),
        _ => drop(place.remove()),
    }
}

/// Whether a process may trace its children here; says so if not.
fn may_trace() -> bool {
    let mut child = Child::start("role_of_one_that_will_be_killed");
    let thread = Pid::from_raw(child.hear().parse().unwrap());
    let may = ptrace::seize(thread, ptrace::Options::empty()) != Err(nix::errno::Errno::EPERM);
    if may {
        end(child, thread);
    } else {
        eprintln!("SKIP: child processes may not be traced here: kills at system calls were NOT tested");
    }
    may
}

/// Runs a child up to the stop of this number and kills it there. Returns that stop, and `None` if the child came to
/// its end before.
fn killed_at(number: usize, what: &str, place: &Place) -> Option<Stop> {
    let mut child = Child::start("role_of_one_that_will_be_killed");
    let thread = Pid::from_raw(child.hear().parse().unwrap());
    let is_named = place.path().starts_with("/dev/shm");
    child.say(is_named);
    child.say(place.path().display());
    child.say(what);
    assert_eq!(child.hear(), "ready");

    ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD).expect("a child can be traced");
    ptrace::interrupt(thread).unwrap();
    // It waits for the line `go` in the kernel, and is sent back there.
    assert!(matches!(next_stop(thread), WaitStatus::PtraceEvent(..)));
    ptrace::syscall(thread, None).unwrap();
    child.say("go");
    let mut stops = 0;
    let mut has_begun = false;
    let killed = loop {
        let WaitStatus::PtraceSyscall(_) = next_stop(thread) else {
            ptrace::syscall(thread, None).unwrap();
            continue;
        };
        let info = ptrace::syscall_info(thread).unwrap();
        let way = if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY { Way::In } else { Way::Back };
        let call = system_call_of(thread);
        // The child marks the beginning and the end of what it does by a call that it makes for nothing else.
        let is_mark = call == libc::SYS_getppid;
        if is_mark && way == Way::Back {
            if has_begun {
                break None;
            }
            has_begun = true;
        } else if has_begun && !is_mark {
            if stops == number {
                break Some((way, call));
            }
            stops += 1;
        }
        ptrace::syscall(thread, None).unwrap();
    };
    end(child, thread);
    killed
}

/// Kills a child of which a thread is traced.
fn end(child: Child, thread: Pid) {
    kill_process(rustix::process::Pid::from_raw(child.pid() as i32).unwrap(), Signal::KILL).unwrap();
    // A process is not gone before whoever traces a thread of it has seen the end of that.
    while !matches!(next_stop(thread), WaitStatus::Signaled(..)) {}
    child.end();
}

fn next_stop(thread: Pid) -> WaitStatus {
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap()
}

fn system_call_of(thread: Pid) -> i64 {
    let text = fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap_or(-1)
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_one_that_will_be_killed() {
    let Some(mut line) = line() else { return };
    line.say(nix::unistd::gettid());
    let mut hear = || line.hear().unwrap();
    let (is_named, path, what) = (hear() == "true", PathBuf::from(hear()), hear());
    let name = path.file_name().unwrap().to_str().unwrap();
    let place = if is_named { Place::named(name) } else { Place::file(&path) }.unwrap();
    line.say("ready");
    line.hear();
    let mark = std::os::unix::process::parent_id;
    mark();
    act(&what, &place);
    mark();
    line.hear();
}

/// Everything in the directory that has to do with the place.
fn files(place: &Place) -> Vec<String> {
    let path = place.path();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let all = fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    all.map(|entry| entry.file_name().into_string().unwrap()).filter(|file| file.contains(&name)).collect()
}

/// Kills a child at each stop of what it does, over both kinds of place. `check` looks at what is left, before anybody
/// else has done anything about it, and `moments` are stops that must have been among them.
fn at_each_stop(what: &str, is_there_before: bool, check: impl Fn(&Place, Option<u64>), moments: &[Stop]) {
    if !may_trace() {
        return;
    }
    let mut seen = BTreeSet::new();
    for is_named in [true, false] {
        for number in 0.. {
            let place = if is_named { Place::named(&fresh_name()) } else { Place::file(fresh_path()) }.unwrap();
            if is_there_before {
                drop(place.create(layout(), BEFORE, &OPTIONS).unwrap());
            }
            let killed = killed_at(number, what, &place);
            let left = match place.open::<ReadyLayout>(&OPTIONS) {
                Ok(segment) => Some(segment.epoch()),
                Err(Error::NoSegment { .. }) => None,
                Err(error) => panic!("{what}, killed at {killed:?} (stop {number}) at {place}: {error}"),
            };
            check(&place, left);

            // The survivors get on: one opens or makes it, one starts anew, one cleans up.
            let (segment, origin) = place.open_or_create(layout(), 3, &OPTIONS).unwrap();
            let expected = if left.is_some() { Origin::Opened } else { Origin::Created };
            assert_eq!((origin, segment.epoch()), (expected, left.unwrap_or(3)));
            drop(segment);
            assert_eq!(place.create(layout(), 4, &OPTIONS).unwrap().epoch(), 4, "nobody alive has it open");
            assert_eq!(files(&place).len(), 1, "after {killed:?}: {:?}", files(&place));
            assert!(place.remove().unwrap());
            assert_eq!(files(&place), [] as [String; 0]);

            let Some(stop) = killed else {
                println!("{what} at {place}: killed at each of {number} stops");
                break;
            };
            seen.insert(stop);
        }
    }
    for moment in moments {
        assert!(seen.contains(moment), "{what} was not killed at {moment:?}, but at {seen:?}");
    }
}

#[test]
fn a_maker_killed_anywhere_leaves_a_complete_segment_or_none() {
    let check = |_: &Place, left| assert!(matches!(left, None | Some(CHILDS)), "{left:?}");
    let moments = [
        (Way::Back, libc::SYS_openat),
        // Created, and of no size.
        (Way::In, libc::SYS_ftruncate),
        // A size, and no memory.
        (Way::Back, libc::SYS_ftruncate),
        (Way::Back, libc::SYS_mmap),
        (Way::Back, libc::SYS_fchmod),
        // Memory, and no header.
        (Way::Back, libc::SYS_fallocate),
        (Way::Back, libc::SYS_madvise),
        // Complete, and without the name.
        (Way::In, libc::SYS_renameat2),
        (Way::Back, libc::SYS_renameat2),
    ];
    at_each_stop("make", false, check, &moments);
}

#[test]
fn a_replacer_killed_anywhere_leaves_the_former_segment_or_its_own() {
    let check = |_: &Place, left| assert!(matches!(left, Some(BEFORE | CHILDS)), "{left:?}");
    let moments = [(Way::Back, libc::SYS_fcntl), (Way::In, libc::SYS_renameat2), (Way::Back, libc::SYS_renameat2)];
    at_each_stop("replace", true, check, &moments);
}

#[test]
fn an_opener_killed_anywhere_leaves_the_segment_and_no_lock() {
    let check = |place: &Place, left| {
        assert_eq!(left, Some(BEFORE));
        assert_eq!(files(place).len(), 1);
    };
    at_each_stop("open", true, check, &[(Way::Back, libc::SYS_fcntl), (Way::Back, libc::SYS_mmap)]);
}

#[test]
fn a_remover_killed_anywhere_leaves_the_segment_or_nothing() {
    let check = |_: &Place, left| assert!(matches!(left, None | Some(BEFORE)), "{left:?}");
    at_each_stop("remove", true, check, &[(Way::In, libc::SYS_unlinkat), (Way::Back, libc::SYS_unlinkat)]);
}
