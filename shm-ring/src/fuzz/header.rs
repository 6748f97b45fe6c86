//! The door of segments: a header, and what stands behind it, that anybody may have written.

use super::archive::Order;
use super::script::Script;
use crate::arena::{ArenaLayout, ArenaOwner, ArenaReader, BlockRef};
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
    match script.byte() % 6 {
        0 => spsc(&mut script),
        1 => mpsc(&mut script),
        2 => lane(&mut script),
        3 => ready(&mut script),
        4 => arena(&mut script),
        _ => _ = opened::<Typed<Order, SpscLayout>>(&mut script),
    }
}

fn opened<L: Layout>(script: &mut Script<'_>) -> Option<Segment<L>> {
    let (region, header) = image(script, L::KIND);
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
fn image(script: &mut Script<'_>, kind: u64) -> (Region, [u64; HEADER_WORDS]) {
    let right = script.byte();
    let units = script.below((MOST_BYTES - HEADER_BYTES) / 64 + 1);
    let mut header = [0; HEADER_WORDS];
    header.iter_mut().for_each(|word| *word = script.word());
    let mut bytes = HEADER_BYTES + units * 64;
    if right & 1 != 0 {
        header[0] = 0x5357_4244 << 32 | u64::from(LAYOUT_VERSION);
    }
    if right & 2 != 0 {
        header[1] = kind;
    }
    if right & 4 != 0
        && let Some(stated) = stated_bytes(kind, &header)
        && stated <= MOST_BYTES
    {
        bytes = stated;
    }
    if right & 8 != 0 {
        header[2] = bytes as u64;
    }
    if right & 16 != 0 {
        let mut params = [0; 8];
        params.copy_from_slice(&header[5..]);
        header[3] = hash_of(header[1], bytes, &params);
    }
    let region = Region::heap(bytes);
    // The note stands at the end, whatever the kind.
    if right & 32 != 0 && bytes >= HEADER_BYTES + NOTE_BYTES {
        region.copy_in(bytes - NOTE_BYTES, &TypeTag::of::<Order>().to_bytes());
    }
    let rest = script.bytes(bytes - HEADER_BYTES - NOTE_BYTES.min(bytes - HEADER_BYTES));
    region.copy_in(HEADER_BYTES, rest);
    for (i, word) in header.iter().enumerate() {
        region.word(i * 8).store(*word, Ordering::Relaxed);
    }
    (region, header)
}

/// The size that parameters come to, if they are any kind's.
fn stated_bytes(kind: u64, header: &[u64; HEADER_WORDS]) -> Option<usize> {
    let mut params = [0; 8];
    params.copy_from_slice(&header[5..]);
    fn of<L: Layout>(params: &[u64; 8]) -> Option<usize> {
        L::from_params(params).ok().map(|layout| layout.bytes())
    }
    match kind {
        SpscLayout::KIND => of::<SpscLayout>(&params),
        MpscLayout::KIND => of::<MpscLayout>(&params),
        LaneLayout::KIND => of::<LaneLayout>(&params),
        ReadyLayout::KIND => of::<ReadyLayout>(&params),
        ArenaLayout::KIND => of::<ArenaLayout>(&params),
        _ => of::<Typed<Order, SpscLayout>>(&params),
    }
}

fn spsc(script: &mut Script<'_>) {
    let Some(segment) = opened::<SpscLayout>(script) else { return };
    if let Ok((mut producer, mut consumer)) = spsc::pair(&segment) {
        // Any answer is right.
        let _ = producer.try_send(&[1; 20]);
        let _ = consumer.try_recv().map(drop);
    }
}

fn mpsc(script: &mut Script<'_>) {
    let Some(segment) = opened::<MpscLayout>(script) else { return };
    if let Ok((sender, mut receiver)) = mpsc::pair(&segment) {
        let _ = sender.try_send(&[1; 20]);
        let _ = receiver.try_recv().map(drop);
    }
}

fn lane(script: &mut Script<'_>) {
    let index = script.below(100) as u32;
    let Some(segment) = opened::<LaneLayout>(script) else { return };
    let ready = ReadySet::new(&Segment::heap(ReadyLayout::new(64), 1));
    match ClientLane::new(&segment, ready, index) {
        Ok(client) => {
            assert!(index < 64, "lane {index} of 64");
            let _ = client.requests.try_claim().map(|mut claim| claim.commit(1, 8, &[1]));
        }
        Err(error) => assert!(index >= 64 && matches!(error, Error::Corrupt { .. }), "{error}"),
    }
    let (_server, mut consumer) = ServerLane::new(&segment);
    let _ = consumer.try_take(&mut [0; BODY_WORDS]);
}

fn ready(script: &mut Script<'_>) {
    let Some(segment) = opened::<ReadyLayout>(script) else { return };
    let ready = ReadySet::new(&segment);
    ready.take_ready(u32::MAX, |lane| assert!(lane < ready.lanes(), "lane {lane} of {}", ready.lanes()));
}

fn arena(script: &mut Script<'_>) {
    let Some(segment) = opened::<ArenaLayout>(script) else { return };
    let (owner, reader) = (ArenaOwner::over(&segment), ArenaReader::over(&segment));
    if let Some(block) = owner.allocate(owner.largest()) {
        assert!(reader.read(block.at(), owner.largest()).is_ok());
    }
    let _ = reader
        .read(BlockRef::from_word(script.word()), script.below(MOST_BYTES))
        .map(|bytes| assert!(bytes.len() < MOST_BYTES));
}
