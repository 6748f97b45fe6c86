//! What is shown is what the ends counted.

use std::os::unix::fs::FileExt;

use shm_ring::arena::{ArenaLayout, CLASSES, Class};
use shm_ring::inspect::{self, Doze, Figures, Life, Onlooker};
use shm_ring::lane::LaneLayout;
use shm_ring::mpsc::{self, MpscLayout};
use shm_ring::ready::ReadyLayout;
use shm_ring::spsc::{self, Consumer, End, Producer, SpscLayout};
use shm_ring::typed::Typed;
use shm_ring::{ClaimError, Events, Segment, SegmentOptions};

use super::support::role::{Child, line};
use super::{Named, Site, looking, number, only_lane, only_spsc, told_ring, until};

/// Producer of a named ring: sends so many frames, giving up every fifth claim, then tells what it counted.
#[test]
#[ignore = "a role of a child process"]
fn role_spsc_producer() {
    let Some(mut line) = line() else { return };
    let mut producer = Producer::attach(&told_ring(&mut line), Events::default()).expect("nobody has it");
    let count = number(&mut line);
    let (mut sent, mut aborted, mut full, mut was_full) = (0_u64, 0_u64, 0_u64, false);
    while sent < count {
        match producer.try_claim(40) {
            Ok(mut claim) => {
                was_full = false;
                if (sent + aborted) % 5 == 4 {
                    drop(claim);
                    aborted += 1;
                } else {
                    claim.write(&[sent as u8; 40]);
                    claim.commit();
                    sent += 1;
                }
            }
            Err(ClaimError::Full { .. }) => {
                full += u64::from(!was_full);
                was_full = true;
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    line.say(format!("{sent} {aborted} {full}"));
    assert_eq!(line.hear(), None);
}

/// Its consumer: receives so many frames, and leaves the rest.
#[test]
#[ignore = "a role of a child process"]
fn role_spsc_consumer() {
    let Some(mut line) = line() else { return };
    let mut consumer = Consumer::attach(&told_ring(&mut line), Events::default()).expect("nobody has it");
    let count = number(&mut line);
    for i in 0..count {
        assert_eq!(consumer.recv().expect("the producer lives").bytes(), [i as u8; 40]);
    }
    line.say(count);
    assert_eq!(line.hear(), None);
}

#[test]
fn seed_05_a_third_process_reads_what_the_two_ends_of_a_ring_counted() {
    const SENT: u64 = 20_000;
    const RECEIVED: u64 = 19_990;
    let named = Named::new();
    drop(named.0.create(SpscLayout::new(4096).unwrap(), 5, &SegmentOptions::new()).unwrap());
    let start = |role: &str, count: u64| {
        let child = Child::start(role);
        child.say(named.0.path().display());
        child.say(count);
        child
    };
    let mut producer = start("figures::role_spsc_producer", SENT);
    let mut consumer = start("figures::role_spsc_consumer", RECEIVED);
    let told = producer.hear();
    let counted: Vec<u64> = told.split(' ').map(|word| word.parse().unwrap()).collect();
    assert_eq!(consumer.hear(), RECEIVED.to_string());

    let seen = only_spsc(producer.pid());
    assert_eq!([seen.sent, seen.aborted, seen.full], *counted);
    assert_eq!((seen.received, seen.frames), (RECEIVED, SENT - RECEIVED));
    // Each frame takes its header and payload, 48 bytes; what a wrap may lose was received long ago.
    assert_eq!((seen.used, seen.tail - seen.head), (10 * 48, 10 * 48));
    assert_eq!((seen.producer.pid, seen.producer.end), (producer.pid(), End::Attached));
    assert_eq!((seen.consumer.pid, seen.consumer.end), (consumer.pid(), End::Attached));
    assert_eq!((seen.producer.rescues, seen.consumer.rescues), (0, 0));
    // The same by all ways in.
    assert_eq!(only_spsc(consumer.pid()), seen);
    let report = Onlooker::at(&named.0).unwrap().look().unwrap();
    assert_eq!((report.figures, report.epoch), (Figures::Spsc(seen), 5));
    let line = report.to_string();
    assert!(line.starts_with("spsc bytes=") && !line.contains('\n'), "{line}");
    assert!(line.contains(&format!(" sent={SENT} received={RECEIVED} ")), "{line}");

    producer.kill();
    drop(consumer);
    let after = Onlooker::at(&named.0).unwrap().look().unwrap();
    assert_eq!(after.figures, Figures::Spsc(seen), "nobody was there to say how they ended");
}

/// Consumer of a queue: receives so many frames each time it is told, and tells what it counted.
#[test]
#[ignore = "a role of a child process"]
pub fn role_queue_consumer() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let mut queue = site.options().create(&site.address).expect("nobody serves here");
    line.say("created");
    while let Some(count) = line.hear() {
        for _ in 0..count.parse::<u64>().expect("a number") {
            drop(queue.recv().expect("it is not closed"));
        }
        line.say(format!("{} {}", queue.len(), queue.producers()));
    }
}

/// Producer: each time it is told, sends so many frames, after a claim that it gives up.
#[test]
#[ignore = "a role of a child process"]
pub fn role_queue_producer() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let sender = site.options().open(&site.address).expect("somebody serves here");
    line.say("open");
    while let Some(count) = line.hear() {
        drop(sender.claim(8).expect("room"));
        for i in 0..count.parse::<u64>().expect("a number") {
            sender.send(&i.to_le_bytes()).expect("the consumer lives");
        }
        line.say("sent");
    }
}

#[test]
fn seed_05_a_third_process_sees_a_whole_queue_with_its_lanes_and_totals() {
    let site = Site::new();
    let mut consumer = site.child("figures::role_queue_consumer");
    assert_eq!(consumer.hear(), "created");
    let mut producers = [(); 2].map(|()| site.child("figures::role_queue_producer"));
    for (producer, count) in producers.iter_mut().zip([20, 30]) {
        assert_eq!(producer.hear(), "open");
        producer.say(count);
        assert_eq!(producer.hear(), "sent");
    }
    let report = site.look();
    assert_eq!((report.consumer, report.ready.queue.consumer), (Life::Running, consumer.pid()));
    assert_eq!((report.ready.queue.lanes, report.ready.queue.lanes_ever), (2, 2));
    let mut lanes: Vec<_> =
        report.lanes.iter().map(|lane| (lane.ring.producer.pid, lane.ring.len, lane.ring.committed)).collect();
    lanes.sort_by_key(|(_, len, _)| *len);
    // The abandoned claims take a cell until the consumer steps over them.
    assert_eq!(lanes, [(producers[0].pid(), 21, 20), (producers[1].pid(), 31, 30)]);
    assert!(report.lanes.iter().all(|lane| lane.producer == Life::Running && lane.ring.capacity == 64));
    assert_eq!((report.len(), report.received()), (52, 0));

    consumer.say(50);
    assert_eq!(consumer.hear(), "0 2");
    let report = site.look();
    assert_eq!((report.len(), report.received(), report.aborted(), report.full()), (0, 50, 2, 0));
    assert_eq!((report.ready.queue.rescues, report.ready.queue.thrown_out), (0, 0));
    let text = report.to_string();
    assert_eq!(text.lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), ["queue", "lane", "lane"]);
    assert!(text.contains(" consumer_life=running lag=0 received=50 aborted=2 "), "{text}");

    // What a lane counted is kept when it is given up, which the consumer does when it looks at it next.
    let [first, mut second] = producers;
    first.kill();
    let mut more = 0;
    until("the lane is given up", || {
        second.say(1);
        assert_eq!(second.hear(), "sent");
        consumer.say(1);
        consumer.hear();
        more += 1;
        site.look().ready.queue.lanes == 1
    });
    let report = site.look();
    assert_eq!(only_lane(&report).producer.pid, second.pid());
    assert_eq!((report.received(), report.aborted()), (50 + more, 2 + more));
    assert_eq!(report.ready.queue.lanes_ever, 2);
}

