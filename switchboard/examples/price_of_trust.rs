//! What each mode of trust costs: calls with payloads of four sizes, both ends in this process, the modes in turn.
//!
//! ```text
//! cargo run --release --package switchboard --example price_of_trust
//! ```
//! Prints one line for each figure: the median over rounds of the mean time of a call, in nanoseconds.
#![allow(unsafe_code)] // To be trusted takes a promise.

use std::time::{Duration, Instant};

use switchboard::prelude::*;
use switchboard::{Archived, Trust};

#[service]
trait Price {
    /// Answers with the first and the last byte and nothing else: the price of a request.
    fn ends(&self, ctx: &Context<'_>, bytes: &Archived<Vec<u8>>) -> Result<u16, Status>;
    /// So many bytes: the price of a reply.
    fn bytes(&self, ctx: &Context<'_>, len: u32) -> Result<Vec<u8>, Status>;
}

struct Desk;

impl Price for Desk {
    fn ends(&self, _ctx: &Context<'_>, bytes: &Archived<Vec<u8>>) -> Result<u16, Status> {
        let end = |byte: Option<&u8>| u16::from(byte.copied().unwrap_or(0));
        Ok(end(bytes.first()) << 8 | end(bytes.last()))
    }

    fn bytes(&self, _ctx: &Context<'_>, len: u32) -> Result<Vec<u8>, Status> {
        Ok(vec![7; len as usize])
    }
}

const SIZES: [(&str, usize); 4] = [("64 B", 64), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];
const ROUNDS: usize = 41;
const ROUND: Duration = Duration::from_millis(10);

fn mean_ns(mut call: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut calls = 0;
    while started.elapsed() < ROUND {
        call();
        calls += 1;
    }
    started.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() -> Result<(), Status> {
    let dir = std::env::temp_dir().join(format!("price-of-trust-{}", std::process::id()));
    // SAFETY: both ends are this very program, and call each other through nothing but the code that `#[service]` wrote.
    let trusted = unsafe { Trust::trusted() };
    let modes = [trusted, Trust::CHECKED, Trust::ISOLATED];
    let mut running = Vec::new();
    let mut clients = Vec::new();
    for mode in modes {
        let board =
            Switchboard::builder().in_process(false).runtime_dir(dir.join(mode.to_string())).trust(mode).open()?;
        running.push(board.serve("demo.price", PriceServer::new(Desk)).workers(1).start()?);
        clients.push(PriceClient::connect(&board, "demo.price")?);
    }
    for (name, size) in SIZES {
        let request = vec![7; size];
        let mut times = [const { (Vec::new(), Vec::new()) }; 3];
        for _ in 0..ROUNDS {
            for (client, (there, back)) in clients.iter().zip(&mut times) {
                assert_eq!(client.ends(&request)?, 0x0707);
                there.push(mean_ns(|| assert_eq!(client.ends(&request).ok(), Some(0x0707))));
                let len = size as u32;
                let read = |reply: &Archived<Vec<u8>>| reply.len();
                back.push(mean_ns(|| assert_eq!(client.bytes_with(len, read).ok(), Some(size))));
            }
        }
        for (mode, (there, back)) in modes.iter().zip(times) {
            println!("figure: {mode} call, request of {name} = {:.0} ns", median(there));
            println!("figure: {mode} call, reply of {name} = {:.0} ns", median(back));
        }
    }
    drop(running);
    // What is left is this program's own directory.
    let _ = std::fs::remove_dir_all(dir);
    Ok(())
}
