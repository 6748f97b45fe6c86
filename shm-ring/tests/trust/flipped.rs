//! A producer that writes what it has committed: with `Isolated` it changes nothing that was read.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::mpsc::MpscLayout;
use shm_ring::typed::{ClaimFrames, ReadFrame, ReceiveFrames, Receiver, Sender};
use shm_ring::{Layout, Segment, Trust};

use super::{FILLS, Order, cells, frames, ring_of_cells, ring_of_frames};

/// The memory of a ring as a producer has it that keeps no protocol: it writes where it likes.
struct Rogue(File);

impl Rogue {
    fn new(fd: &OwnedFd) -> Self {
        Self(fd.try_clone().expect("a descriptor is left").into())
    }

    fn all(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.0.metadata().expect("a file").len() as usize];
        self.0.read_exact_at(&mut bytes, 0).expect("the memory is there");
        bytes
    }

    /// Writes over each place where these bytes stand; gives the number of places.
    fn spoil(&self, payload: &[u8]) -> usize {
        let memory = self.all();
        let places: Vec<usize> =
            (0..memory.len() - payload.len()).step_by(8).filter(|at| memory[*at..].starts_with(payload)).collect();
        for at in &places {
            self.0.write_all_at(&vec![0xff; payload.len()], *at as u64).expect("nothing is sealed against writing");
        }
        places.len()
    }
}

/// Sends, receives and reads; spoils the shared memory while the message is held; reads again.
fn what_was_read_stays(rogue: &Rogue, sender: impl ClaimFrames, mut receiver: impl ReceiveFrames) {
    let mut sender = Sender::<Order, _>::new(sender);
    for (id, fills) in (1..).zip(FILLS) {
        let order = Order::of(id, fills);
        sender.send(&order).unwrap();
        let frame = receiver.recv().unwrap();
        let before = frame.bytes().to_vec();
        assert_eq!(rogue.spoil(&before), 1, "the payload stands in shared memory once");
        assert_eq!(frame.bytes(), before);
        let mut copy = vec![0; frame.len()];
        frame.copy_to(&mut copy);
        assert_eq!(copy, before);
    }
}

/// As a message: what the validator has seen is what is read, however long.
fn what_was_validated_stays(rogue: &Rogue, sender: impl ClaimFrames, receiver: impl ReceiveFrames) {
    let (mut sender, mut receiver) = (Sender::<Order, _>::new(sender), Receiver::<Order, _>::new(receiver));
    for (id, fills) in (1..).zip(FILLS) {
        let order = Order::of(id, fills);
        sender.send(&order).unwrap();
        let received = receiver.recv().unwrap();
        let view = received.read().unwrap();
        assert_eq!(rogue.spoil(received.payload()), 1, "the payload stands in shared memory once");
        assert_eq!(view, &order);
    }
}

/// A private copy is what was validated: what the producer writes after the check, before it or during it gives a message
/// or a refusal, and never a message that changes.
#[test]
fn payload_flip_after_check() {
    fn made<L: Layout>(layout: L) -> (Rogue, (Segment<L>, Segment<L>)) {
        let (segment, fd) = Segment::memfd("flipped", layout, 1).unwrap();
        let opened = Segment::open(fd.as_fd()).unwrap();
        (Rogue::new(&fd), (segment, opened))
    }
    let (rogue, segments) = made(cells());
    let (sender, receiver) = ring_of_cells(segments, Trust::ISOLATED);
    what_was_read_stays(&rogue, sender, receiver);
    let (rogue, segments) = made(cells());
    let (sender, receiver) = ring_of_cells(segments, Trust::ISOLATED);
    what_was_validated_stays(&rogue, sender, receiver);
    let (rogue, segments) = made(frames());
    let (producer, consumer) = ring_of_frames(segments, Trust::ISOLATED);
    what_was_read_stays(&rogue, producer, consumer);
    let (rogue, segments) = made(frames());
    let (producer, consumer) = ring_of_frames(segments, Trust::ISOLATED);
    what_was_validated_stays(&rogue, producer, consumer);
    let blocks = ArenaLayout::new([Class { block: 8 << 10, count: 1 }, Class::default(), Class::default()]).unwrap();
    let (rogue, segments) = made(MpscLayout::new(4).unwrap().with_arena(blocks));
    let (sender, receiver) = ring_of_cells(segments, Trust::ISOLATED);
    flips_while_it_is_read(rogue, sender, receiver);
}

/// Writes all over the second half of a message as fast as it can, while messages are received.
fn flips_while_it_is_read(rogue: Rogue, sender: impl ClaimFrames, receiver: impl ReceiveFrames) {
    const ROUNDS: u64 = 1_000;
    /// All control words lie before it, and the first words of the one block.
    const FROM: u64 = 4096;
    let (mut sender, mut receiver) = (Sender::<Order, _>::new(sender), Receiver::<Order, _>::new(receiver));
    let is_over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let len = rogue.0.metadata().expect("a file").len() - FROM;
            // A step that has no common divisor with the length comes everywhere.
            let places = (0_u64..).map(|i| i * 4099 % (len - 16));
            for at in places.take_while(|_| !is_over.load(Ordering::Relaxed)) {
                rogue.0.write_all_at(&[at as u8; 16], FROM + at).expect("nothing is sealed against writing");
            }
        });
        let (mut whole, mut changed, mut refused) = (0_u64, 0, 0);
        let end = Instant::now() + Duration::from_secs(60);
        // On a busy machine the thread may come late.
        while whole < ROUNDS || changed + refused == 0 {
            let id = whole;
            assert!(Instant::now() < end, "no write met a message: the thread does nothing");
            let order = Order::of(id, 380);
            sender.send(&order).unwrap();
            let received = receiver.recv().unwrap();
            match received.read() {
                Ok(view) => {
                    let (symbol, is_whole) = (view.symbol.to_string(), view == &order);
                    // The thread has had time to write more.
                    assert_eq!((view.symbol.as_str(), view == &order), (&*symbol, is_whole));
                    assert!(std::str::from_utf8(view.symbol.as_bytes()).is_ok());
                    *(if is_whole { &mut whole } else { &mut changed }) += 1;
                }
                Err(_) => refused += 1,
            }
        }
        is_over.store(true, Ordering::Relaxed);
        println!("figure: messages that nothing met on their way = {whole}");
        println!("figure: messages that were changed before they were copied = {changed}");
        println!("figure: messages that were refused = {refused}");
    });
}
