use std::sync::Arc;

use rkyv::Archived;
use service_core::{Context, Outgoing, Status};
use service_macros::service;

struct Opaque(u32);

#[service(crate = service_core::__private)]
trait Argument {
    fn take(&self, ctx: &Context<'_>, value: Opaque) -> Result<(), Status>;
}

#[service(crate = service_core::__private)]
trait Answer {
    fn give(&self, ctx: &Context<'_>) -> Result<Vec<Opaque>, Status>;
}

#[service(crate = service_core::__private)]
trait Shared {
    fn share(&self, ctx: &Context<'_>, text: &Archived<Arc<String>>) -> Result<(), Status>;
}

#[service(crate = service_core::__private)]
trait Failing {
    fn fail(&self, ctx: &Context<'_>) -> Result<(), String>;
}

#[service(crate = service_core::__private)]
trait Streaming {
    fn stream(&self, ctx: &Context<'_>, out: Outgoing<Opaque>) -> Result<(), Status>;
}

fn main() {}