#[test]
fn a_consumer_that_found_nothing_is_seen_asleep_and_its_looks_are_counted() {
    let site = Site::new();
    let mut consumer = site.child("figures::role_queue_consumer");
    assert_eq!(consumer.hear(), "created");
    let mut producer = site.child("figures::role_queue_producer");
    assert_eq!(producer.hear(), "open");
    consumer.say(3);
    until("it sleeps", || site.look().ready.doze == Doze::Asleep);
    let asleep = site.look();
    assert!(asleep.ready.queue.empty > 0 && !only_lane(&asleep).polled, "{asleep}");
    producer.say(3);
    assert_eq!(consumer.hear(), "0 1");
    let awake = site.look();
    assert!(awake.ready.rings > asleep.ready.rings, "{awake}");
    assert_eq!(awake.received(), 3);
}

#[test]
fn a_full_lane_and_a_claim_that_is_held_are_seen() {
    let site = Site::new();
    let _queue = site.options().create(&site.address).unwrap();
    let sender = site.options().open(&site.address).unwrap();
    let held = sender.claim(8).unwrap();
    for _ in 0..63 {
        sender.try_send(b"x").unwrap();
    }
    for _ in 0..5 {
        assert!(matches!(sender.try_send(b"x"), Err(ClaimError::Full { .. })));
    }
    let report = site.look();
    let lane = only_lane(&report);
    assert_eq!((lane.len, lane.committed, lane.full, report.full()), (64, 63, 5, 5));
    drop(held);
}

