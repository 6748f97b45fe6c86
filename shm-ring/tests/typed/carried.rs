//! What is sent is what is read: all kinds of messages, all lengths, every ring.

use shm_ring::typed::{Plain, Typed};
use shm_ring::{RecvError, Segment, mpsc};

use super::{Order, Quote, cells, ends, pair, ring};
use crate::support::backings::{EPOCH, for_every_backing};

for_every_backing!(archives_of_every_length_are_read_as_they_were_sent, |backing| {
    let (maker, opener) = backing.pair(Typed::<Order, _>::new(ring()));
    let (mut sender, mut receiver) = ends(&maker, &opener);
    let mut id = 0;
    for round in 0..3 {
        for fills in [0, 1, 20, 40, 100, 120, 200, 1_000, 5_000, 50_000] {
            id += 1;
            let order = Order::of(id, fills + round);
            sender.try_send(&order).unwrap();
            assert_eq!(*receiver.try_recv().unwrap().read().unwrap(), order);
        }
    }
});

for_every_backing!(plain_data_is_read_as_it_was_sent, |backing| {
    let (maker, opener) = backing.pair(Typed::<Plain<Quote>, _>::new(ring()));
    let (mut sender, mut receiver) = ends(&maker, &opener);
    for n in 0..1_000_u32 {
        let quote = Quote { bid: f64::from(n), ask: f64::from(n) + 0.5, at_ns: n.into() };
        sender.try_send(&Plain(quote)).unwrap();
        assert_eq!(*receiver.recv().unwrap().read().unwrap(), quote);
    }
});

for_every_backing!(slices_of_every_length_are_read_as_they_were_sent, |backing| {
    let (maker, opener) = backing.pair(Typed::<[f64], _>::new(ring()));
    let (mut sender, mut receiver) = ends(&maker, &opener);
    for len in [0, 1, 63, 64, 65, 255, 256, 2_000, 100_000] {
        let samples: Vec<f64> = (0..len).map(f64::from).collect();
        sender.try_send(&samples).unwrap();
        assert_eq!(receiver.recv().unwrap().read().unwrap(), samples);
    }
});

#[test]
fn raw_bytes_are_slices_of_bytes() {
    let (mut sender, mut receiver) = pair::<[u8]>();
    sender.send(b"any bytes at all").unwrap();
    assert_eq!(receiver.recv().unwrap().read().unwrap(), b"any bytes at all");
}

/// 16 is the largest alignment that an archive can have; copied, in the ring and in the arena it has it.
#[test]
fn archives_are_aligned_to_16_bytes_wherever_they_are_read() {
    let (mut sender, mut receiver) = pair::<Vec<u128>>();
    for len in [1, 20, 31, 32, 100, 126, 127, 128, 500, 5_000] {
        let numbers: Vec<u128> = (0..len).map(|n| n << 100 | n).collect();
        sender.try_send(&numbers).unwrap();
        let received = receiver.recv().unwrap();
        let read = received.read().unwrap();
        assert!(read.as_ptr().addr().is_multiple_of(16), "{len} numbers, {:?}", received);
        assert!(read.iter().map(|n| n.to_native()).eq(numbers), "{len} numbers");
    }
}

#[test]
fn messages_of_all_lengths_cross_threads_in_their_order() {
    const COUNT: u64 = 3_000;
    let (mut sender, mut receiver) = pair::<Order>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for id in 0..COUNT {
                sender.send(&Order::of(id, (id * 37 % 400) as u32)).unwrap();
            }
        });
        for id in 0..COUNT {
            assert_eq!(*receiver.recv().unwrap().read().unwrap(), Order::of(id, (id * 37 % 400) as u32));
        }
        assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
    });
}

for_every_backing!(a_ring_of_cells_carries_the_same_messages, |backing| {
    let (maker, opener) = backing.pair(Typed::<Vec<u128>, _>::new(cells()));
    let mut sender = maker.sender(|ring| mpsc::Sender::attach(ring, mpsc::Events::default())).unwrap();
    let mut receiver = opener.receiver(|ring| mpsc::Receiver::attach(ring, mpsc::Events::default())).unwrap();
    for len in [0, 1, 6, 7, 30, 31, 32, 1_000, 10_000] {
        let numbers: Vec<u128> = (0..len).map(|n| n << 100 | n).collect();
        sender.try_send(&numbers).unwrap();
        let received = receiver.recv().unwrap();
        let read = received.read().unwrap();
        assert!(read.as_ptr().addr().is_multiple_of(16), "{len} numbers, {received:?}");
        assert!(read.iter().map(|n| n.to_native()).eq(numbers), "{len} numbers");
    }
});

#[test]
fn threads_send_through_clones_of_one_sender() {
    const COUNT: u64 = 500;
    let segment = Segment::heap(Typed::<Order, _>::new(cells()), EPOCH);
    let sender = segment.sender(|ring| mpsc::Sender::attach(ring, mpsc::Events::default())).unwrap();
    let mut receiver = segment.receiver(|ring| mpsc::Receiver::attach(ring, mpsc::Events::default())).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let mut sender = sender.clone();
            scope.spawn(move || {
                for n in 0..COUNT {
                    sender.send(&Order::of(thread * COUNT + n, (n % 90) as u32)).unwrap();
                }
            });
        }
        drop(sender);
        let mut next = [0; 3];
        while let Ok(received) = receiver.recv() {
            let order = received.read().unwrap();
            let (thread, n) = (order.id.to_native() / COUNT, order.id.to_native() % COUNT);
            assert_eq!(n, next[thread as usize], "in order for thread {thread}");
            next[thread as usize] += 1;
            assert_eq!(*order, Order::of(order.id.into(), (n % 90) as u32));
        }
        assert_eq!(next, [COUNT; 3]);
    });
}
