use std::rc::Rc;

use service_core::{Context, Status};
use service_macros::service;

#[service(crate = service_core::__private)]
trait Later {
    async fn later(&self, ctx: &Context<'_>) -> Result<u32, Status>;
}

struct Held;

impl Later for Held {
    async fn later(&self, _: &Context<'_>) -> Result<u32, Status> {
        let value = Rc::new(7);
        std::future::ready(()).await;
        Ok(*value)
    }
}

fn main() {}
