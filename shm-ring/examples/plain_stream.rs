//! A stream of plain-old-data over a ring in a file: one process measures, another one averages.
//!
//! `cargo run --release -p shm-ring --example plain_stream`
//!
//! The ring's file states the type of its messages. Whoever opens it with another type is refused, as is shown here.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use bytemuck::{Pod, Zeroable};
use shm_ring::spsc::{Consumer, Events, Producer, SpscLayout};
use shm_ring::typed::{Plain, Typed};
use shm_ring::{Place, RecvError, Segment, SegmentOptions};

/// One reading of a sensor. No padding, and every bit pattern is a value: so it travels as it is.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Reading {
    at_ns: u64,
    sensor: u32,
    value: f32,
}

/// What a program with another idea of a reading would open.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WiderReading {
    at_ns: u64,
    sensor: u64,
    value: f64,
}

type Readings = Typed<Plain<Reading>, SpscLayout>;

const READINGS: u32 = 2_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        Some(path) => measure(Path::new(&path)),
        None => average(),
    }
}

/// The measuring process: opens the file and sends.
fn measure(path: &Path) -> Result<(), Box<dyn Error>> {
    let segment: Segment<Readings> = Place::file(path)?.open(&SegmentOptions::new())?;
    let mut sender = segment.sender(|ring| Producer::attach(ring, Events::default()))?;
    let began = Instant::now();
    for i in 0..READINGS {
        let at_ns = u64::try_from(began.elapsed().as_nanos())?;
        sender.send(&Plain(Reading { at_ns, sensor: i % 8, value: (i % 8) as f32 + 0.5 }))?;
    }
    Ok(()) // Dropping the sender ends the stream.
}

fn average() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("readings-{}", std::process::id()));
    let place = Place::file(&path)?;
    let layout = Readings::new(SpscLayout::new(1 << 18)?);
    let segment = place.create(layout, 1, &SegmentOptions::new())?;
    let mut receiver = segment.receiver(|ring| Consumer::attach(ring, Events::default()))?;

    let refused = place.open::<Typed<Plain<WiderReading>, SpscLayout>>(&SegmentOptions::new());
    println!("opened with another type: {}", refused.err().ok_or("a wider reading was taken for a reading")?);

    let mut child = Command::new(std::env::current_exe()?).arg(&path).spawn()?;
    let (mut sums, mut counts) = ([0.0; 8], [0_u32; 8]);
    let began = Instant::now();
    loop {
        match receiver.recv() {
            Ok(received) => {
                let reading = received.read()?;
                sums[reading.sensor as usize] += f64::from(reading.value);
                counts[reading.sensor as usize] += 1;
            }
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{READINGS} readings of 16 bytes in {seconds:.3} s");
    for (sensor, (sum, count)) in sums.iter().zip(counts).enumerate() {
        println!("sensor {sensor}: mean {:.3} of {count}", sum / f64::from(count));
    }
    child.wait()?;
    place.remove()?;
    Ok(())
}
