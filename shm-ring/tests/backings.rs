//! Segments over every backing: what one side makes, the other opens.

mod support;

use shm_ring::{Error, Layout};
use support::backings::{EPOCH, for_every_backing};

/// So many bytes, and nothing in them.
#[derive(Debug, Clone, PartialEq)]
struct Room(u64);

impl Layout for Room {
    const KIND: u64 = 0x726f_6f6d; // "room"

    fn params(&self) -> [u64; 8] {
        [self.0, 0, 0, 0, 0, 0, 0, 0]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        Ok(Self(params[0].min(1 << 30)))
    }

    fn bytes(&self) -> usize {
        self.0 as usize
    }
}

for_every_backing!(both_sides_have_the_same_layout_epoch_and_size, |backing| {
    let (maker, opener) = backing.pair(Room(10_000));
    for side in [&maker, &opener] {
        assert_eq!((side.layout(), side.epoch(), side.bytes()), (&Room(10_000), EPOCH, 10_000));
    }
});
