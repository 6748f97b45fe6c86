//! Where the memory of segments lives, from outside.

#[path = "../support/mod.rs"]
mod support;

mod callers;
mod killed;
mod memory;
mod places;
mod races;
mod room;
mod stopped;
mod traced;

use std::fs;
use std::path::PathBuf;

use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::ready::ReadyLayout;
use shm_ring::{Error, Layout, Place, SegmentOptions};
use support::backings::{fresh_name, fresh_path};

const OPTIONS: SegmentOptions = SegmentOptions::new();

/// So many bytes, and nothing in them.
#[derive(Debug, Clone, PartialEq)]
struct Room(usize);

impl Layout for Room {
    const KIND: u64 = 0x726f_6f6d; // "room"

    fn params(&self) -> [u64; 8] {
        [self.0 as u64, 0, 0, 0, 0, 0, 0, 0]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        Ok(Self(params[0] as usize))
    }

    fn bytes(&self) -> usize {
        self.0
    }
}

/// Two blocks of a page.
fn arena() -> ArenaLayout {
    let class = |block, count| Class { block, count };
    ArenaLayout::new([class(4096, 2), class(0, 0), class(0, 0)]).expect("sizes in their range")
}

/// A place that leaves nothing behind, whatever becomes of the test.
struct Own(Place);

impl Own {
    fn both() -> [Self; 2] {
        [Self(Place::named(&fresh_name()).unwrap()), Self(Place::file(fresh_path()).unwrap())]
    }

    /// Everything in the directory that has to do with the place.
    fn files(&self) -> Vec<PathBuf> {
        let path = self.0.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let draft = format!(".{name}.");
        let is_ours = |file: &str| file == name || file.starts_with(&draft);
        let of_ours = |file: &PathBuf| is_ours(&file.file_name().unwrap().to_string_lossy());
        fs::read_dir(path.parent().unwrap()).unwrap().flatten().map(|entry| entry.path()).filter(of_ours).collect()
    }
}

impl std::ops::Deref for Own {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for file in self.files() {
            let _ = fs::remove_file(file);
        }
    }
}

fn lanes(count: u32) -> ReadyLayout {
    ReadyLayout::new(count)
}

/// As it stands in what a parent says to a child.
fn told(line: &str) -> Place {
    let (kind, name) = line.split_once(' ').unwrap();
    if kind == "named" { Place::named(name).unwrap() } else { Place::file(name).unwrap() }
}

fn tell(place: &Place) -> String {
    let path = place.path();
    match path.strip_prefix("/dev/shm") {
        Ok(name) => format!("named {}", name.display()),
        Err(_) => format!("file {}", path.display()),
    }
}
