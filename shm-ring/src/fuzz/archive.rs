//! Payloads that are read as messages.

use rkyv::{Archive, Serialize};

use crate::typed::{Malformed, Plain, read};

/// A message with every kind of field that has something to check.
#[derive(Debug, Clone, PartialEq, Archive, Serialize)]
pub(super) struct Order {
    number: u64,
    symbol: String,
    rows: Vec<Vec<u16>>,
    note: Option<Box<str>>,
    side: Side,
    is_open: bool,
    mark: char,
}

#[derive(Debug, Clone, PartialEq, Archive, Serialize)]
#[cfg_attr(not(test), expect(dead_code, reason = "only senders make them, and targets read"))]
enum Side {
    Buy,
    Sell { at: u32 },
    Other(String),
}

/// Room for a payload at a multiple of 16, and a lead that puts its archive at one.
#[repr(C, align(16))]
struct Aligned([u8; 1024]);

impl Aligned {
    /// Puts all but the first byte of the input where that byte says: mostly where a receiver puts it, sometimes where
    /// nobody ought to.
    fn place(&mut self, input: &[u8]) -> &[u8] {
        let (place, payload) = input.split_first().unwrap_or((&0, &[]));
        let at = if place & 7 == 0 { usize::from(place >> 3) } else { 8 };
        let payload = &payload[..payload.len().min(self.0.len() - at)];
        let room = &mut self.0[at..][..payload.len()];
        room.copy_from_slice(payload);
        room
    }
}

/// Any bytes as messages of several types: refused, or a value all of whose references lie inside the payload.
pub fn archives(input: &[u8]) {
    let mut room = Aligned([0; 1024]);
    let payload = room.place(input);
    if let Some(order) = understood(read::<Order>(payload)) {
        look_at(order, payload);
    }
    if let Some(plain) = understood(read::<Plain<[u64; 2]>>(payload)) {
        assert_eq!(payload.len(), size_of_val(plain));
    }
    if let Some(numbers) = understood(read::<[u32]>(payload)) {
        assert_eq!(payload.len(), size_of_val(numbers));
    }
    assert_eq!(understood(read::<[u8]>(payload)), Some(payload));
}

fn understood<T>(answer: Result<T, Malformed>) -> Option<T> {
    answer.map_err(|error| assert!(error.to_string().len() < 200, "{error}")).ok()
}

/// Walks over everything that a message refers to.
fn look_at(order: &ArchivedOrder, payload: &[u8]) {
    let within = payload.as_ptr_range();
    let look = |bytes: &[u8]| {
        let place = bytes.as_ptr_range();
        let is_inside = within.start <= place.start && place.end <= within.end;
        assert!(bytes.is_empty() || is_inside, "a reference out of the payload");
        std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum ^ byte));
    };
    let text = |text: &str| {
        look(text.as_bytes());
        assert!(std::str::from_utf8(text.as_bytes()).is_ok(), "a text that is none");
    };
    text(&order.symbol);
    for row in order.rows.iter() {
        assert!(row.is_empty() || within.contains(&row.as_ptr().cast()), "a row out of the payload");
        std::hint::black_box(row.iter().fold(0, |sum, number| sum ^ number.to_native()));
    }
    order.note.iter().for_each(|note| text(note));
    match &order.side {
        ArchivedSide::Buy => {}
        ArchivedSide::Sell { at } => _ = std::hint::black_box(at.to_native()),
        ArchivedSide::Other(other) => text(other),
    }
    assert!(char::from_u32(order.mark.to_native().into()).is_some(), "a character that is none");
    std::hint::black_box((order.number.to_native(), order.is_open));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segment;
    use crate::spsc::{self, SpscLayout};
    use crate::typed::Sender;

    #[test]
    fn the_stored_examples_are_what_a_sender_writes() {
        let segment = Segment::heap(SpscLayout::new(4096).unwrap(), 1);
        let (producer, mut consumer) = spsc::pair(&segment).unwrap();
        let mut sender = Sender::<Order, _>::new(producer);
        for (name, side) in
            [("buy", Side::Buy), ("sell", Side::Sell { at: 7 }), ("other", Side::Other("by hand".into()))]
        {
            let (rows, note) = (vec![vec![1, 2, 3], vec![]], Some("a note that is long enough".into()));
            let order = Order { number: 5, symbol: "ABC".into(), rows, note, side, is_open: true, mark: '€' };
            sender.send(&order).unwrap();
            let input = [&[1], consumer.recv().unwrap().bytes()].concat();
            assert!(read::<Order>(Aligned([0; 1024]).place(&input)).is_ok(), "{name}");
            let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/archives/");
            assert!(std::fs::read(format!("{stored}{name}")).is_ok_and(|stored| stored == input), "{name}: {input:?}");
        }
    }
}
