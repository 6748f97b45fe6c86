//! A queue's consumer and its producers: the processes of a site of frames.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shm_ring::mpsc::{MpscLayout, Queue, QueueAddress, QueueOptions, Sender};
use shm_ring::{ClaimError, Error, RecvError};
use test_support::child::Line;

use crate::gang::{self, Member};
use crate::log::{Event, Log};
use test_support::random::{Random, fill};

const ADDRESS: &str = "soak/frames";

/// Cells of a producer's lane: few, so that some sends have to wait for room.
const CELLS: u32 = 32;

/// Shortest and longest frame, in bytes.
const SIZES: [usize; 2] = [16, 96];

/// How long the consumer waits for frames before it looks whether it should rest.
const LOOK_AFTER: Duration = Duration::from_millis(50);

fn address() -> QueueAddress {
    ADDRESS.parse().expect("it is an address")
}

/// The frame of a number: its length and every byte of it belong to the number.
fn frame_of(number: u64, room: &mut [u8; SIZES[1]]) -> &[u8] {
    let len = SIZES[0] + (number % (SIZES[1] - SIZES[0] + 1) as u64) as usize;
    room[..8].copy_from_slice(&number.to_le_bytes());
    fill(number, &mut room[8..len]);
    &room[..len]
}

/// Role: receives until it is killed. At "rest" it says "resting" once no producer is left and all is received.
pub fn consume(mut parent: Line) {
    let serial = gang::serial();
    let lane = MpscLayout::new(CELLS).expect("a power of two");
    let options = QueueOptions::new().lane(lane).tag(&serial.to_le_bytes());
    let mut queue = options.create(&address()).expect("who received here before is dead");
    let log = Log::of_this_process();
    log.note(serial, Event::Serving);
    let rest = AtomicBool::new(false);
    thread::scope(|scope| {
        let receives = scope.spawn(|| receive(&mut queue, &log, serial, &rest));
        let order = parent.hear();
        assert!(matches!(order.as_deref(), Some("rest") | None), "`{order:?}` is no order");
        rest.store(true, Ordering::Relaxed);
        receives.join().expect("the queue gives frames or says that there is none");
    });
    parent.say("resting");
    let _ = parent.hear();
    drop(queue);
    parent.say("stopped");
}

fn receive(queue: &mut Queue, log: &Log, serial: u64, rest: &AtomicBool) {
    let mut rescues = 0;
    loop {
        let received = queue.recv_deadline(Instant::now() + LOOK_AFTER).map(|frame| note_frame(frame.bytes(), log));
        match received {
            Ok(()) => {}
            Err(RecvError::TimedOut) if rest.load(Ordering::Relaxed) && queue.producers() == 0 => return,
            Err(RecvError::TimedOut) => {}
            Err(error) => {
                eprintln!("receiving failed: {error}");
                log.note(serial, Event::Failed);
                return;
            }
        }
        for _ in rescues..queue.rescues() {
            log.note(serial, Event::Rescued);
        }
        rescues = queue.rescues();
    }
}

fn note_frame(bytes: &[u8], log: &Log) {
    let number = bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
    let is_right = bytes == frame_of(number, &mut [0; SIZES[1]]);
    log.note(number, if is_right { Event::Received } else { Event::Torn });
}

/// Role: sends from all its threads until it is killed or told to end.
pub fn produce(parent: Line) {
    gang::work(parent, |member| send_on(&member));
}

fn send_on(member: &Member<'_>) {
    let mut random = Random::new(member.first);
    let mut number = member.first;
    while member.goes_on() {
        let Some(sender) = open(member, number) else {
            // Until the consumer is there again.
            thread::sleep(Duration::from_micros(300));
            continue;
        };
        while member.goes_on() {
            let sent = send_once(&sender, number, member, &mut random);
            number += 1;
            match sent {
                Ok(()) => member.did_one(),
                Err(ClaimError::Closed) => {
                    member.log.note(number - 1, Event::Refused);
                    break;
                }
                Err(error) => {
                    eprintln!("frame {number:#x} was refused: {error}");
                    member.log.note(number - 1, Event::Failed);
                    break;
                }
            }
            if random.one_in(16) {
                thread::sleep(Duration::from_micros(random.below(4_000)));
            }
            if random.one_in(2_000) {
                break;
            }
        }
    }
}

fn open(member: &Member<'_>, next: u64) -> Option<Sender> {
    match QueueOptions::new().open(&address()) {
        Ok(sender) => {
            let hub = sender.tag().first_chunk().map_or(0, |tag| u64::from_le_bytes(*tag));
            member.log.note_value(next, Event::Opened, hub);
            Some(sender)
        }
        // Not there yet, or gone while it answered.
        Err(Error::NotFound { .. } | Error::Closed { .. } | Error::System { .. }) => None,
        Err(error) => {
            eprintln!("opening the queue failed: {error}");
            member.log.note(next, Event::Failed);
            None
        }
    }
}

fn send_once(sender: &Sender, number: u64, member: &Member<'_>, random: &mut Random) -> Result<(), ClaimError> {
    let mut room = [0; SIZES[1]];
    let frame = frame_of(number, &mut room);
    member.log.note(number, Event::Sent);
    let mut claim = sender.claim(frame.len())?;
    let (one, other) = frame.split_at(random.below(frame.len() as u64) as usize);
    claim.write(one);
    if random.one_in(32) {
        // Some are killed here.
        thread::sleep(Duration::from_micros(random.below(200)));
    }
    claim.write(other);
    claim.commit();
    member.log.note(number, Event::Committed);
    Ok(())
}

/// The runtime directory, to be given to the processes of a site.
pub const RUNTIME_DIR: &str = "SWITCHBOARD_RUNTIME_DIR";
