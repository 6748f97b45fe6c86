//! How methods are called by values that describe themselves, for the code that `#[service]` writes.
//!
//! A method can be called so if all of its types know serde. Whether a type does is found out where it is known: written
//! code names [`Dynamic`] of it, whose own items are there if it does, and those of [`TypedOnly`] if it does not.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Form;
use crate::descriptor::{MethodDescriptor, ServiceDescriptor};
use crate::handler::{MethodIndex, ServerCall};
use crate::message::{Encode, EncodeError, Sink};
use crate::status::{Code, Outcome, Status};
use crate::stream::Shape;
use crate::value::{Arguments, Value, ValueMessage, from_value, read_value, rows, to_value};

/// A type as part of a dynamic call.
#[derive(Debug)]
pub struct Dynamic<T>(PhantomData<fn(T)>);

impl<T: DeserializeOwned + 'static> Dynamic<T> {
    /// Whether values can become a `T`.
    pub const READS: bool = true;

    /// Makes an argument.
    ///
    /// # Errors
    /// `InvalidArgument`, not run, if the value does not fit, or is missing and `T` is not optional.
    pub fn read(argument: Given<'_>) -> Result<T, Status> {
        let Given { name, value } = argument;
        match value {
            Some(value) => match rows::vector(&value) {
                Some(vector) => Ok(vector),
                None => from_value(value).map_err(|status| unfit(&name, &status)),
            },
            None => from_value(Value::Nil).map_err(|_| missing(&name)),
        }
    }
}

impl<T: Serialize + 'static> Dynamic<T> {
    /// Whether a `T` can become a value.
    pub const WRITES: bool = true;

    /// Makes the answer of a handler. A vector of bytes or numbers stays where it is.
    ///
    /// # Errors
    /// `Internal` if the type refuses.
    pub fn write(answer: &T) -> Result<Value<'_>, Status> {
        if let Some(row) = rows::in_place(answer) {
            return Ok(row);
        }
        to_value(answer).map_err(|status| Status::internal(format!("the answer is no value: {}", status.message())))
    }
}

/// What a type is that does not know serde.
pub trait TypedOnly<T> {
    /// Whether values can become a `T`.
    const READS: bool = false;
    /// Whether a `T` can become a value.
    const WRITES: bool = false;

    /// Never called: a method of such a type is not dynamic.
    ///
    /// # Errors
    /// Always.
    fn read(argument: Given<'_>) -> Result<T, Status> {
        Err(unfit(&argument.name, &Status::unimplemented("its type takes typed messages only")))
    }

    /// Never called: a method of such a type is not dynamic.
    ///
    /// # Errors
    /// Always.
    fn write(_: &T) -> Result<Value<'_>, Status> {
        Err(Status::internal("the answer's type gives typed messages only"))
    }
}

impl<T> TypedOnly<T> for Dynamic<T> {}

/// One argument of a dynamic call.
#[derive(Debug)]
pub struct Given<'a> {
    name: String,
    value: Option<Value<'a>>,
}

impl<'a> Given<'a> {
    /// As a text, in place if it is one.
    ///
    /// # Errors
    /// As [`Dynamic::read`].
    pub fn text(self) -> Result<Cow<'a, str>, Status> {
        match self.value {
            Some(Value::Text(text)) => Ok(text),
            _ => Dynamic::<String>::read(self).map(Cow::Owned),
        }
    }

    /// As bytes, in place if they are.
    ///
    /// # Errors
    /// As [`Dynamic::read`].
    pub fn bytes(self) -> Result<Cow<'a, [u8]>, Status> {
        match self.value {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            _ => Dynamic::<Vec<u8>>::read(self).map(Cow::Owned),
        }
    }
}

/// Reads the arguments of a dynamic call, one for each that the method has, in their order.
///
/// # Errors
/// Not run: `Unimplemented` if the method takes typed messages only, `InvalidArgument` if these are not its arguments.
pub fn arguments<'a, const N: usize>(
    service: &ServiceDescriptor,
    method: MethodIndex,
    request: &'a [u8],
) -> Result<[Given<'a>; N], Status> {
    let method = dynamic_method(service, method)?;
    let names: Vec<&str> = method.arguments.iter().map(String::as_str).collect();
    let values = Arguments::from_value(read_value(request)?)?.by_names(&method.name, &names)?;
    let given = values.into_iter().zip(&names).map(|(value, name)| Given { name: (*name).to_owned(), value });
    // The descriptor and the caller's `N` are written from the same method.
    <[Given<'a>; N]>::try_from(given.collect::<Vec<_>>()).map_err(|_| service.unknown_method(MethodIndex(u16::MAX)))
}

fn dynamic_method(service: &ServiceDescriptor, index: MethodIndex) -> Result<&MethodDescriptor, Status> {
    service.method(index).filter(|method| method.dynamic).ok_or_else(|| not_dynamic(service, index))
}

/// Makes the status of a dynamic call to a method that takes none, or that is not there.
#[cold]
pub fn not_dynamic(service: &ServiceDescriptor, index: MethodIndex) -> Status {
    match service.method(index) {
        Some(method) => typed_only(method, &service.trait_name),
        None => service.unknown_method(index),
    }
}

/// Makes the status of a dynamic call to a method that takes none, of a service of this name.
#[cold]
pub(crate) fn typed_only(method: &MethodDescriptor, service: &dyn fmt::Display) -> Status {
    let why = match method.shape {
        Shape::Unary => {
            "a type of it does not derive serde's `Serialize` and `Deserialize`, it takes batches, or its trait is \
             `#[service(typed_only)]`"
        }
        _ => "it has streams",
    };
    let text = format!("`{}` of `{service}` takes typed messages only: {why}", method.name);
    Status::new(Code::Unimplemented, Outcome::NotRun, text)
}

/// Says whether a call is dynamic, and refuses one of a method that takes typed messages only.
///
/// # Errors
/// `Unimplemented`, not run.
pub fn is_dynamic(service: &ServiceDescriptor, call: &dyn ServerCall) -> Result<bool, Status> {
    match call.form() {
        Form::Typed => Ok(false),
        Form::Dynamic => dynamic_method(service, call.method()).map(|_| true),
    }
}

/// A handler's answer as the message of a dynamic call.
#[derive(Debug)]
pub struct Answer<'a>(pub Value<'a>);

impl Encode for Answer<'_> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        ValueMessage(&self.0).encode(sink)
    }
}

#[cold]
fn missing(name: &str) -> Status {
    Status::new(Code::InvalidArgument, Outcome::NotRun, format!("the argument `{name}` is missing"))
}

#[cold]
fn unfit(name: &str, status: &Status) -> Status {
    Status::new(Code::InvalidArgument, Outcome::NotRun, format!("the argument `{name}`: {}", status.message()))
}
