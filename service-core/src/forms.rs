//! How the types of a service's trait are handed over, for the code that `#[service]` writes.
//!
//! Written code demands one of these traits of each type, by the user's own tokens and before it
//! does anything with the type, so that the compiler's first complaint is in the project's words.

use crate::details::ServiceError;
use crate::status::{Outcome, Status};
use crate::typed::{Owned, Readable, Writable};

/// A type that one side writes and the other takes as an owned value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process as a value",
    label = "not a message type",
    note = "a message type derives rkyv's `Archive`, `Serialize` and `Deserialize`",
    note = "shared pointers (`Rc`, `Arc`) and references are not message types"
)]
pub trait ByValue: Writable + Owned {}

#[diagnostic::do_not_recommend]
impl<T: Writable + Owned> ByValue for T {}

/// A type that one side writes and the other reads in place.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process and read there in place",
    label = "not a message type",
    note = "a message type derives rkyv's `Archive`, `Serialize` and `Deserialize`",
    note = "shared pointers (`Rc`, `Arc`) and references are not message types"
)]
pub trait InPlace: Writable + Readable {}

#[diagnostic::do_not_recommend]
impl<T: Writable + Readable> InPlace for T {}

/// Compiles only for a type that can be handed over by value.
pub fn by_value<T: ByValue>() {}

/// Compiles only for a type that can be handed over in place.
pub fn in_place<T: InPlace>() {}

/// Compiles only for a type that can be a service's own error.
pub fn own_error<E: ServiceError>() {}

/// Makes the status that carries a service's own error.
#[cold]
pub fn status_of<E: ServiceError>(error: &E) -> Status {
    let name = crate::descriptor::short_name(std::any::type_name::<E>());
    Status::new(error.code(), Outcome::Ran, error.to_string()).with_details(error).with_kind(&name)
}
