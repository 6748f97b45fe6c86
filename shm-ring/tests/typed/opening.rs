//! Two programs that disagree about the type find out before the first message.

use std::os::fd::AsFd;

use shm_ring::spsc::SpscLayout;
use shm_ring::typed::{Plain, Typed};
use shm_ring::{Error, Place, Segment, SegmentOptions};

use super::support::backings::{EPOCH, fresh_path};
use super::{Order, Quote, ring};

#[test]
fn programs_that_disagree_about_the_type_learn_it_when_they_open_the_segment() {
    let (_made, fd) = Segment::memfd("orders", Typed::<Order, _>::new(ring()), EPOCH).unwrap();
    let opened = Segment::<Typed<Plain<Quote>, SpscLayout>>::open(fd.as_fd());
    let Err(Error::TypeMismatch { ours, theirs }) = &opened else { panic!("{opened:?}") };
    assert!(ours.starts_with("`Quote` (plain data, 24 bytes aligned to 8), layout "), "{ours}");
    assert!(
        theirs.starts_with("`Order` (rkyv 0.8 archive, little-endian, 32-bit offsets, aligned, root of "),
        "{theirs}"
    );
    let text = opened.unwrap_err().to_string();
    assert!(text.contains("`Quote`") && text.contains("`Order`"), "{text}");
}

#[test]
fn segments_with_a_name_compare_the_type_as_well() {
    let place = Place::file(fresh_path()).unwrap();
    let options = SegmentOptions::new();
    let made = place.create(Typed::<[f32], _>::new(ring()), EPOCH, &options).unwrap();
    let opened = place.open::<Typed<[f64], SpscLayout>>(&options);
    let joined = place.open_or_create(Typed::<[i32], _>::new(ring()), EPOCH, &options);
    drop(made);
    place.remove().unwrap();
    assert!(matches!(opened, Err(Error::TypeMismatch { .. })), "{opened:?}");
    assert!(matches!(joined, Err(Error::TypeMismatch { .. })), "{joined:?}");
}

#[test]
fn one_type_sent_as_an_archive_and_as_plain_data_is_a_mismatch() {
    let (_made, fd) = Segment::memfd("numbers", Typed::<u64, _>::new(ring()), EPOCH).unwrap();
    let opened = Segment::<Typed<Plain<u64>, SpscLayout>>::open(fd.as_fd());
    assert!(matches!(opened, Err(Error::TypeMismatch { .. })), "{opened:?}");
}

#[test]
fn a_ring_without_a_type_and_one_with_are_different_kinds() {
    let (_made, fd) = Segment::memfd("bytes", ring(), EPOCH).unwrap();
    let opened = Segment::<Typed<[u8], SpscLayout>>::open(fd.as_fd());
    assert!(matches!(opened, Err(Error::BadSegment { what: "kind", .. })), "{opened:?}");
    let (_made, fd) = Segment::memfd("typed", Typed::<[u8], _>::new(ring()), EPOCH).unwrap();
    let opened = Segment::<SpscLayout>::open(fd.as_fd());
    assert!(matches!(opened, Err(Error::BadSegment { what: "kind", .. })), "{opened:?}");
}
