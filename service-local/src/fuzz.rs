//! What the fuzz targets of this crate run: what a stranger may say at the door and put into a lane.
//!
//! Only in this crate's own tests and where `--cfg fuzzing` is set, as `cargo fuzz` does; `fuzz/fuzz_targets` calls these
//! functions from libFuzzer, and the test below runs the inputs that are stored in `fuzz/corpus` again.

mod door;

pub use door::door;

use shm_ring::cells::BODY_WORDS;

use crate::frame::{Cell, Ending, Payload, REQUEST_INLINE};
use crate::handshake::{FromClient, FromServer, Misread, PROTOCOL_VERSION};

/// Any bytes as a message of either side: refused by an error that fits, or a message that reads back as itself.
pub fn handshakes(input: &[u8]) {
    // Half of the inputs get a right beginning, so that what is behind it is looked at too.
    let Some((right, rest)) = input.split_first() else { return };
    let mut bytes = Vec::with_capacity(rest.len() + 8);
    if right & 1 != 0 {
        bytes.extend_from_slice(b"swb1");
        bytes.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    }
    bytes.extend_from_slice(rest);
    match FromClient::read(&bytes) {
        Ok(message) => assert_eq!(FromClient::read(&message.to_bytes()), Ok(message)),
        Err(misread) => fits(&misread, &bytes),
    }
    match FromServer::read(&bytes) {
        Ok(message) => assert_eq!(FromServer::read(&message.to_bytes()), Ok(message)),
        Err(misread) => fits(&misread, &bytes),
    }
}

fn fits(misread: &Misread, bytes: &[u8]) {
    let is_ours = bytes.starts_with(b"swb1") && bytes.len() >= 8;
    let is_this_version = is_ours && bytes[4..8] == PROTOCOL_VERSION.to_le_bytes();
    match misread {
        Misread::Foreign(len) => assert!(!is_ours && *len == bytes.len()),
        Misread::Version { theirs } => assert!(is_ours && *theirs != PROTOCOL_VERSION),
        Misread::Malformed(len) => assert!(is_this_version && *len == bytes.len()),
    }
}

/// Any words as the body of a request, and as the tag of a reply: lengths inside the cell, and what is understood is
/// written as the words that were read.
pub fn call_frames(input: &[u8]) {
    let mut words = input.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let number = words.next().unwrap_or(0) as u32;
    if let Some(ending) = Ending::from_tag(number) {
        assert_eq!(ending.to_tag(), number & 0x1_ffff);
    }
    let mut cell = Cell::new();
    cell.body.iter_mut().zip(words).for_each(|(to, word)| *to = word);
    let before = cell.body;
    let Some((meta, payload)) = cell.open() else {
        assert!(cell.len_by_content().is_none() && before[2] >> 32 > REQUEST_INLINE as u64);
        return;
    };
    let len = cell.len_by_content().expect("it was understood");
    assert!(len <= BODY_WORDS * 8 && len.is_multiple_of(8), "{len} bytes of a body");
    if let Payload::Inline(len) = payload {
        assert!(len <= cell.payload().len(), "{len} bytes of payload");
    }
    let sealed = cell.seal(meta, payload).len();
    assert_eq!(sealed * 8, len);
    // The bits between the method and the length's half that nobody uses are not kept.
    let used = [u64::MAX, u64::MAX, 0xffff_ffff_03ff_ffff];
    for (i, word) in cell.body[..sealed].iter().enumerate() {
        assert_eq!(*word, before[i] & used.get(i).unwrap_or(&u64::MAX), "word {i}");
    }
}

#[cfg(test)]
mod tests {
    use super::{call_frames, door, handshakes};

    /// A target.
    type Target = fn(&[u8]);

    /// Every target by the name of its folder in `fuzz/corpus`.
    const TARGETS: [(&str, Target); 3] = [("handshakes", handshakes), ("call_frames", call_frames), ("door", door)];

    #[test]
    fn stored_inputs_and_changed_ones_keep_every_property() {
        for (name, target) in TARGETS {
            test_support::corpus::replay(name, target);
        }
    }
}
