//! Errors of a service's own travel as values.

use std::fmt;

use service_core::{CallError, Code, Context, Outcome, ServiceError, Status};
use service_macros::service;

use crate::serve;
use crate::support::block_on;

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum KeyError {
    Missing { key: String },
    TooLong { bytes: u32 },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { key } => write!(f, "there is no key `{key}`"),
            Self::TooLong { bytes } => write!(f, "the key has {bytes} bytes"),
        }
    }
}

impl ServiceError for KeyError {
    fn code(&self) -> Code {
        match self {
            Self::Missing { .. } => Code::NotFound,
            Self::TooLong { .. } => Code::InvalidArgument,
        }
    }
}

#[service(crate = service_core::__private)]
trait Store {
    fn get(&self, ctx: &Context<'_>, key: &str) -> Result<u32, KeyError>;
    async fn get_later(&self, ctx: &Context<'_>, key: String) -> Result<u32, KeyError>;
}

/// The same service seen by a client that knows nothing of its errors.
#[service(crate = service_core::__private)]
trait Plain {
    fn get(&self, ctx: &Context<'_>, key: &str) -> Result<u32, Status>;
}

struct Table;

impl Store for Table {
    fn get(&self, _: &Context<'_>, key: &str) -> Result<u32, KeyError> {
        match key {
            "seven" => Ok(7),
            key if key.len() > 8 => Err(KeyError::TooLong { bytes: key.len() as u32 }),
            key => Err(KeyError::Missing { key: key.to_owned() }),
        }
    }

    async fn get_later(&self, ctx: &Context<'_>, key: String) -> Result<u32, KeyError> {
        self.get(ctx, &key)
    }
}

fn missing() -> CallError<KeyError> {
    CallError::Service(KeyError::Missing { key: "six".into() })
}

#[test]
fn a_services_own_error_comes_back_as_the_value_it_was() {
    let client = StoreClient::connect(&serve(StoreServer::new(Table)).0, "service").unwrap();
    assert_eq!(client.get("seven").unwrap(), 7);
    assert_eq!(client.get("six").unwrap_err(), missing());
    assert_eq!(client.get_with("six", |_| ()).unwrap_err(), missing());
    assert_eq!(block_on(client.get_async("six")).unwrap_err(), missing());
    assert_eq!(client.get_later("six".into()).unwrap_err(), missing());
    let error = client.get("a long key").unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::InvalidArgument, Outcome::Ran));
    assert_eq!(client.stats().snapshot()[0].errors(Code::NotFound), 3, "statistics know its class");
}

#[test]
fn what_is_not_the_services_own_error_is_a_status() {
    let (boarded, board) = serve(StoreServer::new(Table));
    let client = StoreClient::connect(&boarded, "service").unwrap();
    board.stop("service");
    match client.get("seven").unwrap_err() {
        CallError::Status(status) => assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::NotRun)),
        CallError::Service(error) => panic!("nothing serves any more, but it said: {error}"),
    }
}

#[test]
fn a_client_that_does_not_know_the_error_gets_its_class_and_its_words() {
    let client = PlainClient::connect(&serve(StoreServer::new(Table)).0, "service").unwrap();
    let status = client.get("six").unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no key `six`"));
    assert_eq!(status.kind(), Some("KeyError"));
}
