//! The service `echo`: gives back what it gets, to show what a call costs by itself.

use switchboard::{Context, Status, service};

/// Gives back what it gets.
#[service]
pub trait Echo {
    /// Gives `body` back.
    fn echo(&self, ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status>;
}

/// The service has no state.
#[derive(Debug)]
pub struct Mirror;

impl Echo for Mirror {
    fn echo(&self, _ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status> {
        Ok(body)
    }
}
