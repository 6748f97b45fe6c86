//! What `#[service]` writes, over the transports that carry it: in this process, and through socket and shared memory.

use std::pin::pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as Wakers, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use switchboard::prelude::*;
use switchboard::testing::TestBoard;
use switchboard::{RunningService, rkyv};

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct TooLong {
    bytes: u64,
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes are too many", self.bytes)
    }
}

impl ServiceError for TooLong {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

#[service(version = "1.0")]
trait Words {
    fn shout(&self, ctx: &Context<'_>, text: &str) -> Result<String, TooLong>;
    async fn shout_later(&self, ctx: &Context<'_>, text: &str) -> Result<String, TooLong>;
    async fn until_given_up(&self, ctx: &Context<'_>) -> Result<(), Status>;
    #[batch(max = 64, delay = "10m")]
    fn lengths(&self, calls: &[Context<'_>], texts: &[&str]) -> Vec<Result<u64, Status>>;
    fn letters(&self, ctx: &Context<'_>, text: String, out: Outgoing<char>) -> Result<u64, Status>;
    async fn joined(&self, ctx: &Context<'_>, between: &str, words: Incoming<String>) -> Result<String, Status>;
    async fn reversed(&self, ctx: &Context<'_>, words: Incoming<String>, out: Outgoing<String>) -> Result<u64, Status>;
    fn carried(&self, ctx: &Context<'_>) -> Result<Vec<(String, String)>, Status>;
}

struct Speaker {
    given_up: SyncSender<()>,
    /// How many calls each batch had, and what the first batch waits for.
    batches: Arc<Mutex<Vec<usize>>>,
    gate: Mutex<Receiver<()>>,
}

fn shouted(text: &str) -> Result<String, TooLong> {
    match text.len() {
        0..1000 => Ok(text.to_uppercase()),
        bytes => Err(TooLong { bytes: bytes as u64 }),
    }
}

impl Words for Speaker {
    fn shout(&self, _: &Context<'_>, text: &str) -> Result<String, TooLong> {
        shouted(text)
    }

    async fn shout_later(&self, _: &Context<'_>, text: &str) -> Result<String, TooLong> {
        shouted(text)
    }

    async fn until_given_up(&self, ctx: &Context<'_>) -> Result<(), Status> {
        ctx.cancelled().await;
        self.given_up.send(()).map_err(|_| Status::internal("the test has gone"))
    }

    fn lengths(&self, calls: &[Context<'_>], texts: &[&str]) -> Vec<Result<u64, Status>> {
        assert_eq!(calls.len(), texts.len());
        self.batches.lock().unwrap().push(texts.len());
        assert!(!texts.contains(&"panic"), "on purpose");
        if texts.contains(&"hold") {
            self.gate.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
        }
        texts
            .iter()
            .map(|text| if text.is_empty() { Err(Status::out_of_range("empty")) } else { Ok(text.len() as u64) })
            .collect()
    }

    fn letters(&self, _: &Context<'_>, text: String, mut out: Outgoing<char>) -> Result<u64, Status> {
        text.chars().try_for_each(|letter| out.send(&letter))?;
        Ok(text.chars().count() as u64)
    }

    async fn joined(&self, _: &Context<'_>, between: &str, mut words: Incoming<String>) -> Result<String, Status> {
        let mut joined = Vec::new();
        while let Some(word) = words.recv_async().await {
            joined.push(word?);
        }
        Ok(joined.join(between))
    }

    async fn reversed(
        &self,
        _: &Context<'_>,
        mut words: Incoming<String>,
        mut out: Outgoing<String>,
    ) -> Result<u64, Status> {
        let mut count = 0;
        while let Some(word) = words.recv_async().await {
            out.send_async(&word?.chars().rev().collect()).await?;
            count += 1;
        }
        Ok(count)
    }

    fn carried(&self, ctx: &Context<'_>) -> Result<Vec<(String, String)>, Status> {
        Ok(ctx.metadata().map(|metadata| metadata.baggage.clone()).unwrap_or_default())
    }
}

struct Served {
    client: WordsClient,
    given_up: Receiver<()>,
    batches: Arc<Mutex<Vec<usize>>>,
    open: SyncSender<()>,
    _running: RunningService,
    _board: TestBoard,
}

/// Runs a behaviour with a service in this process, and with one that is reached as another process's is.
fn over_both(behaviour: impl Fn(&Served)) {
    for board in [TestBoard::new().unwrap(), TestBoard::through_shared_memory().unwrap()] {
        let (given_up_sender, given_up) = sync_channel(1);
        let (open, gate) = sync_channel(1);
        let batches = Arc::new(Mutex::new(Vec::new()));
        let speaker = Speaker { given_up: given_up_sender, batches: Arc::clone(&batches), gate: Mutex::new(gate) };
        let running = board.serve("test.words", WordsServer::new(speaker)).start().unwrap();
        let client = WordsClient::connect(&*board, "test.words").unwrap();
        behaviour(&Served { client, given_up, batches, open, _running: running, _board: board });
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Wakers::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn threads_and_tasks_call_plain_handlers_and_tasks() {
    over_both(|Served { client, .. }| {
        assert_eq!(client.shout("abc").unwrap(), "ABC");
        assert_eq!(client.shout_later("abc").unwrap(), "ABC");
        assert_eq!(client.shout_later_with("abc", |text| text.len()).unwrap(), 3);
        block_on(async {
            assert_eq!(client.shout_async("abc").await.unwrap(), "ABC");
            assert_eq!(client.shout_later_async("abc").await.unwrap(), "ABC");
        });
    });
}

#[test]
fn a_services_own_error_is_the_value_it_was() {
    over_both(|Served { client, .. }| {
        let long = "x".repeat(2000);
        let expected = CallError::Service(TooLong { bytes: 2000 });
        assert_eq!(client.shout(&long).unwrap_err(), expected);
        assert_eq!(client.shout_later(&long).unwrap_err(), expected);
        assert_eq!(block_on(client.shout_later_async(&long)).unwrap_err(), expected);
    });
}

#[test]
fn a_call_that_is_dropped_tells_its_handler() {
    over_both(|Served { client, given_up, .. }| {
        block_on(async {
            let mut call = pin!(client.until_given_up_async());
            std::future::poll_fn(|cx| {
                assert!(call.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        });
        given_up.recv_timeout(Duration::from_secs(20)).expect("the handler was not told");
        assert_eq!(client.shout("abc").unwrap(), "ABC");
    });
}

#[test]
fn more_calls_than_there_is_room_for_go_as_one_batch() {
    over_both(|Served { client, .. }| {
        let texts: Vec<_> = (0..500).map(|number| number.to_string()).collect();
        let mut batch = client.batch();
        let calls: Vec<_> = texts.iter().map(|text| batch.shout(text)).collect();
        let mut sent = batch.send_batch();
        for (call, text) in calls.into_iter().zip(&texts) {
            assert_eq!(sent.take(call).unwrap(), *text);
        }
    });
}

#[test]
fn calls_that_come_while_a_batch_runs_are_run_together() {
    over_both(|Served { client, batches, open, .. }| {
        thread::scope(|scope| {
            let held = scope.spawn(|| client.lengths("hold"));
            while batches.lock().unwrap().is_empty() && !held.is_finished() {
                thread::yield_now();
            }
            // Enough for a full queue, which waits for nobody.
            let mut batch = client.batch();
            let calls: Vec<_> = (0..64).map(|number| batch.lengths(if number == 7 { "" } else { "abc" })).collect();
            let mut sent = batch.send_batch();
            for (number, call) in calls.into_iter().enumerate() {
                let length = sent.take(call);
                assert_eq!(
                    length.map_err(|status| status.code()),
                    if number == 7 { Err(Code::OutOfRange) } else { Ok(3) }
                );
            }
            open.send(()).unwrap();
            assert_eq!(held.join().unwrap().unwrap(), 4);
        });
        assert_eq!(*batches.lock().unwrap(), [1, 64]);
        assert_eq!(client.lengths("ab").unwrap(), 2);
    });
}

#[test]
fn what_a_caller_sends_beside_the_arguments_arrives() {
    over_both(|Served { client, .. }| {
        let carrying = client.with(CallOptions::new().baggage("user", "ada"));
        let expected = [("user".to_owned(), "ada".to_owned())];
        assert_eq!(carrying.carried().unwrap(), expected);
        assert_eq!(block_on(carrying.carried_async()).unwrap(), expected);
        assert!(client.carried().unwrap().is_empty());
    });
}

#[test]
fn a_mock_is_served_as_any_implementation_is() {
    let board = TestBoard::new().unwrap();
    let mock = WordsMock::new().on_shout(|_, text| Ok(format!("{text}!")));
    let _running = board.serve("test.words", WordsServer::new(mock)).start().unwrap();
    let client = WordsClient::connect(&*board, "test.words").unwrap();
    assert_eq!(client.shout("abc").unwrap(), "abc!");
    assert_eq!(client.carried().unwrap_err().code(), Code::Unimplemented);
}

#[test]
fn items_go_to_the_client_from_it_and_both_ways() {
    over_both(|Served { client, .. }| {
        let mut letters = client.letters("abc".into()).unwrap();
        let received: Result<String, _> = (&mut letters).into_iter().collect();
        assert_eq!((received.unwrap().as_str(), letters.finish().unwrap()), ("abc", 3));

        let mut words = client.joined("-").unwrap();
        ["a", "b", "c"].iter().try_for_each(|word| words.send(&(*word).to_owned())).unwrap();
        assert_eq!(words.finish().unwrap(), "a-b-c");

        block_on(async {
            let mut words = client.reversed().unwrap();
            for word in ["ab", "cd"] {
                words.send_async(&word.to_owned()).await.unwrap();
                let back = words.recv_async().await.unwrap().unwrap();
                assert_eq!(back, word.chars().rev().collect::<String>());
            }
            assert_eq!(words.finish_async().await.unwrap(), 2);
        });
    });
}

#[test]
fn a_panic_fails_its_batch_and_no_other() {
    over_both(|Served { client, batches, open, .. }| {
        thread::scope(|scope| {
            let held = scope.spawn(|| client.lengths("hold"));
            while batches.lock().unwrap().is_empty() && !held.is_finished() {
                thread::yield_now();
            }
            let mut batch = client.batch();
            let calls: Vec<_> =
                (0..64).map(|number| batch.lengths(if number == 7 { "panic" } else { "abc" })).collect();
            let mut sent = batch.send_batch();
            for call in calls {
                assert_eq!(sent.take(call).unwrap_err().code(), Code::Internal);
            }
            open.send(()).unwrap();
            assert_eq!(held.join().unwrap().unwrap(), 4);
        });
        assert_eq!(client.lengths("ab").unwrap(), 2);
    });
}
