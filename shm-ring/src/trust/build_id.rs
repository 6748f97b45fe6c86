//! Which build of a program this is: what two sides compare before one reads the other's archives unvalidated.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;

use crate::rendezvous::Peer;

/// Tells builds of programs apart: equal in two processes of one program file, different for any other.
///
/// Taken from the GNU build id that linkers write, else from all bytes of the program file. It is a check against
/// mistakes: whoever wants to can state somebody else's. Libraries that are loaded at run time are not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildId([u8; Self::BYTES]);

impl BuildId {
    /// Bytes of an id in a message.
    pub const BYTES: usize = 32;

    /// The id of this program; `None` if its file cannot be read. The first call reads a few hundred bytes of the file, all
    /// of it where the linker wrote no id (some milliseconds, so do not ask for nothing); later ones nothing.
    pub fn own() -> Option<Self> {
        static OWN: OnceLock<Option<BuildId>> = OnceLock::new();
        *OWN.get_or_init(|| File::open("/proc/self/exe").and_then(|program| Self::of(&program)).ok())
    }

    /// Whether a peer runs this very program, by the kernel's word: `/proc` shows its file. It does if that is our own file,
    /// or a copy of it with the same id of the linker's. `false` also if that cannot be seen. Some 20 µs.
    pub(crate) fn is_own_of(peer: &Peer) -> bool {
        let program = |process: &str| File::open(format!("/proc/{process}/exe"));
        let (Ok(ours), Ok(theirs)) = (program("self"), program(&peer.pid.to_string())) else { return false };
        let place = |file: &File| file.metadata().map(|file| (file.dev(), file.ino())).ok();
        // A program that runs cannot be written, so one file is one build. The bytes of two are not compared: this is
        // called where others wait.
        let is_same_file = place(&ours).is_some_and(|ours| Some(ours) == place(&theirs));
        let is_same_id = || linker_id(&theirs).is_some_and(|theirs| linker_id(&ours) == Some(theirs));
        // Asked last: the number was the peer's own until then.
        (is_same_file || is_same_id()) && !peer.is_dead()
    }

    /// As it stands in a message.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// An id that somebody else stated. Any bytes give one.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    fn of(program: &File) -> io::Result<Self> {
        // No file of another format, and no note, is an error: the bytes of the file say as much.
        match linker_id(program) {
            Some(id) => Ok(id),
            None => content_id(program),
        }
    }
}

/// Marks an id by its origin, so that the two kinds never meet.
const BY_LINKER: u8 = 1;
const BY_CONTENT: u8 = 2;

/// Most bytes of notes that are looked through: real ones have some dozens.
const MAX_NOTES: u64 = 4096;

/// Most program headers that are looked at.
const MAX_HEADERS: u64 = 64;

/// The build id among an ELF file's notes, if it is of a length that linkers write by themselves.
fn linker_id(program: &File) -> Option<BuildId> {
    const CLASS_64: u8 = 2;
    const LITTLE: u8 = 1;
    let mut elf = [0; 64];
    program.read_exact_at(&mut elf, 0).ok()?;
    if !elf.starts_with(&[0x7f, b'E', b'L', b'F', CLASS_64, LITTLE]) {
        return None;
    }
    let (table, size, count) = (word(&elf, 32, 8)?, word(&elf, 54, 2)?, word(&elf, 56, 2)?);
    (0..count.min(MAX_HEADERS)).find_map(|i| {
        const NOTES: u64 = 4;
        let mut header = [0; 56];
        program.read_exact_at(&mut header, table.checked_add(i * size)?).ok()?;
        let (kind, at, len) = (word(&header, 0, 4)?, word(&header, 8, 8)?, word(&header, 32, 8)?);
        if kind != NOTES {
            return None;
        }
        let mut notes = vec![0; len.min(MAX_NOTES) as usize];
        program.read_exact_at(&mut notes, at).ok()?;
        build_note(&notes)
    })
}

