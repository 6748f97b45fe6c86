//! Many waiting tasks.

use futures_executor::{ThreadPool, block_on};
use futures_util::future::join_all;
use futures_util::task::SpawnExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use shm_ring::ClaimError;
use shm_ring::mpsc::MpscLayout;

use super::kinds::{UNLUCKY, closed_is_none};
use super::{mpsc, spsc};
use crate::support::backings::Backing;

/// Two eventfds for each of more than a thousand rings are more than the usual limit of a process.
fn allow_many_descriptors() {
    let limit = Rlimit { current: getrlimit(Resource::Nofile).maximum, ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).expect("up to the maximum is allowed");
}

fn pool() -> ThreadPool {
    ThreadPool::builder().pool_size(2).create().expect("two threads")
}

#[test]
fn more_than_a_thousand_rings_have_a_waiting_task_each() {
    const RINGS: usize = 1_200;
    allow_many_descriptors();
    let pool = pool();
    let mut producers = Vec::new();
    let mut tasks = Vec::new();
    for i in 0..RINGS {
        let (producer, mut consumer) = spsc::ring(Backing::Heap, 256);
        producers.push(producer);
        let task = async move { consumer.recv_async().await.expect("it is sent").bytes().to_vec() == i.to_ne_bytes() };
        tasks.push(pool.spawn_with_handle(task).expect("the pool runs"));
    }
    for (i, producer) in producers.iter_mut().enumerate().rev() {
        producer.try_send(&i.to_ne_bytes()).expect("there is room");
    }
    assert!(block_on(join_all(tasks)).into_iter().all(|is_ours| is_ours));
    let rescues: u64 = producers.iter().map(|producer| producer.control().stats().consumer.rescues).sum();
    assert!(rescues <= UNLUCKY, "{rescues} rescues");
}

#[test]
fn ten_thousand_tasks_that_wait_for_room_in_one_ring_all_send() {
    const TASKS: u64 = 10_000;
    let (sender, mut receiver) = mpsc::ring(Backing::Heap, MpscLayout::new(16).expect("a power of two"));
    let pool = pool();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let sender = sender.clone();
            let sends = async move { sender.send_async(&task.to_ne_bytes()).await };
            pool.spawn_with_handle(sends).expect("the pool runs")
        })
        .collect();
    drop(sender);
    let mut received = Vec::new();
    block_on(async {
        while let Some(frame) = closed_is_none(receiver.recv_async().await) {
            received.push(u64::from_ne_bytes(frame.bytes().try_into().expect("eight bytes")));
        }
        assert!(join_all(tasks).await.into_iter().all(|sent| sent == Ok(())));
    });
    received.sort_unstable();
    assert!(received.into_iter().eq(0..TASKS));
}

#[test]
fn a_thousand_tasks_that_wait_for_room_learn_that_the_receiver_is_gone() {
    let (sender, receiver) = mpsc::ring(Backing::Heap, MpscLayout::new(2).expect("a power of two"));
    while sender.try_send(b"fills it").is_ok() {}
    let pool = pool();
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let sender = sender.clone();
            pool.spawn_with_handle(async move { sender.send_async(b"in vain").await }).expect("the pool runs")
        })
        .collect();
    drop(receiver);
    assert!(block_on(join_all(tasks)).into_iter().all(|sent| sent == Err(ClaimError::Closed)));
}
