//! Messages of Rust types: rkyv archives, written straight into a sink and read in place.
//!
//! A request is the tuple of its arguments; the client builds that tuple of references ([`ByRef`],
//! [`Str`], [`Bytes`]), whose archived form is the same as that of the owned types, so nothing is
//! copied before it is written. Only tree-shaped types are messages: the serializer has no notion
//! of shared pointers, so `Rc`, `Arc` and `Weak` do not compile.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;

use rkyv::api::low::{LowSerializer, LowValidator};
use rkyv::api::{access_with_context, deserialize_using, serialize_using};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Fallible, Source, Strategy, Trace};
use rkyv::ser::allocator::SubAllocator;
use rkyv::ser::{Allocator, Positional, Serializer, Writer};
use rkyv::string::{ArchivedString, StringResolver};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Deserialize, Place, Serialize, SerializeUnsized};

use crate::assured::{Assurance, assured};
use crate::context::Context;
use crate::descriptor::short_name;
use crate::message::{Decode, Encode, EncodeError, MAX_MESSAGE_LEN, Sink};
use crate::scratch::with_scratch;
use crate::status::{Code, Outcome, Status};

/// The serializer that every message type must support: a sink, scratch space, no shared pointers.
pub type MessageSerializer<'s, 'a, 'x> = LowSerializer<&'s mut Sink<'a>, SubAllocator<'x>, EncodeError>;

/// A type that can be written as a message. Implemented for all that fit; not to be implemented.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent in a message",
    label = "not a message type",
    note = "a message type derives rkyv's `Archive`, `Serialize` and `Deserialize`",
    note = "shared pointers (`Rc`, `Arc`) and references are not message types"
)]
pub trait Writable: Archive + for<'s, 'a, 'x> Serialize<MessageSerializer<'s, 'a, 'x>> {}

#[diagnostic::do_not_recommend]
impl<T> Writable for T where T: Archive + for<'s, 'a, 'x> Serialize<MessageSerializer<'s, 'a, 'x>> {}

/// A type whose archived form can be checked and read in place. Implemented for all that fit; not
/// to be implemented.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be received in a message",
    label = "not a message type",
    note = "a message type derives rkyv's `Archive`, `Serialize` and `Deserialize`"
)]
pub trait Readable: Archive<Archived: for<'a> CheckBytes<LowValidator<'a, Failure>>> {}

#[diagnostic::do_not_recommend]
impl<T> Readable for T where T: Archive<Archived: for<'a> CheckBytes<LowValidator<'a, Failure>>> {}

/// A type that can be taken out of a received message as an owned value. Implemented for all that
/// fit; not to be implemented.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken out of a message",
    label = "not a message type",
    note = "a message type derives rkyv's `Archive`, `Serialize` and `Deserialize`"
)]
pub trait Owned: Readable<Archived: Deserialize<Self, Strategy<(), Failure>>> + Sized {}

#[diagnostic::do_not_recommend]
impl<T> Owned for T where T: Readable<Archived: Deserialize<T, Strategy<(), Failure>>> {}

impl Positional for Sink<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.len()
    }
}

impl Writer<EncodeError> for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        // rkyv panics on offsets of more than 31 bits, so a longer message must end here.
        if bytes.len() > MAX_MESSAGE_LEN - self.len() {
            return Err(EncodeError::TooLong);
        }
        Ok(Sink::write(self, bytes)?)
    }
}

impl Trace for EncodeError {
    fn trace<R>(self, _: R) -> Self
    where
        R: fmt::Debug + fmt::Display + Send + Sync + 'static,
    {
        self
    }
}

impl Source for EncodeError {
    #[cold]
    fn new<T: Error + Send + Sync + 'static>(source: T) -> Self {
        Self::Refused(source.to_string().into())
    }
}

/// A value as a message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'v, T>(pub &'v T);

impl<T: Writable> Encode for Message<'_, T> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        with_scratch(sink, |sink, scratch| {
            let mut serializer = Serializer::new(sink, SubAllocator::new(scratch), ());
            serialize_using::<_, EncodeError>(self.0, &mut serializer).map(drop)
        })
    }
}

/// A reference to an argument, written as the argument itself.
#[derive(Debug, Clone, Copy)]
pub struct ByRef<'v, T>(pub &'v T);

impl<T: Archive> Archive for ByRef<'_, T> {
    type Archived = T::Archived;
    type Resolver = T::Resolver;

    #[inline]
    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        self.0.resolve(resolver, out);
    }
}

impl<T: Serialize<S>, S: Fallible + ?Sized> Serialize<S> for ByRef<'_, T> {
    #[inline]
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A `&str` argument, written as a `String`.
#[derive(Debug, Clone, Copy)]
pub struct Str<'v>(pub &'v str);

impl Archive for Str<'_> {
    type Archived = ArchivedString;
    type Resolver = StringResolver;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        ArchivedString::resolve_from_str(self.0, resolver, out);
    }
}

impl<S: Fallible<Error: Source> + ?Sized> Serialize<S> for Str<'_>
where
    str: SerializeUnsized<S>,
{
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        ArchivedString::serialize_from_str(self.0, serializer)
    }
}

/// A `&[u8]` argument, written as a `Vec<u8>`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'v>(pub &'v [u8]);

impl Archive for Bytes<'_> {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(self.0, resolver, out);
    }
}

impl<S: Fallible + Allocator + Writer + ?Sized> Serialize<S> for Bytes<'_> {
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        ArchivedVec::<u8>::serialize_from_slice(self.0, serializer)
    }
}