#[test]
fn a_producer_that_was_thrown_out_is_counted() {
    let site = Site::new();
    let mut queue = site.options().create(&site.address).unwrap();
    let mut producer = site.child("figures::role_queue_producer");
    assert_eq!(producer.hear(), "open");
    let lane = std::fs::read_dir(format!("/proc/{}/fd", producer.pid())).unwrap().map(|entry| entry.unwrap().path());
    let mut lane = lane.filter(|path| std::fs::read_link(path).unwrap().ends_with("memfd:queue-lane (deleted)"));
    let lane = std::fs::File::options().write(true).open(lane.next().unwrap()).unwrap();
    producer.say(1);
    assert_eq!(producer.hear(), "sent");
    // Every cell is committed for the sixth time, which nobody can be that far ahead with.
    let word = (5_u64 << 1 | 1) << 23;
    lane.write_all_at(&word.to_le_bytes().repeat(64 * 16), 1152).unwrap();
    until("it is thrown out", || queue.try_recv().is_err() && queue.thrown_out() == 1);
    let counts = site.look().ready.queue;
    assert_eq!((counts.thrown_out, counts.lanes, counts.lanes_ever), (1, 0, 1));
    assert!(counts.empty > 0);
}

#[test]
fn a_name_that_nobody_serves_is_not_found() {
    let site = Site::new();
    let error = site.options().inspect(&site.address).unwrap_err();
    assert!(matches!(error, shm_ring::Error::NotFound { .. }), "{error}");
    assert!(!site.dir.exists(), "looking makes no directory");
    assert!(matches!(inspect::queue("not/an/address"), Err(shm_ring::Error::BadAddress { .. })));
}

#[test]
fn every_kind_of_segment_is_shown_under_the_process_that_has_it() {
    let options = SegmentOptions::new();
    let blocks = [Class { block: 4096, count: 3 }, Class::default(), Class::default()];
    const { assert!(CLASSES == 3) };
    let arena = ArenaLayout::new(blocks).unwrap();
    let spsc = Segment::memfd("spsc", Typed::<u64, _>::new(SpscLayout::new(128).unwrap()), 901).unwrap();
    let mpsc = Segment::memfd("mpsc", Typed::<[u16], _>::new(MpscLayout::new(4).unwrap()), 902).unwrap();
    let ready = Segment::memfd("ready", ReadyLayout::new(100).for_streams(), 903).unwrap();
    let lane = Segment::memfd("lane", LaneLayout::new(4, arena, arena).unwrap(), 904).unwrap();
    let blocks = Segment::memfd("arena", arena, 905).unwrap();
    let named = Named::new();
    let board = named.0.create(MpscLayout::new(8).unwrap(), 906, &options).unwrap();
    let _held = (&spsc, &mpsc, &ready, &lane, &blocks, &board);

    let _looking = looking();
    let survey = inspect::process(std::process::id()).unwrap();
    let ours = survey.found.iter().filter(|found| (901..=906).contains(&found.onlooker.epoch()));
    let mut reports: Vec<_> = ours.map(|found| found.look().unwrap()).collect();
    reports.sort_by_key(|report| report.epoch);
    let shown: Vec<_> = reports.iter().map(|report| report.to_string()).collect();
    let begins: Vec<_> = shown.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(begins, ["spsc", "mpsc", "ready", "lane", "arena", "mpsc"]);
    assert!(reports.iter().all(|report| report.pids == [std::process::id()]));
    assert_eq!(reports[0].name.as_deref(), Some("/memfd:spsc"));
    assert_eq!(reports[5].name.as_deref(), named.0.path().to_str());
    assert_eq!(reports[0].bytes, spsc.0.bytes());
    assert!(reports[0].message.as_deref().is_some_and(|message| message.contains("u64")), "{}", shown[0]);
    assert!(reports[1].message.as_deref().is_some_and(|message| message.contains("[u16]")), "{}", shown[1]);
    assert_eq!(reports[5].message, None);
    assert!(matches!(reports[2].figures, Figures::Ready(set) if set.capacity == 100 && set.doze == Doze::Awake));
    assert!(matches!(reports[3].figures, Figures::Lane(lane) if lane.capacity == 4 && lane.calls == 0));
    assert!(matches!(reports[4].figures, Figures::Arena(arena) if arena.blocks == 3 && arena.largest == 4096));
}

