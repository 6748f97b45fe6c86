use service_core::{Context, Status};
use service_macros::service;

#[service(crate = service_core::__private)]
trait Arguments {
    fn reference(&self, ctx: &Context<'_>, value: &u32) -> Result<(), Status>;
    fn slice(&self, ctx: &Context<'_>, values: &[f32]) -> Result<(), Status>;
    fn exclusive(&self, ctx: &Context<'_>, text: &mut str) -> Result<(), Status>;
    fn any(&self, ctx: &Context<'_>, value: impl Clone) -> Result<(), Status>;
    fn unnamed(&self, ctx: &Context<'_>, _: u32) -> Result<(), Status>;
}

fn main() {}
