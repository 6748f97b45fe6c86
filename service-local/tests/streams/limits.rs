//! How many streams there may be, and what one does to the others.

use std::time::Duration;

use service_core::{Code, Outcome};

use crate::tape::{COUNT, Client, DEAF, Host, SUM, Tape, Way};

const MOST: usize = 64;

#[test]
fn one_more_than_the_limit_is_refused_and_the_others_go_on() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    let client = Client::of(&host.runtime(Way::Checked));
    let mut open: Vec<_> = (0..MOST).map(|_| client.sends(DEAF, None).unwrap()).collect();
    let refused = client.sends(DEAF, None).unwrap_err();
    assert_eq!((refused.code(), refused.outcome()), (Code::ResourceExhausted, Outcome::NotRun), "{refused}");
    open.iter_mut().for_each(|stream| stream.send(&1).unwrap());
    assert_eq!(client.plain(5).unwrap(), 5);
    drop(open);
    let mut sum = client.sends(SUM, None).unwrap();
    sum.send(&4).unwrap();
    assert_eq!(sum.finish().unwrap(), 4);
}

#[test]
fn a_stream_that_stands_still_delays_no_other_and_no_call() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    let client = Client::of(&host.runtime(Way::Checked));
    let mut stuck: Vec<_> = (0..4).map(|_| client.sends(DEAF, Some(Duration::from_millis(500))).unwrap()).collect();
    std::thread::scope(|scope| {
        let waits: Vec<_> = stuck
            .iter_mut()
            .map(|stuck| scope.spawn(|| (0..).find_map(|item| stuck.send(&item).err()).unwrap()))
            .collect();
        for number in 0..20 {
            assert_eq!(client.plain(number).unwrap(), number);
            assert_eq!(client.receives(COUNT, 1000, None).unwrap().finish().unwrap(), 1000);
        }
        for wait in waits {
            assert_eq!(wait.join().unwrap().code(), Code::DeadlineExceeded);
        }
    });
}
