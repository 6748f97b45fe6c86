//! Many waiting tasks.

use futures_executor::{ThreadPool, block_on};
use futures_util::future::join_all;
use futures_util::task::SpawnExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::spsc::ring;
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
        let (producer, mut consumer) = ring(Backing::Heap, 256);
        producers.push(producer);
        let task = async move { consumer.recv_async().await.expect("it is sent").bytes().to_vec() == i.to_ne_bytes() };
        tasks.push(pool.spawn_with_handle(task).expect("the pool runs"));
    }
    for (i, producer) in producers.iter_mut().enumerate().rev() {
        producer.try_send(&i.to_ne_bytes()).expect("there is room");
    }
    assert!(block_on(join_all(tasks)).into_iter().all(|is_ours| is_ours));
    let rescues: u64 = producers.iter().map(|producer| producer.control().stats().consumer.rescues).sum();
    assert_eq!(rescues, 0);
}
