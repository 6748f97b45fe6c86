use service_core::{Context, Status};
use service_macros::service;

#[service(crate = service_core::__private)]
trait Names {
    fn connect(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn read(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn read_with(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn read_async(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn batch(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

fn main() {}
