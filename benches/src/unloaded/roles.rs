//! The two measured processes: a service and a caller of it, both ordinary users of the facade.
//!
//! They are driven by single bytes on their standard input and answer in lines that begin with [`ANSWER`], so that
//! whatever else a test harness prints is told apart.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use switchboard::{Archived, Context, Status, Switchboard, service};

use super::count_alloc::allocations;
use super::tracer;

/// Every answer of a role begins with this.
pub const ANSWER: char = '@';
/// To the service: begin to count allocations.
pub const BEGIN: u8 = b'b';
/// To the service: say how many there were since then.
pub const END: u8 = b'e';
/// To the caller: one window of calls with 64 B.
pub const WORDS: u8 = b'w';
/// To the caller: one window of calls with a slice.
pub const SLICE: u8 = b's';

/// Calls in one window. Few enough that a window is seldom disturbed by the rest of the machine.
pub const WINDOW_CALLS: u32 = 500;
/// Calls before each window, so that both sides are awake and every buffer has been allocated.
const WARM_CALLS: u32 = 200;
/// A call that takes so long, and twice as long as the usual one, waited for a processor: it was taken away from the
/// other side, by this system or by the one below it, which no count of preemptions shows.
const LONG: Duration = Duration::from_micros(10);
/// Elements of the slice argument. Fewer in a build without optimisation, whose handler would take so long for them that
/// the caller gives way, as it should.
const SLICE_LEN: u16 = if cfg!(debug_assertions) { 100 } else { 1000 };
const NAMESPACE: &str = "unloaded";
const SERVICE: &str = "unloaded.probe";
const TIMEOUT: Duration = Duration::from_secs(10);
/// Both sides awake: longer than any window, so that nobody goes to sleep in one.
const SPIN: Duration = Duration::from_secs(1);

/// What a role can fail with.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One method for each form of argument under test.
#[service]
pub trait Probe {
    /// Gives the words back, each plus one.
    fn words(&self, ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status>;
    /// Adds the values up, read in place.
    fn sum(&self, ctx: &Context<'_>, values: &Archived<Vec<f32>>) -> Result<f32, Status>;
}

struct Probing;

impl Probe for Probing {
    fn words(&self, _ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status> {
        Ok(body.map(|word| word.wrapping_add(1)))
    }

    fn sum(&self, _ctx: &Context<'_>, values: &Archived<Vec<f32>>) -> Result<f32, Status> {
        Ok(values.iter().map(|value| value.to_native()).sum())
    }
}

/// Serves until the standard input ends.
///
/// # Errors
/// What opening the board or serving answers, or a closed pipe.
pub fn serve(directory: &Path) -> Result<(), Failure> {
    let board = open(directory)?;
    let _running = board.serve(SERVICE, ProbeServer::new(Probing)).workers(1).start()?;
    say("ready")?;
    let mut begun = 0;
    while let Some(command) = next_command()? {
        match command {
            BEGIN => {
                say("begun")?;
                begun = allocations();
            }
            END => {
                let allocated = allocations() - begun;
                say(&allocated.to_string())?;
            }
            other => return Err(format!("the service knows no command {other}").into()),
        }
    }
    Ok(())
}

/// Calls in windows, one for each command, until the standard input ends.
///
/// # Errors
/// What connecting or a call answers, a wrong reply, or a closed pipe.
pub fn call(directory: &Path) -> Result<(), Failure> {
    let board = open(directory)?;
    let client = ProbeClient::connect(&board, SERVICE)?.with_timeout(TIMEOUT);
    let values: Vec<f32> = (0..SLICE_LEN).map(f32::from).collect();
    // Whole numbers below 2^24: the sum is exact, in whatever order it is taken.
    let expected: f32 = values.iter().sum();
    say("ready")?;
    while let Some(command) = next_command()? {
        let Counted { allocated, disturbed, begin_ns } = match command {
            WORDS => window(|number| {
                let body = [u64::from(number); 8];
                Ok(client.words(body)? == body.map(|word| word.wrapping_add(1)))
            })?,
            SLICE => window(|_| Ok(client.sum(&values)? == expected))?,
            other => return Err(format!("the caller knows no command {other}").into()),
        };
        say(&format!("{allocated} {disturbed} {begin_ns}"))?;
    }
    Ok(())
}

/// What the caller saw of a window.
struct Counted {
    /// Allocations of the counted calls, on this side.
    allocated: u64,
    /// One of them found the other side not awake.
    disturbed: bool,
    /// When the first of them was made.
    begin_ns: u64,
}

/// One window: warm calls, a mark, warm calls, the counted calls, warm calls, a mark.
///
/// A mark stops this thread for as long as the tracer needs, and the service meanwhile waits as it does for a caller
/// that pauses: hence warm calls behind the first one. A thread that makes a system call is stopped until the tracer has
/// seen it, and calls with it: so what was seen before the counted calls began was made before, and the warm calls at
/// the end are not over before all was seen that the counted ones did.
fn window(mut call: impl FnMut(u32) -> Result<bool, Failure>) -> Result<Counted, Failure> {
    let mut wrong_replies = 0;
    let warm = |wrong_replies: &mut u32, call: &mut dyn FnMut(u32) -> Result<bool, Failure>| {
        (0..WARM_CALLS).try_for_each(|number| call(number).map(|right| *wrong_replies += u32::from(!right)))
    };
    let mut times = [Duration::ZERO; WINDOW_CALLS as usize];
    warm(&mut wrong_replies, &mut call)?;
    tracer::mark();
    warm(&mut wrong_replies, &mut call)?;
    let begin_ns = tracer::now_ns();
    let before = allocations();
    for (number, time) in (0..).zip(&mut times) {
        // The clock is read in user space: no system call.
        let started = Instant::now();
        wrong_replies += u32::from(!call(number)?);
        *time = started.elapsed();
    }
    let after = allocations();
    warm(&mut wrong_replies, &mut call)?;
    tracer::mark();
    if wrong_replies > 0 {
        return Err(format!("{wrong_replies} replies were wrong").into());
    }
    times.sort_unstable();
    let (usual, longest) = (times[times.len() / 2], times[times.len() - 1]);
    Ok(Counted { allocated: after - before, disturbed: longest > LONG && longest > usual * 2, begin_ns })
}

fn open(directory: &Path) -> Result<Switchboard, Failure> {
    Ok(Switchboard::builder().in_process(false).runtime_dir(directory).namespace(NAMESPACE)?.spin(SPIN).open()?)
}

fn next_command() -> io::Result<Option<u8>> {
    let mut byte = [0];
    match io::stdin().read(&mut byte)? {
        0 => Ok(None),
        _ => Ok(Some(byte[0])),
    }
}

fn say(words: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "\n{ANSWER}{words}")?;
    stdout.flush()
}
