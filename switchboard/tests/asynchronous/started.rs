//! Calls that are sent off together and waited for later.

use std::sync::Arc;

use service_core::{ByRef, CallRequest, Message, MethodIndex, Reply, Transport};
use switchboard::prelude::*;
use switchboard::{Address, Connector};

use crate::desk::{poll_once, serve, until};

const ADD: MethodIndex = MethodIndex(0);
const HOLD: MethodIndex = MethodIndex(2);

fn transport(board: &Switchboard) -> Arc<dyn Transport> {
    board.registry().connect(&Address::parse("test.desk").unwrap(), None).unwrap()
}

#[test]
fn calls_that_are_sent_off_together_are_waited_for_in_any_order() {
    let served = serve(1, 64);
    let transport = transport(&served.board);
    for round in 0..200 {
        let arguments: Vec<(u64, u64)> = (0..50).map(|i| (round, i)).collect();
        let messages: Vec<_> = arguments.iter().map(|(a, b)| (ByRef(a), ByRef(b))).collect();
        let messages: Vec<_> = messages.iter().map(Message).collect();
        let calls: Vec<_> = messages.iter().map(|message| CallRequest::new(ADD, None, message)).collect();
        let mut tickets = Vec::new();
        transport.start_all(&calls, &mut tickets).unwrap();
        assert_eq!(tickets.len(), 50);
        let tickets = tickets.into_iter().zip(&arguments);
        let mut wait = |(ticket, (a, b)): (_, &(u64, u64))| {
            let mut reply = Reply::<u64>::new();
            transport.wait(ticket, &mut reply).unwrap();
            assert_eq!(reply.into_value(), Ok(a + b));
        };
        if round % 2 == 0 { tickets.for_each(&mut wait) } else { tickets.rev().for_each(&mut wait) }
    }
}

#[test]
fn as_many_are_sent_off_as_there_is_room_for_and_the_first_one_waits() {
    let served = serve(1, 4);
    let transport = transport(&served.board);
    let message = Message(&());
    let calls = [CallRequest::new(HOLD, None, &message); 10];
    let mut tickets = Vec::new();
    transport.start_all(&calls, &mut tickets).unwrap();
    assert_eq!(tickets.len(), 4);
    let short = CallRequest::new(HOLD, Some(std::time::Duration::from_millis(20)), &message);
    let status = transport.start_all(&[short], &mut tickets).unwrap_err();
    assert_eq!((status.code(), status.outcome(), tickets.len()), (Code::DeadlineExceeded, Outcome::NotRun, 4));
    served.desk.open();
    let wait = |ticket| {
        let mut reply = Reply::<u64>::new();
        transport.wait(ticket, &mut reply).unwrap();
        assert_eq!(reply.into_value(), Ok(1));
    };
    tickets.drain(..).for_each(wait);
    transport.start_all(&calls[..1], &mut tickets).unwrap();
    tickets.drain(..).for_each(wait);
}

#[test]
fn a_call_that_is_over_is_not_over_twice() {
    let served = serve(1, 4);
    let transport = transport(&served.board);
    let message = Message(&());
    let mut tickets = Vec::new();
    transport.start_all(&[CallRequest::new(HOLD, None, &message); 2], &mut tickets).unwrap();
    until("one is with its handler", || served.desk.held() == 1);
    let [first, second] = tickets[..] else { panic!("two calls") };
    transport.cancel(first);
    transport.cancel(first);
    served.desk.open();
    transport.wait(second, &mut Reply::<u64>::new()).unwrap();
    // The slot has another life by now.
    served.desk.close();
    let mut next = Box::pin(served.caller.hold(None));
    assert!(poll_once(&mut next).is_pending());
    for over in [first, second] {
        transport.cancel(over);
        let status = transport.wait(over, &mut Reply::<u64>::new()).unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
    }
    served.desk.open();
    assert_eq!(crate::desk::block_on(next), Ok(1));
}
