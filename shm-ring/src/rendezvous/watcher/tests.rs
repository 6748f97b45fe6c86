//! What a watch is told, in which order, and when it is told nothing more.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use rustix::event::EventfdFlags;

use super::*;
use crate::clock::kernel_ns;

const LONG: Duration = Duration::from_secs(30);

/// Notes the news and answers as it is told to. The notes end when the watcher has let go of it.
struct Notes<F>(mpsc::Sender<Event>, F);

impl<F: Fn(Event) -> Next + Send + Sync> Watched for Notes<F> {
    fn on_event(&self, event: Event) -> Next {
        self.0.send(event).unwrap();
        (self.1)(event)
    }
}

fn noted(
    fd: OwnedFd,
    readable: bool,
    deadline_ns: Option<u64>,
    answer: impl Fn(Event) -> Next + Send + Sync + 'static,
) -> (Watch, Receiver<Event>) {
    let (tells, told) = mpsc::channel();
    (watch(Arc::new(fd), readable, deadline_ns, Arc::new(Notes(tells, answer))).unwrap(), told)
}

/// All that is told until the watch has ended.
fn all(told: &Receiver<Event>) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match told.recv_timeout(LONG) {
            Ok(event) => events.push(event),
            Err(RecvTimeoutError::Disconnected) => return events,
            Err(RecvTimeoutError::Timeout) => panic!("the watch has not ended after {events:?}"),
        }
    }
}

fn event_fd() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn write(fd: impl AsFd) {
    rustix::io::write(fd, &1_u64.to_ne_bytes()).unwrap();
}

#[test]
fn what_was_sent_before_the_end_is_told_before_the_end_and_that_is_told_once() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    write(&theirs);
    drop(theirs);
    let (_watch, told) = noted(ours.into(), true, None, |_| Next::Keep);
    assert_eq!(all(&told), [Event::Readable, Event::Ended]);
}

#[test]
fn who_watches_for_the_end_alone_is_told_of_nothing_else() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    write(&theirs);
    let (_watch, told) = noted(ours.into(), false, None, |_| Next::Keep);
    drop(theirs);
    assert_eq!(all(&told), [Event::Ended]);
    // A pipe has no half that could be shut, so its end is told in another way.
    let (reader, writer) = std::io::pipe().unwrap();
    let (_watch, told) = noted(reader.into(), false, None, |_| Next::Keep);
    drop(writer);
    assert_eq!(all(&told), [Event::Ended]);
}

#[test]
fn what_can_be_read_is_no_end_and_a_watch_that_is_kept_goes_on() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    rustix::io::write(&theirs, b"ab").unwrap();
    let (watch, told) = noted(ours.try_clone().unwrap().into(), true, None, move |_| {
        rustix::io::read(&ours, &mut [0]).unwrap();
        Next::Keep
    });
    for _ in b"ab" {
        assert_eq!(told.recv_timeout(LONG), Ok(Event::Readable));
    }
    drop(watch);
    assert_eq!(all(&told), []);
}

#[test]
fn a_deadline_is_told_once_and_not_before_its_time() {
    let at = kernel_ns() + 20_000_000;
    let (watch, told) = noted(event_fd(), true, Some(at), |_| Next::Keep);
    assert_eq!(told.recv_timeout(LONG), Ok(Event::Expired));
    assert!(kernel_ns() >= at);
    drop(watch);
    assert_eq!(all(&told), []);
}

#[test]
fn a_deadline_can_be_brought_forward_from_outside_and_chosen_by_the_handler() {
    let hour = 3_600_000_000_000;
    let (watch, told) = noted(event_fd(), true, Some(kernel_ns() + hour), |_| Next::Stop);
    watch.expire_at(kernel_ns() + 1_000_000);
    assert_eq!(all(&told), [Event::Expired]);
    let (_watch, told) = noted(event_fd(), true, Some(kernel_ns() + 1_000_000), {
        let first = std::sync::atomic::AtomicBool::new(true);
        move |_| match first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            true => Next::KeepUntil(kernel_ns() + 1_000_000),
            false => Next::Stop,
        }
    });
    assert_eq!(all(&told), [Event::Expired, Event::Expired]);
}

#[test]
fn a_handler_that_panics_is_told_nothing_more_and_others_are() {
    let (_panics, told) = noted(event_fd(), true, Some(kernel_ns()), |_| panic!("in the middle of the news"));
    let (_other, other_told) = noted(event_fd(), true, Some(kernel_ns() + 1_000_000), |_| Next::Stop);
    assert_eq!(all(&told), [Event::Expired]);
    assert_eq!(all(&other_told), [Event::Expired]);
}

