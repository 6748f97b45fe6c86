//! Streams in each direction, by threads and by tasks.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_core::Stream;
use service_core::{Code, Context, Handler, Incoming, MethodIndex, Outcome, Outgoing, Status, Style};
use service_macros::service;

use crate::serve;
use crate::support::{ROOM, block_on};

#[service(crate = service_core::__private)]
trait Numbers {
    fn count(&self, ctx: &Context<'_>, to: u64, out: Outgoing<u64>) -> Result<String, Status>;
    async fn count_later(&self, ctx: &Context<'_>, to: u64, out: Outgoing<u64>) -> Result<String, Status>;
    fn sum(&self, ctx: &Context<'_>, from: u64, items: Incoming<u64>) -> Result<u64, Status>;
    async fn sum_later(&self, ctx: &Context<'_>, from: u64, items: Incoming<u64>) -> Result<u64, Status>;
    fn doubled(&self, ctx: &Context<'_>, items: Incoming<u64>, out: Outgoing<String>) -> Result<u64, Status>;
    /// Sends one item, then fails.
    fn breaks(&self, ctx: &Context<'_>, out: Outgoing<u64>) -> Result<(), Status>;
    /// Takes one item and has enough.
    fn first(&self, ctx: &Context<'_>, items: Incoming<u64>) -> Result<u64, Status>;
    fn endless(&self, ctx: &Context<'_>, out: Outgoing<Vec<u8>>) -> Result<(), Status>;
}

struct Counter {
    sent: Arc<AtomicUsize>,
    stopped: mpsc::SyncSender<Status>,
}

impl Numbers for Counter {
    fn count(&self, _: &Context<'_>, to: u64, mut out: Outgoing<u64>) -> Result<String, Status> {
        (0..to).try_for_each(|item| out.send(&item))?;
        Ok("counted".into())
    }

    async fn count_later(&self, _: &Context<'_>, to: u64, mut out: Outgoing<u64>) -> Result<String, Status> {
        for item in 0..to {
            out.send_async(&item).await?;
        }
        Ok("counted later".into())
    }

    fn sum(&self, _: &Context<'_>, from: u64, items: Incoming<u64>) -> Result<u64, Status> {
        items.into_iter().try_fold(from, |sum, item| Ok(sum + item?))
    }

    async fn sum_later(&self, _: &Context<'_>, from: u64, mut items: Incoming<u64>) -> Result<u64, Status> {
        let mut sum = from;
        while let Some(item) = items.recv_async().await {
            sum += item?;
        }
        Ok(sum)
    }

    fn doubled(&self, _: &Context<'_>, mut items: Incoming<u64>, mut out: Outgoing<String>) -> Result<u64, Status> {
        let mut count = 0;
        for item in &mut items {
            out.send(&(item? * 2).to_string())?;
            count += 1;
        }
        out.finish()?;
        Ok(count)
    }

    fn breaks(&self, _: &Context<'_>, mut out: Outgoing<u64>) -> Result<(), Status> {
        out.send(&7)?;
        Err(Status::data_loss("the disk is gone"))
    }

    fn first(&self, _: &Context<'_>, mut items: Incoming<u64>) -> Result<u64, Status> {
        items.recv().unwrap_or(Ok(0))
    }

    fn endless(&self, ctx: &Context<'_>, mut out: Outgoing<Vec<u8>>) -> Result<(), Status> {
        loop {
            if let Err(status) = out.send(&vec![0; 1000]) {
                block_on(ctx.cancelled());
                self.stopped.send(status.clone()).unwrap();
                return Err(status);
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Served {
    client: NumbersClient,
    sent: Arc<AtomicUsize>,
    stopped: mpsc::Receiver<Status>,
    board: Arc<crate::support::Board>,
}

fn numbers() -> Served {
    let sent = Arc::new(AtomicUsize::new(0));
    let (sender, stopped) = mpsc::sync_channel(1);
    let (boarded, board) = serve(NumbersServer::new(Counter { sent: Arc::clone(&sent), stopped: sender }));
    Served { client: NumbersClient::connect(&boarded, "service").unwrap(), sent, stopped, board }
}

#[test]
fn blocking_handlers_of_streams_ask_for_threads_and_others_are_tasks() {
    let (sender, _stopped) = mpsc::sync_channel(1);
    let server = NumbersServer::new(Counter { sent: Arc::default(), stopped: sender });
    assert_eq!(server.style(MethodIndex(0)), Style::Thread);
    assert_eq!(server.style(MethodIndex(1)), Style::Task);
}

#[test]
fn all_items_come_in_order_then_the_end_then_the_reply() {
    let client = numbers().client;
    let mut items = client.count(1000).unwrap();
    let received: Result<Vec<u64>, _> = (&mut items).into_iter().collect();
    assert_eq!(received.unwrap(), (0..1000).collect::<Vec<u64>>());
    assert!(items.recv().is_none(), "after the end there is nothing");
    assert_eq!(items.finish().unwrap(), "counted");
    assert_eq!(client.stats().snapshot()[0].calls(), 1);
}

#[test]
fn tasks_receive_from_tasks() {
    let client = numbers().client;
    block_on(async {
        let mut items = client.count_later(1000).unwrap();
        let mut next = 0;
        while let Some(item) = poll_fn(|cx| Pin::new(&mut items).poll_next(cx)).await {
            assert_eq!(item.unwrap(), next);
            next += 1;
        }
        assert_eq!(next, 1000);
        assert_eq!(items.finish_async().await.unwrap(), "counted later");
    });
}

#[test]
fn a_reply_can_be_had_without_the_items() {
    let client = numbers().client;
    assert_eq!(client.count(100).unwrap().finish().unwrap(), "counted");
    assert_eq!(block_on(client.count(100).unwrap().finish_async()).unwrap(), "counted");
}

#[test]
fn a_clients_items_arrive_before_its_reply_is_made() {
    let client = numbers().client;
    let mut items = client.sum(1).unwrap();
    (1..=100).try_for_each(|item| items.send(&item)).unwrap();
    assert_eq!(items.finish().unwrap(), 5051);

    block_on(async {
        let mut items = client.sum_later(1).unwrap();
        for item in 1..=100 {
            items.send_async(&item).await.unwrap();
        }
        assert_eq!(items.finish_async().await.unwrap(), 5051);
    });
}

#[test]
fn items_go_both_ways_at_the_same_time() {
    let client = numbers().client;
    let mut call = client.doubled().unwrap();
    for item in 0..100_u64 {
        call.send(&item).unwrap();
        assert_eq!(call.recv().unwrap().unwrap(), (item * 2).to_string());
    }
    call.close().unwrap();
    assert!(call.recv().is_none());
    assert_eq!(call.finish().unwrap(), 100);
}

#[test]
fn two_threads_share_a_call_with_items_both_ways() {
    let (mut out, items) = numbers().client.doubled().unwrap().split();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            (0..500).try_for_each(|item| out.send(&item)).unwrap();
            out.finish().unwrap();
        });
        assert_eq!(items.into_iter().map(Result::unwrap).count(), 500);
    });
}

#[test]
fn a_stream_whose_handler_fails_ends_with_its_status() {
    let mut items = numbers().client.breaks().unwrap();
    assert_eq!(items.recv().unwrap().unwrap(), 7);
    let status = items.recv().unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "the disk is gone"));
    assert_eq!(status.outcome(), Outcome::Ran);
    assert!(items.recv().is_none());
    assert_eq!(items.finish().unwrap_err(), status);
}

#[test]
fn a_handler_that_has_enough_still_replies() {
    let mut items = numbers().client.first().unwrap();
    let refused = (1..1000).find_map(|item| items.send(&item).err()).expect("nobody takes so many");
    assert_eq!(refused.code(), Code::Cancelled);
    assert_eq!(items.finish().unwrap(), 1);
}

#[test]
fn a_stream_that_is_full_holds_its_sender_and_a_dropped_one_ends_it() {
    let Served { client, sent, stopped, board } = numbers();
    let mut items = client.endless().unwrap();
    items.recv().unwrap().unwrap();
    drop(items);
    let status = stopped.recv_timeout(Duration::from_secs(20)).expect("the handler goes on for ever");
    assert_eq!(status.code(), Code::Cancelled);
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent <= 1 + ROOM, "{sent} items were sent to a stream with room for {ROOM}");
    assert_eq!(board.transport("service").in_flight(), 0);
}

#[test]
fn a_stream_that_stands_still_ends_at_its_deadline() {
    let client = numbers().client.with_timeout(Duration::from_millis(50));
    let mut items = client.sum(0).unwrap();
    items.send(&1).unwrap();
    // The handler waits for more items, and none come.
    let reply = std::thread::spawn(move || {
        (items.send(&2), std::thread::park_timeout(Duration::from_millis(100)), items.finish())
    });
    assert_eq!(reply.join().unwrap().2.unwrap_err().code(), Code::DeadlineExceeded);
}
