use service_core::{Context, Incoming, Status};
use service_macros::service;

#[service(crate = service_core::__private)]
trait Batches {
    #[batch(max = 8, delay = "1ms")]
    fn one_context(&self, ctx: &Context<'_>) -> Vec<Result<(), Status>>;
    #[batch(max = 8, delay = "1ms")]
    fn one_argument(&self, calls: &[Context<'_>], text: &str) -> Vec<Result<(), Status>>;
    #[batch(max = 8, delay = "1ms")]
    fn one_answer(&self, calls: &[Context<'_>], texts: &[&str]) -> Result<(), Status>;
    #[batch(max = 8, delay = "1ms")]
    fn stream(&self, calls: &[Context<'_>], items: Incoming<u8>) -> Vec<Result<(), Status>>;
}

fn main() {}
