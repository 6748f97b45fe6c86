//! One producer, one consumer, frames of any length: the publication flag stands in the frame's own first word.
//!
//! The consumer polls the next frame's header. The producer clears the header after its frame before it publishes the
//! frame, so the consumer never takes old bytes for a header. The consumer gives space back in quarters of the ring,
//! and the producer looks at it only when its last copy does not suffice.

use std::sync::atomic::Ordering;

use super::memory::Memory;

/// Frames begin at multiples of this.
const ALIGN: usize = 16;
const HEADER: usize = 8;
/// The control word with the position up to which the consumer has given space back.
const RELEASED: usize = 1;

/// The only writer of frames.
#[derive(Debug)]
pub struct Producer {
    memory: Memory,
    at: u64,
    released: u64,
}

/// The only reader of frames.
#[derive(Debug)]
pub struct Consumer {
    memory: Memory,
    at: u64,
    released: u64,
}

/// Frames of one length that become visible together.
#[derive(Debug)]
#[must_use = "nothing of it is visible before it is published"]
pub struct Batch<'a> {
    ring: &'a mut Producer,
    first: u64,
    len: usize,
}

#[inline]
fn frame_bytes(payload: usize) -> u64 {
    (payload + HEADER).next_multiple_of(ALIGN) as u64
}

impl Producer {
    /// Writes into zeroed memory that has no other producer.
    #[must_use]
    pub fn over(memory: Memory) -> Self {
        Self { memory, at: 0, released: 0 }
    }

    /// Sends one payload; spins while there is no room.
    #[inline]
    pub fn put_bytes(&mut self, payload: &[u8]) {
        let bytes = frame_bytes(payload.len());
        self.wait_for(bytes);
        self.memory.write(self.at, payload);
        self.memory.header(self.at + bytes).store(0, Ordering::Relaxed);
        // ORDERING: Release, pairs with the Acquire load in `Consumer::take_bytes`: payload and cleared header come first.
        self.memory.header(self.at).store(payload.len() as u64 + 1, Ordering::Release);
        self.at += bytes;
    }

    /// Begins `count` frames with `len` bytes each that become visible together; spins while there is no room for all.
    #[inline]
    pub fn batch(&mut self, count: usize, len: usize) -> Batch<'_> {
        self.wait_for(frame_bytes(len) * count as u64);
        let first = self.at;
        Batch { ring: self, first, len }
    }

    /// Spins until `bytes` and one more header are free.
    #[inline]
    fn wait_for(&mut self, bytes: u64) {
        let capacity = self.memory.capacity() as u64;
        while self.at + bytes + ALIGN as u64 - self.released > capacity {
            // ORDERING: Acquire, pairs with the Release store in `Consumer::take_bytes`: its reads are over.
            self.released = self.memory.control(RELEASED).load(Ordering::Acquire);
            std::hint::spin_loop();
        }
    }
}

impl Batch<'_> {
    /// Writes the next frame of the batch.
    #[inline]
    pub fn add(&mut self, payload: &[u8]) {
        debug_assert_eq!(payload.len(), self.len, "room was claimed for this length");
        let ring = &mut *self.ring;
        ring.memory.write(ring.at, payload);
        if ring.at != self.first {
            ring.memory.header(ring.at).store(self.len as u64 + 1, Ordering::Relaxed);
        }
        ring.at += frame_bytes(self.len);
    }

    /// Makes all frames visible at once.
    #[inline]
    pub fn publish(self) {
        self.ring.memory.header(self.ring.at).store(0, Ordering::Relaxed);
        // ORDERING: Release, pairs with the Acquire load in `Consumer::take_bytes`: the first header opens the batch.
        self.ring.memory.header(self.first).store(self.len as u64 + 1, Ordering::Release);
    }
}

impl Consumer {
    /// Reads memory that was zeroed and has no other consumer.
    #[must_use]
    pub fn over(memory: Memory) -> Self {
        Self { memory, at: 0, released: 0 }
    }

    /// Shows the next payload to `read`; spins until there is one.
    #[inline]
    pub fn take_bytes(&mut self, read: impl FnOnce(&[u8])) {
        let len = loop {
            // ORDERING: Acquire, pairs with the Release stores of the producer: the payload is there.
            let header = self.memory.header(self.at).load(Ordering::Acquire);
            if header != 0 {
                break header as usize - 1;
            }
            std::hint::spin_loop();
        };
        read(self.memory.read(self.at, len));
        self.at += frame_bytes(len);
        if self.at - self.released >= self.memory.capacity() as u64 / 4 {
            self.released = self.at;
            // ORDERING: Release, pairs with the Acquire load in `Producer::wait_for`: the payloads have been read.
            self.memory.control(RELEASED).store(self.at, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> (Producer, Consumer) {
        let memory = Memory::create(4096).expect("memory for a ring");
        let again = Memory::open(memory.path().as_ref()).expect("memory just made");
        (Producer::over(memory), Consumer::over(again))
    }

    #[test]
    fn frames_of_any_length_arrive_in_order_over_many_laps() {
        let (mut producer, mut consumer) = ring();
        let payload: Vec<u8> = (0..=255).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..10_000).for_each(|number| producer.put_bytes(&payload[..number % 256])));
            for number in 0..10_000 {
                consumer.take_bytes(|read| assert_eq!(read, &payload[..number % 256]));
            }
        });
    }

    #[test]
    fn a_batch_arrives_whole_and_in_order() {
        let (mut producer, mut consumer) = ring();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut batch = producer.batch(64, 24);
                    (0..64).for_each(|number| batch.add(&[number; 24]));
                    batch.publish();
                }
            });
            for number in 0..6400u32 {
                consumer.take_bytes(|read| assert_eq!(read, [(number % 64) as u8; 24]));
            }
        });
    }
}
