use service_core::{Context, Status};
use service_macros::service;

#[service(versoin = "1.2")]
trait Misspelt {
    fn get(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

#[service(crate = service_core::__private)]
trait Generic<T> {
    fn get(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

#[service(crate = service_core::__private)]
unsafe trait Risky {
    fn get(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

#[service(version = 1)]
trait Versioned {
    fn get(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

#[service(crate = service_core::__private)]
struct NoTrait;

fn main() {}
