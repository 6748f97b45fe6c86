//! Tasks of a tokio program send to a task of another, which has a timer beside.
//!
//! ```sh
//! cargo run -p shm-ring --example tokio --features tokio
//! ```
//!
//! The futures are tied to no runtime: without `set_reactor` they run here as well, woken by a thread of the library
//! instead of tokio's own reactor.

use std::error::Error;
use std::time::Duration;

use shm_ring::Reactor;
use shm_ring::mpsc::{MpscLayout, Queue, QueueOptions};
use tokio::process::Command;

/// So many more than a lane has cells, that most tasks wait for room.
const TASKS: u64 = 1_000;
const EACH: u64 = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(address) => send(&address).await,
        None => receive().await,
    }
}

/// In a child process.
async fn send(address: &str) -> Result<(), Box<dyn Error>> {
    let sender = Queue::open(address)?;
    sender.set_reactor(Reactor::tokio()?)?;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let sender = sender.clone();
        tasks.spawn(async move {
            for number in 0..EACH {
                sender.send_async(&(task * EACH + number).to_le_bytes()).await?;
            }
            Ok::<_, shm_ring::ClaimError>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

async fn receive() -> Result<(), Box<dyn Error>> {
    let address = format!("example-{}/numbers", std::process::id());
    let mut queue = QueueOptions::new().lane(MpscLayout::new(64)?).create(&address.parse()?)?;
    queue.set_reactor(Reactor::tokio()?)?;
    let mut child = Command::new(std::env::current_exe()?).arg(&address).spawn()?;

    let mut timer = tokio::time::interval(Duration::from_millis(20));
    let (mut received, mut sum) = (0, 0);
    while received < TASKS * EACH {
        // A future that is dropped because the other branch was first has received nothing.
        tokio::select! {
            frame = queue.recv_async() => {
                received += 1;
                sum += u64::from_le_bytes(frame?.bytes().try_into()?);
            }
            _ = timer.tick() => println!("timer: {received} frames so far"),
        }
    }
    child.wait().await?;
    println!("{received} frames from {TASKS} tasks, the sum is {sum}; missed wake-ups: {}", queue.rescues());
    Ok(())
}
