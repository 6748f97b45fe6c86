//! The service `digits`: recognises handwritten digits.

use std::time::{Duration, Instant};

use switchboard::{Context, Status, service};

use crate::data;
use crate::knn::{Knn, Recognised};

/// Longest time that one self-check may take, in milliseconds.
pub const LONGEST_CHECK_MS: u32 = 1_000;

/// How well the service knows its own images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SelfCheck {
    /// How many learnt images were asked for.
    pub asked: u32,
    /// How many of these the others recognised.
    pub right: u32,
}

/// Recognises handwritten digits.
#[service]
pub trait Digits {
    /// Says which digit an image of 8 × 8 pixels (0 to 16, top row first) shows.
    fn recognise(&self, ctx: &Context<'_>, image: [u8; 64]) -> Result<Recognised, Status>;

    /// Asks for learnt images by all the others, from number `first` on, for `budget_ms` or until the caller no longer
    /// waits. Keeps its worker busy for all of that time.
    fn check_itself(&self, ctx: &Context<'_>, first: u32, budget_ms: u32) -> Result<SelfCheck, Status>;
}

/// The service's state: what it has learnt.
#[derive(Debug)]
pub struct Recogniser {
    knn: Knn,
}

impl Recogniser {
    /// Learns the images that come with the program.
    pub fn new() -> Self {
        Self { knn: Knn::learn(data::learning()) }
    }
}

impl Digits for Recogniser {
    fn recognise(&self, _ctx: &Context<'_>, image: [u8; 64]) -> Result<Recognised, Status> {
        self.knn.recognise(&image).map_err(|bad| Status::invalid_argument(bad.to_string()))
    }

    fn check_itself(&self, ctx: &Context<'_>, first: u32, budget_ms: u32) -> Result<SelfCheck, Status> {
        if budget_ms > LONGEST_CHECK_MS {
            let message = format!("a check of {budget_ms} ms was asked for, at most {LONGEST_CHECK_MS} ms are given");
            return Err(Status::invalid_argument(message));
        }
        let end = Instant::now() + Duration::from_millis(budget_ms.into());
        let mut check = SelfCheck { asked: 0, right: 0 };
        while Instant::now() < end && !ctx.is_cancelled() {
            check.right += u32::from(self.knn.recognises_its_own(first.wrapping_add(check.asked) as usize));
            check.asked += 1;
        }
        Ok(check)
    }
}
