//! The door of segments: a header, and what stands behind it, that anybody may have written.

use super::archive::Order;
use super::script::Script;
use crate::arena::{ArenaLayout, ArenaOwner, ArenaReader, BlockRef, Class};
use crate::cells::BODY_WORDS;
use crate::error::Error;
use crate::lane::{ClientLane, LaneLayout, ServerLane};
use crate::mpsc::{self, MpscLayout};
use crate::raw::Region;
use crate::raw::steps::at_most;
use crate::ready::{ReadyLayout, ReadySet};
use crate::segment::{HEADER_BYTES, LAYOUT_VERSION, Layout, NOTE_BYTES, Segment, hash_of};
use crate::spsc::{self, SpscLayout};
use crate::sync::Ordering;
use crate::typed::{TypeTag, Typed};

/// Words of a header that mean something.
const HEADER_WORDS: usize = 13;
/// Largest region that is made, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// The words of a header and of a note, each read once.
const STEPS: usize = HEADER_WORDS + NOTE_BYTES / 8;

/// A region of any content, opened as a segment of any kind: an error that names what is wrong, or a segment whose
/// layout fills the region exactly and writes the same header again, with ends that answer.
pub fn segment_headers(input: &[u8]) {
    let mut script = Script::new(input);
    match script.byte() % 7 {
        0 => spsc(&mut script),
        1 => mpsc(&mut script),
        2 => lane(&mut script),
        3 => ready(&mut script),
        4 => arena(&mut script),
        5 => _ = opened(&mut script, &lane_example().apart().1),
        _ => _ = opened(&mut script, &Typed::<Order, _>::new(spsc_example())),
    }
}

fn opened<L: Layout>(script: &mut Script<'_>, example: &L) -> Option<Segment<L>> {
    let (region, header) = image(script, example);
    let bytes = region.len();
    match at_most(STEPS, "opening a segment", || Segment::<L>::check(region)) {
        Ok(segment) => {
            assert_eq!(segment.layout().bytes(), bytes, "the layout does not fill the segment");
            let again = Segment::heap(segment.layout().clone(), segment.epoch()).memory();
            let mut words = [0; HEADER_WORDS];
            again.region().load_words(0, &mut words);
            assert_eq!(words, header, "two headers for one layout");
            Some(segment)
        }
        Err(error) => {
            let named =
                matches!(error, Error::BadSegment { .. } | Error::LayoutVersion { .. } | Error::TypeMismatch { .. });
            assert!(named, "{error}");
            None
        }
    }
}

/// Fills a region from the input, and says what its header is. A few bits of the input say which words of the header
/// are made right, as nothing that makes inputs would find a hash.
fn image<L: Layout>(script: &mut Script<'_>, example: &L) -> (Region, [u64; HEADER_WORDS]) {
    let right = script.byte();
    let units = script.below((MOST_BYTES - HEADER_BYTES) / 64 + 1);
    let mut header = [0; HEADER_WORDS];
    header.iter_mut().for_each(|word| *word = script.word());
    let mut bytes = HEADER_BYTES + units * 64;
    if right & 1 != 0 {
        header[0] = 0x5357_4244 << 32 | u64::from(LAYOUT_VERSION);
    }
    if right & 2 != 0 {
        header[1] = L::KIND;
    }
    let mut params = [0; 8];
    params.copy_from_slice(&header[5..]);
    if right & 64 != 0 {
        // Those of the example, but for two.
        params = example.params();
        (0..2).for_each(|_| params[script.below(8)] ^= 1_u64.rotate_left(script.byte().into()) & script.word());
        header[5..].copy_from_slice(&params);
    }
    if right & 4 != 0
        && let Ok(stated) = L::from_params(&params)
        && stated.bytes() <= MOST_BYTES
    {
        bytes = stated.bytes();
    }
    if right & 8 != 0 {
        header[2] = bytes as u64;
    }
    if right & 16 != 0 {
        header[3] = hash_of(header[1], bytes, &params);
    }
    let region = Region::heap(bytes);
    let behind = bytes - HEADER_BYTES;
    region.copy_in(HEADER_BYTES, script.bytes(behind));
    // The note stands at the end, whatever the kind.
    if right & 32 != 0 && behind >= NOTE_BYTES {
        region.copy_in(bytes - NOTE_BYTES, &TypeTag::of::<Order>().to_bytes());
    }
    for (i, word) in header.iter().enumerate() {
        region.word(i * 8).store(*word, Ordering::Relaxed);
    }
    (region, header)
}

fn arena_example() -> ArenaLayout {
    let classes = [(128, 3), (256, 2), (1024, 1)].map(|(block, count)| Class { block, count });
    ArenaLayout::new(classes).expect("classes that grow")
}

fn lane_example() -> LaneLayout {
    LaneLayout::new(8, arena_example(), arena_example()).expect("a power of two")
}

fn spsc_example() -> SpscLayout {
    SpscLayout::new(512).expect("a power of two").with_arena(arena_example())
}

fn spsc(script: &mut Script<'_>) {
    let Some(segment) = opened(script, &spsc_example()) else { return };
    if let Ok((mut producer, mut consumer)) = spsc::pair(&segment) {
        // Any answer is right.
        let _ = producer.try_send(&[1; 20]);
        let _ = consumer.try_recv().map(drop);
    }
}

fn mpsc(script: &mut Script<'_>) {
    let Some(segment) = opened(script, &MpscLayout::new(4).expect("a power of two").with_arena(arena_example())) else {
        return;
    };
    if let Ok((sender, mut receiver)) = mpsc::pair(&segment) {
        let _ = sender.try_send(&[1; 20]);
        let _ = receiver.try_recv().map(drop);
    }
}

fn lane(script: &mut Script<'_>) {
    let index = script.below(100) as u32;
    let Some(segment) = opened(script, &lane_example()) else { return };
    let ready = ReadySet::new(&Segment::heap(ReadyLayout::new(64), 1));
    match ClientLane::new(&segment, ready, index) {
        Ok(client) => {
            assert!(index < 64, "lane {index} of 64");
            let _ = client.requests.try_claim().map(|mut claim| claim.commit(1, 8, &[1]));
        }
        // There may be no such bit, a client already, or only a part of a lane.
        Err(Error::Corrupt { .. }) => assert!(index >= 64, "lane {index} of 64"),
        Err(Error::AlreadyAttached { .. }) => {}
        Err(error) => assert!(segment.layout().is_up(), "{error}"),
    }
    let Ok((_server, mut consumer)) = ServerLane::new(&segment) else { return };
    let _ = consumer.try_take(&mut [0; BODY_WORDS]);
}

fn ready(script: &mut Script<'_>) {
    let Some(segment) = opened(script, &ReadyLayout::new(70)) else { return };
    let ready = ReadySet::new(&segment);
    ready.take_ready(u32::MAX, |lane| assert!(lane < ready.lanes(), "lane {lane} of {}", ready.lanes()));
}

fn arena(script: &mut Script<'_>) {
    let Some(segment) = opened(script, &arena_example()) else { return };
    // The header may say that it has both already.
    let (Ok(owner), Ok(reader)) = (ArenaOwner::over(&segment), ArenaReader::over(&segment)) else { return };
    if let Some(block) = owner.allocate(owner.largest()) {
        assert!(reader.bytes(block.at(), owner.largest()).is_ok());
    }
    let at = BlockRef::from_word(script.word());
    let _ = reader.copy_out(at, &mut vec![0; script.below(MOST_BYTES)]);
    reader.discard(at);
}
