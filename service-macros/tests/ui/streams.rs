use service_core::{Context, Incoming, Outgoing, Status};
use service_macros::service;

#[service(crate = service_core::__private)]
trait Streams {
    fn twice(&self, ctx: &Context<'_>, one: Incoming<u8>, two: Incoming<u16>) -> Result<(), Status>;
    fn behind(&self, ctx: &Context<'_>, out: Outgoing<u8>, text: &str) -> Result<(), Status>;
    fn borrowed(&self, ctx: &Context<'_>, out: &mut Outgoing<u8>) -> Result<(), Status>;
}

fn main() {}
