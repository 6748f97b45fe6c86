//! What a service says of itself.

use service_core::{Context, Handler, Incoming, Outgoing, Shape, Status, TypeInfo};
use service_macros::service;

#[service(crate = service_core::__private, version = "1.2")]
trait Described {
    /// Gives the body back.
    ///
    /// As it came.
    #[idempotent]
    #[timeout("250ms")]
    fn echo(&self, ctx: &Context<'_>, body: Vec<u8>, r#type: &str) -> Result<Vec<u8>, Status>;
    #[deprecated = "there is a newer one"]
    fn old(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn pipe(&self, ctx: &Context<'_>, items: Incoming<u8>, out: Outgoing<String>) -> Result<(), Status>;
}

#[test]
fn a_descriptor_says_what_the_trait_says() {
    let server = DescribedServer::new(DescribedMock::new());
    let descriptor = server.descriptor();
    assert_eq!(descriptor, DescribedClient::descriptor());
    assert_eq!((descriptor.trait_name.as_str(), descriptor.version.as_str()), ("Described", "1.2"));
    let [echo, old, pipe] = &descriptor.methods[..] else { panic!("three methods") };
    assert_eq!(echo.docs, "Gives the body back.\n\nAs it came.");
    assert_eq!(echo.arguments, ["body", "type"]);
    assert!(echo.idempotent && !old.idempotent);
    assert_eq!((echo.timeout_ns, old.timeout_ns), (250_000_000, 0));
    assert_eq!(old.deprecated.as_deref(), Some("there is a newer one"));
    assert_eq!((echo.shape, pipe.shape), (Shape::Unary, Shape::BothWays));
    assert_eq!(pipe.client_items, Some(TypeInfo::of::<u8>()));
    assert_eq!(pipe.server_items, Some(TypeInfo::of::<String>()));
}
