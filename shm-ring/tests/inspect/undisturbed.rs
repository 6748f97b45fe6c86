//! Looking changes nothing.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use shm_ring::inspect::{self, Figures, Onlooker};
use shm_ring::mpsc::MpscLayout;
use shm_ring::spsc::SpscLayout;
use shm_ring::{Error, Segment, SegmentOptions, mpsc, spsc};

use super::{Named, Site, counting, looking};

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().expect("it is open").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("it is whole");
    bytes
}

#[test]
fn not_a_byte_of_a_ring_at_rest_is_changed_by_looks() {
    let (frames, frames_fd) = Segment::memfd("frames", SpscLayout::new(4096).unwrap(), 1).unwrap();
    let (cells, cells_fd) = Segment::memfd("cells", MpscLayout::new(8).unwrap(), 1).unwrap();
    let (mut producer, _consumer) = spsc::pair(&frames).unwrap();
    let (sender, _receiver) = mpsc::pair(&cells).unwrap();
    producer.try_send(b"frame").unwrap();
    sender.try_send(b"frame").unwrap();
    let files = [File::from(frames_fd), File::from(cells_fd)];
    let _looking = looking();
    let before = files.each_ref().map(bytes_of);
    for _ in 0..100 {
        for file in &files {
            Onlooker::open(file.as_fd()).unwrap().look().unwrap();
        }
        for found in inspect::process(std::process::id()).unwrap().found {
            // Those of other tests may be anything.
            let _ = found.look();
        }
    }
    assert!(before == files.each_ref().map(bytes_of));
}

#[test]
fn a_sleeping_consumer_sleeps_on_and_a_queue_counts_no_visitor() {
    let site = Site::new();
    let mut consumer = site.child("figures::role_queue_consumer");
    assert_eq!(consumer.hear(), "created");
    let mut producer = site.child("figures::role_queue_producer");
    assert_eq!(producer.hear(), "open");
    consumer.say(1);
    super::until("it sleeps", || site.look().ready.doze == inspect::Doze::Asleep);
    let before = site.look();
    for _ in 0..20 {
        let mut report = site.look();
        // Its own safety time-out makes it look.
        report.ready.queue.empty = before.ready.queue.empty;
        report.ready.doze = before.ready.doze;
        assert_eq!(report, before);
    }
    producer.say(1);
    assert_eq!(consumer.hear(), "0 1");
}

#[test]
fn the_memory_is_mapped_for_reading_only() {
    let _counting = counting();
    let (_segment, fd) = Segment::memfd("seen-mapping", SpscLayout::new(1 << 16).unwrap(), 1).unwrap();
    let mappings = || {
        let book = std::fs::read_to_string("/proc/self/maps").unwrap();
        let of_it = book.lines().filter(|line| line.contains("/memfd:seen-mapping"));
        let mut rights: Vec<_> = of_it.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
        rights.sort_unstable();
        rights
    };
    assert_eq!(mappings(), ["rw-s"]);
    let onlooker = Onlooker::open(fd.as_fd()).unwrap();
    assert_eq!(mappings(), ["r--s", "rw-s"]);
    drop(onlooker);
    assert_eq!(mappings(), ["rw-s"]);
}

#[test]
fn a_descriptor_that_is_open_for_reading_is_enough() {
    let named = Named::new();
    let _segment = named.0.create(SpscLayout::new(4096).unwrap(), 1, &SegmentOptions::new()).unwrap();
    let file = File::open(named.0.path()).unwrap();
    assert!(matches!(Onlooker::open(file.as_fd()).unwrap().look().unwrap().figures, Figures::Spsc(_)));
}

#[test]
fn a_place_that_is_only_looked_at_counts_as_unused() {
    let named = Named::new();
    let options = SegmentOptions::new();
    drop(named.0.create(SpscLayout::new(4096).unwrap(), 1, &options).unwrap());
    let onlooker = Onlooker::at(&named.0).unwrap();
    let second = named.0.create(SpscLayout::new(4096).unwrap(), 2, &options).unwrap();
    assert_eq!((onlooker.look().unwrap().epoch, second.epoch()), (1, 2));
    assert!(matches!(named.0.create(SpscLayout::new(4096).unwrap(), 3, &options), Err(Error::Taken { .. })));
}

#[test]
fn under_load_every_frame_arrives_and_the_figures_stay_possible() {
    const FRAMES: u64 = 50_000;
    let (segment, fd) = Segment::memfd("loaded", MpscLayout::new(64).unwrap(), 1).unwrap();
    let (sender, mut receiver) = mpsc::pair(&segment).unwrap();
    let is_over = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let onlooker = Onlooker::open(fd.as_fd()).unwrap();
            let (mut looks, mut last) = (0_u64, (0, 0));
            while !is_over.load(Ordering::Relaxed) {
                let Figures::Mpsc(seen) = onlooker.look().unwrap().figures else { panic!("it is a ring of cells") };
                assert!(seen.len <= 64 && seen.committed <= seen.len, "{seen:?}");
                assert!(
                    seen.claimed >= seen.given_back && seen.claimed >= last.0 && seen.given_back >= last.1,
                    "{seen:?}"
                );
                last = (seen.claimed, seen.given_back);
                looks += 1;
            }
            looks
        });
        scope.spawn(move || (0..FRAMES).for_each(|i| sender.send(&i.to_le_bytes()).expect("the receiver lives")));
        for i in 0..FRAMES {
            assert_eq!(receiver.recv().unwrap().bytes(), i.to_le_bytes());
        }
        is_over.store(true, Ordering::Relaxed);
        looks.join().unwrap()
    });
    println!("{looks} looks during {FRAMES} frames");
    assert!(looks > 0);
}

#[test]
fn a_segment_that_is_dropped_gives_its_descriptor_back() {
    let _counting = counting();
    let held = || {
        let names = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = names.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.filter(|target| target.ends_with("memfd:seen-fd (deleted)")).count()
    };
    let (segment, fd) = Segment::memfd("seen-fd", SpscLayout::new(128).unwrap(), 1).unwrap();
    let opened = Segment::<SpscLayout>::open(fd.as_fd()).unwrap();
    assert_eq!(held(), 3);
    drop(fd);
    let onlooker = inspect::process(std::process::id()).unwrap();
    assert_eq!(held(), 2, "an onlooker of sealed memory keeps none");
    drop((segment, opened, onlooker));
    assert_eq!(held(), 0);
}