/// Most nested pointers of a message that is received: a vector of vectors of texts has three.
///
/// Without it a recursive type would let a stranger decide how deep our stack grows.
pub const MAX_DEPTH: usize = 128;

/// Checks bytes and reads them in place. The check walks the message once, in time bounded by its length.
fn checked<T: Readable>(bytes: &[u8]) -> Result<&T::Archived, Failure> {
    // One for the root, and rkyv's count must not come down to zero.
    let archive = ArchiveValidator::with_max_depth(bytes, NonZeroUsize::new(MAX_DEPTH + 2));
    access_with_context::<T::Archived, _, Failure>(bytes, &mut Validator::new(archive, ()))
}

/// Checks a request's bytes and reads them in place as a `T`.
///
/// # Errors
/// `InvalidArgument`, not run, with the type's name, if the bytes are no `T` or nested deeper than
/// [`MAX_DEPTH`]. It does not repeat the bytes nor say where they are in memory: the sender may be a
/// stranger.
pub fn access<T: Readable>(bytes: &[u8]) -> Result<&T::Archived, Status> {
    checked::<T>(bytes).map_err(|Failure| {
        Status::new(Code::InvalidArgument, Outcome::NotRun, not_of_type::<T>("request", bytes.len()))
    })
}

/// Reads a call's request in place as a `T`: validated by [`access`], unless somebody vouches for it.
///
/// # Errors
/// As [`access`].
#[inline]
pub fn access_request<'b, T: Readable>(ctx: &Context<'_>, bytes: &'b [u8]) -> Result<&'b T::Archived, Status> {
    match ctx.assurance().and_then(|assurance| assured::<T>(bytes, assurance)) {
        Some(archived) => Ok(archived),
        None => access::<T>(bytes),
    }
}

/// Makes an owned value of an argument that [`access`] has checked.
///
/// # Errors
/// `InvalidArgument`, not run, if the type's own deserialisation refuses the value.
pub fn deserialize<T: Owned>(archived: &T::Archived) -> Result<T, Status> {
    deserialize_using::<T, _, Failure>(archived, &mut ()).map_err(|Failure| {
        let name = short_name(std::any::type_name::<T>());
        Status::new(Code::InvalidArgument, Outcome::NotRun, format!("`{name}` refuses the argument"))
    })
}

#[cold]
fn not_of_type<T>(what: &str, len: usize) -> String {
    let name = short_name(std::any::type_name::<T>());
    format!("the {len} bytes of the {what} are no `{name}`")
}

fn access_assured_reply<T: Readable>(bytes: &[u8], assurance: Assurance) -> Result<&T::Archived, Status> {
    assured::<T>(bytes, assurance).map_or_else(|| access_reply::<T>(bytes), Ok)
}

fn access_reply<T: Readable>(bytes: &[u8]) -> Result<&T::Archived, Status> {
    checked::<T>(bytes).map_err(|Failure| Status::internal(not_of_type::<T>("reply", bytes.len())))
}

#[cold]
pub(crate) fn no_reply() -> Status {
    Status::internal("the call succeeded without a reply")
}

/// Takes a reply as an owned value.
#[derive(Debug)]
pub struct Reply<T>(Option<T>);

impl<T> Reply<T> {
    /// Makes an empty place for a reply.
    pub fn new() -> Self {
        Self(None)
    }

    /// Gives the reply that was decoded.
    ///
    /// # Errors
    /// `Internal` if no reply came.
    pub fn into_value(self) -> Result<T, Status> {
        self.0.ok_or_else(no_reply)
    }
}

impl<T> Default for Reply<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Owned> Decode for Reply<T> {
    fn decode(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.take(access_reply::<T>(bytes)?, bytes.len())
    }

    fn decode_assured(&mut self, bytes: &[u8], assurance: Assurance) -> Result<(), Status> {
        self.take(access_assured_reply::<T>(bytes, assurance)?, bytes.len())
    }
}

impl<T: Owned> Reply<T> {
    #[inline]
    fn take(&mut self, archived: &T::Archived, len: usize) -> Result<(), Status> {
        let value = deserialize_using::<T, _, Failure>(archived, &mut ())
            .map_err(|Failure| Status::internal(not_of_type::<T>("reply", len)))?;
        self.0 = Some(value);
        Ok(())
    }
}

/// Reads a reply in place by a closure and keeps what the closure made of it.
pub struct ReplyWith<T, U, F> {
    read: Option<F>,
    made: Option<U>,
    of: PhantomData<fn(&T)>,
}

impl<T, U, F> ReplyWith<T, U, F> {
    /// Will run `read` on the reply, once, if one comes.
    pub fn new(read: F) -> Self {
        Self { read: Some(read), made: None, of: PhantomData }
    }

    /// Gives what the closure made.
    ///
    /// # Errors
    /// `Internal` if no reply came.
    pub fn into_value(self) -> Result<U, Status> {
        self.made.ok_or_else(no_reply)
    }
}

impl<T: Readable, U, F: FnOnce(&T::Archived) -> U> Decode for ReplyWith<T, U, F> {
    fn decode(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let archived = access_reply::<T>(bytes)?;
        self.made = self.read.take().map(|read| read(archived));
        Ok(())
    }

    fn decode_assured(&mut self, bytes: &[u8], assurance: Assurance) -> Result<(), Status> {
        let archived = access_assured_reply::<T>(bytes, assurance)?;
        self.made = self.read.take().map(|read| read(archived));
        Ok(())
    }
}

impl<T, U, F> fmt::Debug for ReplyWith<T, U, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyWith").field("read", &self.read.is_none()).finish()
    }
}
