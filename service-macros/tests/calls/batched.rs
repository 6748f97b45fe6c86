//! Handlers that take many calls at once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use rkyv::Archived;
use service_core::{Code, Context, Outcome, Status};
use service_macros::service;

use crate::serve;
use crate::support::{Board, block_on};

const MOST: usize = 4;

#[service(crate = service_core::__private)]
trait Model {
    #[batch(max = 4, delay = "10m")]
    fn lengths(&self, calls: &[Context<'_>], texts: &[&str], scales: Vec<u64>) -> Vec<Result<u64, Status>>;
    /// Its queue waits for nothing but its age while another batch is under way.
    #[batch(max = 1000, delay = "20ms")]
    fn aged(&self, calls: &[Context<'_>], texts: &[&str]) -> Vec<Result<u64, Status>>;
    #[batch(max = 1000, delay = "10m", bytes = 3_000)]
    fn heavy(&self, calls: &[Context<'_>], bytes: &[&[u8]]) -> Vec<Result<u64, Status>>;
    #[batch(max = 8, delay = "1ms")]
    async fn tasks(&self, calls: &[Context<'_>], values: &[&Archived<Vec<u16>>]) -> Vec<Result<u64, Status>>;
    #[batch(max = 8, delay = "1ms")]
    fn miscounts(&self, calls: &[Context<'_>]) -> Vec<Result<(), Status>>;
}

/// Holds the batches that begin with `hold` until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    held: AtomicUsize,
    changed: Condvar,
}

impl Gate {
    fn hold(&self) {
        let is_open = self.is_open.lock().unwrap();
        self.held.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_all();
        let (_guard, waited) =
            self.changed.wait_timeout_while(is_open, Duration::from_secs(20), |is_open| !*is_open).unwrap();
        assert!(!waited.timed_out(), "the gate was never opened");
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait_until_held(&self) {
        let is_open = self.is_open.lock().unwrap();
        let nobody = |_: &mut bool| self.held.load(Ordering::Relaxed) == 0;
        let (_guard, waited) = self.changed.wait_timeout_while(is_open, Duration::from_secs(20), nobody).unwrap();
        assert!(!waited.timed_out(), "nothing is held");
    }
}

#[derive(Default)]
struct Machine {
    gate: Arc<Gate>,
    /// How many calls each batch had.
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Machine {
    fn run(&self, texts: &[&str]) -> Vec<Result<u64, Status>> {
        self.batches.lock().unwrap().push(texts.len());
        if texts.contains(&"panic") {
            panic!("on purpose");
        }
        if texts.contains(&"hold") {
            self.gate.hold();
        }
        let length = |text: &&str| match *text {
            "" => Err(Status::out_of_range("empty")),
            text => Ok(text.len() as u64),
        };
        texts.iter().map(length).collect()
    }
}

impl Model for Machine {
    fn lengths(&self, calls: &[Context<'_>], texts: &[&str], scales: Vec<u64>) -> Vec<Result<u64, Status>> {
        assert_eq!((calls.len(), scales.len()), (texts.len(), texts.len()));
        self.run(texts).into_iter().zip(scales).map(|(length, scale)| Ok(length? * scale)).collect()
    }

    fn aged(&self, _: &[Context<'_>], texts: &[&str]) -> Vec<Result<u64, Status>> {
        self.run(texts)
    }

    fn heavy(&self, _: &[Context<'_>], bytes: &[&[u8]]) -> Vec<Result<u64, Status>> {
        let texts: Vec<_> = bytes.iter().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect();
        self.run(&texts)
    }

    async fn tasks(&self, _: &[Context<'_>], values: &[&Archived<Vec<u16>>]) -> Vec<Result<u64, Status>> {
        values.iter().map(|values| Ok(values.iter().map(|value| u64::from(value.to_native())).sum())).collect()
    }

    fn miscounts(&self, _: &[Context<'_>]) -> Vec<Result<(), Status>> {
        Vec::new()
    }
}

struct Served {
    client: ModelClient,
    gate: Arc<Gate>,
    batches: Arc<Mutex<Vec<usize>>>,
    board: Arc<Board>,
}

fn model() -> Served {
    let machine = Machine::default();
    let (gate, batches) = (Arc::clone(&machine.gate), Arc::clone(&machine.batches));
    let (boarded, board) = serve(ModelServer::new(machine));
    Served { client: ModelClient::connect(&boarded, "service").unwrap(), gate, batches, board }
}

impl Served {
    /// Waits until so many calls have joined a queue.
    fn wait_until_joined(&self, calls: usize) {
        while self.board.transport("service").polled.load(Ordering::Acquire) < calls {
            std::thread::yield_now();
        }
    }

    fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap().clone()
    }
}

#[test]
fn a_lone_call_is_run_at_once() {
    let served = model();
    // The queue's delay is ten minutes.
    assert_eq!(served.client.lengths("abc", 2).unwrap(), 6);
    assert_eq!(served.client.lengths("abcd", 1).unwrap(), 4);
    assert_eq!(served.batches(), [1, 1]);
}

#[test]
fn calls_that_come_while_others_run_are_run_together_and_fail_each_by_itself() {
    let served = model();
    let client = &served.client;
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client.lengths("hold", 1));
        served.gate.wait_until_held();
        let mut batch = client.batch();
        let (two, none, six) = (batch.lengths("ab", 1), batch.lengths("", 1), batch.lengths("abc", 2));
        let mut sent = batch.send_batch();
        served.wait_until_joined(3);
        served.gate.open();
        assert_eq!(sent.take(two).unwrap(), 2);
        assert_eq!(sent.take(none).unwrap_err().code(), Code::OutOfRange);
        assert_eq!(sent.take(six).unwrap(), 6);
        assert_eq!(held.join().unwrap().unwrap(), 4);
    });
    assert_eq!(served.batches(), [1, 3]);
}

#[test]
fn a_full_queue_does_not_wait_for_the_batch_under_way() {
    let served = model();
    let client = &served.client;
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client.lengths("hold", 1));
        served.gate.wait_until_held();
        let mut batch = client.batch();
        let calls: Vec<_> = (0..MOST).map(|_| batch.lengths("abc", 1)).collect();
        let mut sent = batch.send_batch();
        for call in calls {
            assert_eq!(sent.take(call).unwrap(), 3);
        }
        assert!(!held.is_finished());
        served.gate.open();
        held.join().unwrap().unwrap();
    });
    assert_eq!(served.batches(), [1, MOST]);
}

#[test]
fn a_queue_of_many_bytes_does_not_wait_either() {
    let served = model();
    let client = &served.client;
    let text = "x".repeat(1_600);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client.heavy(b"hold"));
        served.gate.wait_until_held();
        let mut batch = client.batch();
        let calls = [batch.heavy(text.as_bytes()), batch.heavy(text.as_bytes())];
        let mut sent = batch.send_batch();
        for call in calls {
            assert_eq!(sent.take(call).unwrap(), 1_600);
        }
        assert!(!held.is_finished());
        served.gate.open();
        held.join().unwrap().unwrap();
    });
    assert_eq!(served.batches(), [1, 2]);
}

#[test]
fn an_old_queue_does_not_wait_for_the_batch_under_way() {
    let served = model();
    let client = &served.client;
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client.aged("hold"));
        served.gate.wait_until_held();
        assert_eq!(client.aged("abc").unwrap(), 3);
        assert!(!held.is_finished());
        served.gate.open();
        held.join().unwrap().unwrap();
    });
}

#[test]
fn a_panic_fails_its_batch_and_no_other() {
    let served = model();
    let client = &served.client;
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client.lengths("hold", 1));
        served.gate.wait_until_held();
        let mut batch = client.batch();
        let calls = [batch.lengths("panic", 1), batch.lengths("abc", 1)];
        let mut sent = batch.send_batch();
        served.wait_until_joined(2);
        served.gate.open();
        for call in calls {
            assert_eq!(sent.take(call).unwrap_err().code(), Code::Internal);
        }
        assert_eq!(held.join().unwrap().unwrap(), 4);
    });
    assert_eq!(client.lengths("abc", 1).unwrap(), 3);
}

#[test]
fn a_call_that_was_given_up_while_it_waited_is_not_run() {
    let served = model();
    let client = &served.client;
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client.lengths("hold", 1));
        served.gate.wait_until_held();
        block_on(async {
            let mut call = pin!(client.lengths_async("panic", 1));
            poll_fn(|cx| {
                assert!(call.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        });
        let late = client.clone().with_timeout(Duration::from_millis(1)).lengths("panic", 1).unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        let wanted = scope.spawn(|| client.lengths("abc", 1));
        served.wait_until_joined(3);
        served.gate.open();
        assert_eq!(wanted.join().unwrap().unwrap(), 3);
        held.join().unwrap().unwrap();
    });
}

#[test]
fn a_batch_of_a_task_reads_its_arguments_in_place() {
    let client = model().client;
    assert_eq!(client.tasks(&vec![1, 2, 3]).unwrap(), 6);
}

#[test]
fn a_batch_that_answers_another_number_of_calls_is_broken() {
    let status = model().client.miscounts().unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Internal, Outcome::Ran));
    assert!(status.message().contains("1 calls and 0 answers"), "{status}");
}
