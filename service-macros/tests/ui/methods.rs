use service_core::{Context, Status};
use service_macros::service;

#[service(crate = service_core::__private)]
trait Methods {
    fn no_receiver(ctx: &Context<'_>) -> Result<(), Status>;
    fn exclusive(&mut self, ctx: &Context<'_>) -> Result<(), Status>;
    fn by_value(self, ctx: &Context<'_>) -> Result<(), Status>;
    fn no_context(&self) -> Result<(), Status>;
    fn other_context(&self, value: u32) -> Result<(), Status>;
    fn generic<T>(&self, ctx: &Context<'_>, value: T) -> Result<(), Status>;
    async fn with_body(&self, _: &Context<'_>) -> Result<(), Status> {
        Ok(())
    }
    unsafe fn risky(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn no_answer(&self, ctx: &Context<'_>);
    fn no_result(&self, ctx: &Context<'_>) -> u32;
    fn one_type(&self, ctx: &Context<'_>) -> std::fmt::Result;
    #[cfg(unix)]
    fn conditional(&self, ctx: &Context<'_>) -> Result<(), Status>;
    type Item;
    const LIMIT: u32;
}

fn main() {}
