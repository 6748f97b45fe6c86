//! One `epoll` loop that receives from three other processes and has a timer beside.
//!
//! ```sh
//! cargo run -p shm-ring --example epoll
//! ```
//!
//! While frames come the producers make no system call for them; they do when this process sleeps in `epoll_wait`.

use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use shm_ring::RecvError;
use shm_ring::mpsc::{Queue, QueueOptions};

const PRODUCERS: u64 = 3;
const NUMBERS: u64 = 30_000;

const QUEUE: u64 = 0;
const TIMER: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(address) => produce(&address),
        None => serve(),
    }
}

/// In a child process: a producer that blocks when its lane is full, as any program may have it.
fn produce(address: &str) -> Result<(), Box<dyn Error>> {
    let sender = Queue::open(address)?;
    for number in 0..NUMBERS {
        sender.send(&number.to_le_bytes())?;
        if number % 10_000 == 9_999 {
            std::thread::sleep(Duration::from_millis(60));
        }
    }
    Ok(())
}

fn serve() -> Result<(), Box<dyn Error>> {
    let address = format!("example-{}/numbers", std::process::id());
    let mut queue = QueueOptions::new().create(&address.parse()?)?;
    let mut producers = (0..PRODUCERS).map(|_| start(&address)).collect::<Result<Vec<_>, _>>()?;

    let timer = every(Duration::from_millis(50))?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, &queue, epoll::EventData::new_u64(QUEUE), epoll::EventFlags::IN)?;
    epoll::add(&set, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;

    let (mut received, mut sum, mut wakes) = (0, 0, 0);
    let mut events = Vec::with_capacity(2);
    while received < PRODUCERS * NUMBERS {
        // Whatever is there; then producers are told that we sleep, unless something has come meanwhile.
        match queue.try_recv().map(|frame| number_in(frame.bytes())) {
            Ok(number) => {
                received += 1;
                sum += number;
                continue;
            }
            Err(RecvError::Empty) => {}
            Err(error) => return Err(error.into()),
        }
        if !queue.arm() {
            continue;
        }
        events.clear();
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)?;
        wakes += 1;
        if events.iter().any(|event| event.data.u64() == TIMER) {
            rustix::io::read(&timer, &mut [0; 8])?;
            println!("timer: {received} frames from {} processes so far", queue.producers());
        }
    }
    for producer in &mut producers {
        producer.wait()?;
    }
    println!("{received} frames from {PRODUCERS} processes, the sum is {sum}; slept {wakes} times");
    Ok(())
}

fn number_in(payload: &[u8]) -> u64 {
    payload.try_into().map_or(0, u64::from_le_bytes)
}

fn start(address: &str) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).arg(address).spawn()
}

fn every(interval: Duration) -> rustix::io::Result<OwnedFd> {
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let interval = Timespec { tv_sec: interval.as_secs() as i64, tv_nsec: interval.subsec_nanos().into() };
    let times = Itimerspec { it_interval: interval, it_value: interval };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    Ok(timer)
}
