//! Services made of closures.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use service_core::{Code, Context, Outgoing, Status};
use service_macros::service;

use crate::serve;

#[service(crate = service_core::__private)]
trait Weather {
    fn now(&self, ctx: &Context<'_>, place: &str) -> Result<i32, Status>;
    async fn tomorrow(&self, ctx: &Context<'_>, place: String) -> Result<i32, Status>;
    async fn changes(&self, ctx: &Context<'_>, place: &str, out: Outgoing<i32>) -> Result<(), Status>;
}

#[test]
fn a_mock_answers_by_its_closures() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let mock = WeatherMock::new()
        .on_now(move |_, place| {
            counted.fetch_add(1, Ordering::Relaxed);
            if place == "here" { Ok(21) } else { Err(Status::not_found(place)) }
        })
        .on_changes(|_, place, mut out| {
            Box::pin(async move {
                out.send_async(&(place.len() as i32)).await?;
                Ok(())
            })
        });
    let client = WeatherClient::connect(&serve(WeatherServer::new(mock)).0, "service").unwrap();
    assert_eq!(client.now("here").unwrap(), 21);
    assert_eq!(client.now("there").unwrap_err().code(), Code::NotFound);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let changes: Result<Vec<i32>, _> = client.changes("here").unwrap().into_iter().collect();
    assert_eq!(changes.unwrap(), [4]);
}

#[test]
fn a_method_without_a_closure_is_unimplemented() {
    let client = WeatherClient::connect(&serve(WeatherServer::new(WeatherMock::new())).0, "service").unwrap();
    let status = client.tomorrow("here".into()).unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("`tomorrow`"), "{status}");
}
