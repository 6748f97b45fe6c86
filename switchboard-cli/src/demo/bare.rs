//! What a call costs by itself: 64 bytes there and back, beside the limits of the machine and the socket.

use std::time::Duration;

use super::floors::Floors;
use super::progress::Progress;
use crate::failure::{Failure, Result};
use crate::samples::{Samples, Series};

/// What is sent there and back: 64 bytes, a line of the processor's cache.
pub type Body = [u64; 8];

/// How long the rounds may take together; a slow build or machine makes fewer of them.
const BUDGET: Duration = Duration::from_secs(6);

/// Enough that one flip of the machine does not decide a median.
const MOST_ROUNDS: usize = 81;

/// Round trips between two clock reads where a round trip is not much longer than a clock read.
const GROUP: u32 = 16;

/// How much is measured per round. Short, so that all contestants of a round meet the same machine.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Groups of 16 round trips with both sides awake.
    pub awake_groups: u32,
    /// Round trips with both sides asleep.
    pub asleep: u32,
}

impl Effort {
    /// With one processor, "awake" means a switch of processes per message: fewer will do.
    pub fn for_processors(two: bool) -> Self {
        if two { Self { awake_groups: 500, asleep: 200 } } else { Self { awake_groups: 5, asleep: 200 } }
    }
}

/// All contestants, round by round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bare {
    /// Our echo, both sides awake.
    pub awake: Series,
    /// A cache line each way.
    pub two_lines: Series,
    /// Our echo, both sides asleep.
    pub asleep: Series,
    /// A futex wake each way.
    pub futex: Series,
    /// The socket's echo.
    pub socket: Series,
}

/// Measures all of them in turn, round after round, on the thread and processor it is called on.
///
/// # Errors
/// When a call fails or gives back something else than it was sent.
pub fn run(
    effort: Effort,
    mut awake: impl FnMut(Body) -> Result<Body>,
    mut asleep: impl FnMut(Body) -> Result<Body>,
    mut socket: impl FnMut(Body) -> Result<Body>,
    floors: &mut Floors,
    progress: &mut Progress,
) -> Result<Bare> {
    let (groups, calls) = (effort.awake_groups as usize, effort.asleep as usize);
    let mut bare = Bare::default();
    progress.rounds(MOST_ROUNDS, BUDGET, || {
        bare.two_lines.push(floors.two_lines(effort.awake_groups, GROUP)?);
        bare.awake.push(time(groups, GROUP as usize, &mut awake)?);
        bare.futex.push(floors.futex(effort.asleep)?);
        bare.asleep.push(time(calls, 1, &mut asleep)?);
        bare.socket.push(time(calls, 1, &mut socket)?);
        Ok(())
    })?;
    Ok(bare)
}

/// Warms up with a tenth of the work, then times it. Every body is new and every reply is compared with it.
fn time(count: usize, group: usize, echo: &mut impl FnMut(Body) -> Result<Body>) -> Result<Samples> {
    let mut number = 0;
    let mut call = || {
        number += 1;
        let body = [number; 8];
        let reply = echo(body)?;
        if reply == body { Ok(()) } else { Err(Failure::new(format!("sent {body:?}, got back {reply:?}"))) }
    };
    Samples::time(count.div_ceil(10), group, &mut call)?;
    Samples::time(count, group, call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_is_not_the_request_is_an_error() {
        let told = time(3, 1, &mut |_| Ok([0; 8])).expect_err("1 is not 0");
        assert!(told.to_string().starts_with("sent [1, 1"), "{told}");
    }
}