/// The build id in a row of notes: name length, content length, kind, then both, each padded to four bytes.
fn build_note(mut notes: &[u8]) -> Option<BuildId> {
    const HEAD: usize = 12;
    const BUILD_ID: u64 = 3;
    loop {
        let (name_len, len) = (word(notes, 0, 4)? as usize, word(notes, 4, 4)? as usize);
        let kind = word(notes, 8, 4)?;
        let content_at = HEAD + name_len.checked_next_multiple_of(4)?;
        let name = notes.get(HEAD..HEAD.checked_add(name_len)?)?;
        let content = notes.get(content_at..content_at.checked_add(len)?)?;
        if name == b"GNU\0" && kind == BUILD_ID {
            // Shorter ones are of somebody's choosing, and perhaps the same in every build.
            let mut id = [0; BuildId::BYTES];
            id[0] = BY_LINKER;
            let room = id[1..].get_mut(..len).filter(|_| len >= 16)?;
            room.copy_from_slice(content);
            return Some(BuildId(id));
        }
        notes = notes.get(content_at + len.checked_next_multiple_of(4)?..)?;
    }
}

/// A little-endian number of up to eight bytes.
fn word(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..len)?.copy_from_slice(bytes.get(at..at + len)?);
    Some(u64::from_le_bytes(word))
}

/// From the length and all bytes of a file.
fn content_id(program: &File) -> io::Result<BuildId> {
    // FNV-1a (Fowler, Noll, Vo) by words, turned so that the upper bits come down: against mistakes, not against forgers.
    let (mut hash, mut len) = (0xcbf2_9ce4_8422_2325_u64, 0_u64);
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = program.read_at(&mut bytes, len)?;
        if read == 0 {
            break;
        }
        len += read as u64;
        for chunk in bytes[..read].chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let mut id = [0; BuildId::BYTES];
    id[0] = BY_CONTENT;
    id[8..16].copy_from_slice(&len.to_le_bytes());
    id[16..24].copy_from_slice(&hash.to_le_bytes());
    Ok(BuildId(id))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut note: Vec<u8> =
            [name.len() as u32, content.len() as u32, kind].iter().flat_map(|n| n.to_le_bytes()).collect();
        for part in [name, content] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn a_program_has_one_id_and_another_program_another() {
        let own = BuildId::own().expect("this program's file can be read");
        let again = BuildId::of(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!((own, own), (again, BuildId::from_bytes(own.to_bytes())));
        assert_ne!(BuildId::of(&File::open("/bin/sh").unwrap()).unwrap(), own);
    }

    #[test]
    fn files_without_a_linkers_id_are_told_apart_by_their_bytes() {
        let ids = [b"one".as_slice(), b"two", b"one"].map(|content| {
            let fd = rustix::fs::memfd_create("program", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            let mut file = File::from(fd);
            file.write_all(content).unwrap();
            BuildId::of(&file).unwrap()
        });
        assert_eq!(ids[0], ids[2]);
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn the_id_is_found_behind_other_notes() {
        let mut notes = note(b"GNU\0", 1, &[7; 16]);
        notes.extend(note(b"Other\0", 3, &[8; 5]));
        notes.extend(note(b"GNU\0", 3, &[9; 20]));
        let found = build_note(&notes).expect("it is there").to_bytes();
        assert_eq!((found[0], &found[1..21], &found[21..]), (BY_LINKER, [9; 20].as_slice(), [0; 11].as_slice()));
    }

    #[test]
    fn impossible_notes_and_ids_that_say_little_give_none() {
        let short = note(b"GNU\0", 3, &[1; 4]);
        let long = note(b"GNU\0", 3, &[1; 40]);
        let cut = &note(b"GNU\0", 3, &[1; 20])[..20];
        let wild = [0xff; 64];
        for notes in [&short[..], &long, cut, &wild, &[]] {
            assert_eq!(build_note(notes), None);
        }
    }
}
