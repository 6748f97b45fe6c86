//! A queue between processes: this program receives, two more copies of it send; one is killed amid its work.
//!
//! `cargo run --release -p shm-ring --example two_processes`

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Instant;

use shm_ring::mpsc::Queue;

/// Messages that each sender would like to send.
const MESSAGES: u64 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(address) => send(&address),
        None => receive(),
    }
}

/// A sender: opens the queue by its name and sends numbers.
fn send(address: &str) -> Result<(), Box<dyn Error>> {
    let queue = Queue::open(address)?;
    let me = u64::from(std::process::id());
    for number in 0..MESSAGES {
        let mut claim = queue.claim(16)?; // Waits while the lane is full. Dropped without a commit, it is taken back.
        claim.write(&me.to_le_bytes());
        claim.write(&number.to_le_bytes());
        claim.commit();
    }
    Ok(())
}

fn receive() -> Result<(), Box<dyn Error>> {
    let mut queue = Queue::create(&format!("examples/two-processes-{}", std::process::id()))?;
    let mut senders = [start_sender(&queue)?, start_sender(&queue)?];

    let began = Instant::now();
    let mut received = BTreeMap::<u64, u64>::new();
    let mut total: u64 = 0;
    // Both are done, or dead, once their lanes are gone and nothing is left in them.
    while total == 0 || queue.producers() > 0 || !queue.is_empty() {
        total += queue.drain(256, |frame| {
            let mut words = [0; 16];
            frame.copy_to(&mut words);
            let [sender, number] =
                [&words[..8], &words[8..]].map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
            let count = received.entry(sender).or_default();
            assert_eq!(number, *count, "each sender's messages come in order, each once");
            *count += 1;
        }) as u64;
        if total > MESSAGES / 2 {
            // Once is enough; a second kill finds nobody.
            senders[0].kill()?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    for (sender, count) in &received {
        println!(
            "process {sender} sent {count} messages of 16 bytes{}",
            if *count < MESSAGES { ", then it was killed" } else { "" }
        );
    }
    println!("{total} messages in {seconds:.3} s, in order, none lost, none twice");
    for sender in &mut senders {
        sender.wait()?;
    }
    Ok(())
}

fn start_sender(queue: &Queue) -> Result<Child, Box<dyn Error>> {
    Ok(Command::new(std::env::current_exe()?).arg(queue.address().to_string()).spawn()?)
}
