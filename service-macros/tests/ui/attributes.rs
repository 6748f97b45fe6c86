use service_core::{Context, Status};
use service_macros::service;

#[service(crate = service_core::__private)]
trait Attributes {
    #[timeout(2)]
    fn number(&self, ctx: &Context<'_>) -> Result<(), Status>;
    #[timeout("2 fortnights")]
    fn unit(&self, ctx: &Context<'_>) -> Result<(), Status>;
    #[timeout("0s")]
    fn zero(&self, ctx: &Context<'_>) -> Result<(), Status>;
    #[priority(urgent)]
    fn priority(&self, ctx: &Context<'_>) -> Result<(), Status>;
    #[idempotent(true)]
    fn idempotent(&self, ctx: &Context<'_>) -> Result<(), Status>;
    #[batch]
    fn bare(&self, calls: &[Context<'_>]) -> Vec<Result<(), Status>>;
    #[batch(max = 0, delay = "1ms")]
    fn none(&self, calls: &[Context<'_>]) -> Vec<Result<(), Status>>;
    #[batch(max = 8)]
    fn undelayed(&self, calls: &[Context<'_>]) -> Vec<Result<(), Status>>;
    #[batch(max = 8, delay = "1ms", rows = 2)]
    fn rows(&self, calls: &[Context<'_>]) -> Vec<Result<(), Status>>;
}

fn main() {}