#[test]
fn a_segment_of_two_processes_is_one_with_both() {
    let named = Named::new();
    let _ours = named.0.create(SpscLayout::new(4096).unwrap(), 17, &SegmentOptions::new()).unwrap();
    let mut producer = Child::start("figures::role_spsc_producer");
    producer.say(named.0.path().display());
    producer.say(3);
    producer.hear();
    let _looking = looking();
    let survey = inspect::machine().unwrap();
    let path = named.0.path();
    let both: Vec<_> = survey.found.iter().filter(|found| Some(found.name.as_str()) == path.to_str()).collect();
    let mut pids = [std::process::id(), producer.pid()];
    pids.sort_unstable();
    assert_eq!(both.iter().map(|found| found.pids.as_slice()).collect::<Vec<_>>(), [pids]);
}

#[test]
fn a_call_lanes_requests_and_calls_are_counted() {
    let layout = LaneLayout::new(4, ArenaLayout::default(), ArenaLayout::default()).unwrap();
    let (segment, fd) = Segment::memfd("calls", layout, 907).unwrap();
    let set = shm_ring::ready::ReadySet::new(&Segment::heap(ReadyLayout::new(1), 1));
    let client = shm_ring::lane::ClientLane::new(&segment, set, 0).unwrap();
    let (server, mut requests) = shm_ring::lane::ServerLane::new(&segment).unwrap();
    let onlooker = Onlooker::open(std::os::fd::AsFd::as_fd(&fd)).unwrap();
    let look = || match onlooker.look().unwrap().figures {
        Figures::Lane(lane) => lane,
        other => panic!("{other}"),
    };
    let mut calls = Vec::new();
    for _ in 0..3 {
        let mut call = client.slots.acquire().unwrap();
        call.arm();
        calls.push(call);
        client.requests.try_claim().unwrap().commit(1, 0, &[]);
    }
    drop(client.requests.try_claim().unwrap());
    assert_eq!((look().waiting, look().taken, look().in_flight, look().calls), (3, 0, 3, 3));
    let mut body = [0; shm_ring::cells::BODY_WORDS];
    while requests.try_take(&mut body).unwrap().is_some() {}
    assert_eq!((look().waiting, look().taken, look().closed), (0, 4, false));
    server.close();
    assert!(look().closed);
}

#[test]
fn what_an_onlooker_reads_is_what_a_control_of_the_ring_reads() {
    let (frames, frames_fd) = Segment::memfd("frames", SpscLayout::new(4096).unwrap(), 1).unwrap();
    let (cells, cells_fd) = Segment::memfd("cells", MpscLayout::new(8).unwrap(), 1).unwrap();
    let (mut producer, mut consumer) = spsc::pair(&frames).unwrap();
    let (sender, mut receiver) = mpsc::pair(&cells).unwrap();
    for i in 0..5 {
        producer.try_send(&[i; 33]).unwrap();
        sender.try_send(&[i; 33]).unwrap();
    }
    drop(consumer.try_recv().unwrap());
    drop(receiver.try_recv().unwrap());
    drop(producer);
    let look = |fd| Onlooker::open(std::os::fd::AsFd::as_fd(fd)).unwrap().look().unwrap().figures;
    let by_control = spsc::Control::over(&frames, Events::default()).stats();
    assert_eq!(look(&frames_fd), Figures::Spsc(by_control));
    assert_eq!((by_control.frames, by_control.producer.end), (4, End::Closed));
    let by_control = mpsc::Control::over(&cells, Events::default()).stats();
    assert_eq!(look(&cells_fd), Figures::Mpsc(by_control));
    assert_eq!((by_control.len, by_control.committed), (4, 4));
}