/// Looks away for a moment when there is news, then says what it finds.
struct LooksAway(mpsc::Sender<Event>, Mutex<u32>);

impl Watched for LooksAway {
    fn on_event(&self, event: Event) -> Next {
        let mut told = self.1.lock().unwrap();
        *told += 1;
        self.0.send(event).unwrap();
        match *told {
            1 => Next::ExpireAt(kernel_ns() + 1_000_000),
            2 => Next::Keep,
            _ => Next::Stop,
        }
    }
}

#[test]
fn who_looked_away_and_keeps_the_watch_is_told_of_what_is_there_still() {
    let fd = Arc::new(event_fd());
    let (tells, told) = mpsc::channel();
    let _watch = watch(Arc::clone(&fd), true, None, Arc::new(LooksAway(tells, Mutex::new(0)))).unwrap();
    write(&*fd);
    for event in [Event::Readable, Event::Expired, Event::Readable] {
        assert_eq!(told.recv_timeout(LONG), Ok(event));
    }
}

/// Hands its descriptor to another watch when there is news.
struct HandsOn {
    fd: Arc<OwnedFd>,
    then: Mutex<Option<(Watch, Arc<dyn Watched>)>>,
    again: Mutex<Option<Watch>>,
}

impl Watched for HandsOn {
    fn on_event(&self, event: Event) -> Next {
        if event != Event::Expired {
            return Next::ExpireAt(kernel_ns() + 1_000_000);
        }
        let (first, told) = self.then.lock().unwrap().take().unwrap();
        *self.again.lock().unwrap() = Some(watch(Arc::clone(&self.fd), true, None, told).unwrap());
        // The first watch ends while the second one is over the descriptor already.
        drop(first);
        Next::Stop
    }
}

struct Tells(mpsc::Sender<Event>);

impl Watched for Tells {
    fn on_event(&self, event: Event) -> Next {
        self.0.send(event).unwrap();
        Next::Stop
    }
}

#[test]
fn the_end_of_a_watch_that_looked_away_does_not_end_another_over_the_same_descriptor() {
    let fd = Arc::new(event_fd());
    let hands = Arc::new(HandsOn { fd: Arc::clone(&fd), then: Mutex::default(), again: Mutex::default() });
    let (tells, told) = mpsc::channel();
    let first = watch(Arc::clone(&fd), true, None, Arc::clone(&hands) as Arc<dyn Watched>).unwrap();
    *hands.then.lock().unwrap() = Some((first, Arc::new(Tells(tells))));
    write(&*fd);
    assert_eq!(told.recv_timeout(LONG), Ok(Event::Readable));
}

/// Is told when it may end.
struct TakesItsTime(mpsc::Sender<Event>, Mutex<mpsc::Receiver<()>>);

impl Watched for TakesItsTime {
    fn on_event(&self, event: Event) -> Next {
        self.0.send(event).unwrap();
        // An error is the end of the test.
        let _ = self.1.lock().unwrap().recv();
        Next::Stop
    }
}

#[test]
fn who_takes_its_time_keeps_nobody_waiting_whose_news_is_told_at_once() {
    let readable = || Arc::new(eventfd(1, EventfdFlags::CLOEXEC).unwrap());
    let (slow, quick) = (readable(), readable());
    let (tells_slow, told_slow) = mpsc::channel();
    let (tells, told) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let takes = Arc::new(TakesItsTime(tells_slow, Mutex::new(ended)));
    let _slow = watch_at_leisure(slow, true, None, takes).unwrap();
    assert_eq!(told_slow.recv_timeout(Duration::from_secs(30)), Ok(Event::Readable));
    let _quick = watch(quick, true, None, Arc::new(Tells(tells))).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(Event::Readable));
    end.send(()).unwrap();
}

/// Wants to be told within a minute, each time.
struct WithinAMinute(mpsc::Sender<Event>);

impl Watched for WithinAMinute {
    fn on_event(&self, event: Event) -> Next {
        self.0.send(event).unwrap();
        Next::KeepWithin(crate::clock::kernel_ns() + 60_000_000_000)
    }
}

#[test]
fn the_earliest_of_the_times_that_were_asked_for_is_told_and_no_later_one_replaces_it() {
    let fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap());
    let (tells, told) = mpsc::channel();
    let watch = watch(Arc::clone(&fd), false, None, Arc::new(WithinAMinute(tells))).unwrap();
    for _ in 0..3 {
        let now_ns = crate::clock::kernel_ns();
        watch.expire_within(now_ns + 60_000_000_000);
        watch.expire_within(now_ns + 1_000_000);
        watch.expire_within(now_ns + 90_000_000_000);
        assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(Event::Expired));
    }
}
