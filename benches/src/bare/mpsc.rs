//! Many producers, one consumer, one shared tail: the many-to-one ring of Agrona, written by hand.
//!
//! A producer claims by a compare-exchange on the tail, marks the claim by a negative length, writes, and publishes by
//! the positive length. The consumer stops at the first frame that is not positive, clears what it has read, and gives
//! it back. A producer that stops between claim and publication stops everybody behind it.

use std::sync::atomic::Ordering;

use super::memory::Memory;

/// Frames begin at multiples of this, as Agrona's do.
const ALIGN: usize = 8;
const HEADER: usize = 8;
/// Control words: what producers claimed, a copy of the head for producers, what the consumer gave back.
const TAIL: usize = 1;
const HEAD_CACHE: usize = 2;
const HEAD: usize = 3;
/// A header from here on is a filler up to the end of the ring.
const FILLER: u64 = 1 << 40;
/// A header from here on is a claim that is not published yet.
const NEGATIVE: u64 = 1 << 63;

/// One of many writers of frames.
#[derive(Debug)]
pub struct Producer {
    memory: Memory,
}

/// The only reader of frames.
#[derive(Debug)]
pub struct Consumer {
    memory: Memory,
    at: u64,
}

#[inline]
fn frame_bytes(payload: usize) -> u64 {
    (payload + HEADER).next_multiple_of(ALIGN) as u64
}

impl Producer {
    /// Writes into memory that was zeroed and has producers of this kind only.
    #[must_use]
    pub fn over(memory: Memory) -> Self {
        Self { memory }
    }

    /// Sends one payload, or nothing if there is no room.
    #[inline]
    #[must_use]
    pub fn try_put_bytes(&self, payload: &[u8]) -> bool {
        let bytes = frame_bytes(payload.len());
        let Some(at) = self.claim(bytes) else { return false };
        let header = self.memory.header(at);
        // ORDERING: Release, as in the original: the claim is marked before anything of the payload is written.
        header.store(bytes.wrapping_neg(), Ordering::Release);
        self.memory.write(at, payload);
        // ORDERING: Release, pairs with the Acquire load in `Consumer::take_bytes`: the payload comes first.
        header.store(payload.len() as u64 + 1, Ordering::Release);
        true
    }

    /// Claims `bytes` in one piece, after a filler up to the end of the ring if they do not fit before it.
    #[inline]
    fn claim(&self, bytes: u64) -> Option<u64> {
        let capacity = self.memory.capacity() as u64;
        loop {
            // ORDERING: Acquire, pairs with the compare-exchange of other producers.
            let tail = self.memory.control(TAIL).load(Ordering::Acquire);
            let to_end = capacity - (tail & (capacity - 1));
            let filler = if bytes > to_end { to_end } else { 0 };
            let next = tail + filler + bytes;
            if !self.is_given_back(next.saturating_sub(capacity)) {
                return None;
            }
            // ORDERING: AcqRel, as in the original; what is in the frames is ordered by their headers.
            let claimed = self.memory.control(TAIL).compare_exchange(tail, next, Ordering::AcqRel, Ordering::Relaxed);
            if claimed.is_err() {
                std::hint::spin_loop();
                continue;
            }
            if filler != 0 {
                // ORDERING: Release, pairs with the Acquire load in `Consumer::take_bytes`.
                self.memory.header(tail).store(FILLER + filler, Ordering::Release);
            }
            return Some(tail + filler);
        }
    }

    /// Whether the consumer has given back everything below this position.
    #[inline]
    fn is_given_back(&self, position: u64) -> bool {
        // ORDERING: Acquire, pairs with the Release store below: whoever learnt the head saw the frames cleared.
        if self.memory.control(HEAD_CACHE).load(Ordering::Acquire) >= position {
            return true;
        }
        // ORDERING: Acquire, pairs with the Release store in `Consumer::take_bytes`: what it read is cleared.
        let head = self.memory.control(HEAD).load(Ordering::Acquire);
        if head >= position {
            // ORDERING: Release, pairs with the Acquire load above.
            self.memory.control(HEAD_CACHE).store(head, Ordering::Release);
        }
        head >= position
    }
}

impl Consumer {
    /// Reads memory that was zeroed and has no other consumer.
    #[must_use]
    pub fn over(memory: Memory) -> Self {
        Self { memory, at: 0 }
    }

    /// Where producers find the ring.
    #[must_use]
    pub fn path(&self) -> String {
        self.memory.path()
    }

    /// Shows up to `most` payloads to `read`, up to the end of the ring, and says how many there were.
    #[inline]
    pub fn take_bytes(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> usize {
        let first = self.at;
        let to_end = self.memory.capacity() as u64 - (first & (self.memory.capacity() as u64 - 1));
        let mut count = 0;
        while count < most && self.at - first < to_end {
            // ORDERING: Acquire, pairs with the Release stores of the producers: the payload is there.
            let header = self.memory.header(self.at).load(Ordering::Acquire);
            if header == 0 || header >= NEGATIVE {
                break;
            }
            if header >= FILLER {
                self.at += header - FILLER;
                continue;
            }
            let len = header as usize - 1;
            read(self.memory.read(self.at, len));
            self.at += frame_bytes(len);
            count += 1;
        }
        if self.at != first {
            self.memory.clear(first, (self.at - first) as usize);
            // ORDERING: Release, pairs with the Acquire load in `Producer::is_given_back`: all of it is cleared.
            self.memory.control(HEAD).store(self.at, Ordering::Release);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_two_producers_all_arrive_each_in_order() {
        let mut consumer = Consumer::over(Memory::create(4096).expect("memory for a ring"));
        std::thread::scope(|scope| {
            for id in 0..2u8 {
                let producer = Producer::over(Memory::open(consumer.path().as_ref()).expect("memory just made"));
                scope.spawn(move || {
                    for number in 0..10_000u32 {
                        let mut payload = [id; 64];
                        payload[..4].copy_from_slice(&number.to_le_bytes());
                        let len = 5 + number as usize % 60;
                        while !producer.try_put_bytes(&payload[..len]) {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut next = [0u32; 2];
            while next != [10_000; 2] {
                let took = consumer.take_bytes(16, |payload| {
                    let (number, rest) = payload.split_at(4);
                    let expected = &mut next[usize::from(rest[0])];
                    assert_eq!(number, expected.to_le_bytes());
                    assert_eq!(payload.len(), 5 + *expected as usize % 60);
                    *expected += 1;
                });
                if took == 0 {
                    std::thread::yield_now();
                }
            }
        });
    }

    #[test]
    fn a_ring_without_room_takes_nothing() {
        let mut consumer = Consumer::over(Memory::create(256).expect("memory for a ring"));
        let producer = Producer::over(Memory::open(consumer.path().as_ref()).expect("memory just made"));
        let fitted = (0..100).take_while(|_| producer.try_put_bytes(&[0; 56])).count();
        assert_eq!(fitted, 4);
        assert_eq!(consumer.take_bytes(1, |_| {}), 1);
        assert!(producer.try_put_bytes(&[0; 56]));
    }
}
