//! What a service offers: its methods and the types they take and give.
//!
//! A client carries the descriptor it was compiled against, a server sends its own.
//! [`ServiceDescriptor::bind`] compares them once per connection, so that a call needs neither
//! names nor type checks.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use crate::handler::MethodIndex;
use crate::status::{Code, Outcome, Status};
use crate::stream::Shape;

/// What decides how archived bytes are laid out, beside the type itself; part of every fingerprint.
///
/// Must name the rkyv version and features of the workspace, and grows a number when this crate
/// lays a message out differently.
const ARCHIVE_FORMAT: &str = "rkyv0.8 le p32 aligned; message 1";

/// Tells two message types apart: name, size and alignment of the archived form, archive format.
///
/// The same in every build from the same source. It does not look into the fields of a type: two
/// types with one name, size and alignment are the same to it, and their bytes are still checked
/// before they are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// FNV-1a over the parts, each ended by a byte that no UTF-8 text has.
    fn of_parts(parts: &[&[u8]]) -> Self {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        Self(parts.iter().fold(OFFSET, |hash, part| step(part.iter().copied().fold(hash, step), 0xff)))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A message type as the other side knows it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct TypeInfo {
    /// The type's name without module paths, such as `Vec<f32>`.
    pub name: String,
    /// Size of the archived root, in bytes.
    pub size: u32,
    /// Alignment of the archived root, in bytes.
    pub align: u32,
    /// Equal on both sides if they mean the same type.
    pub fingerprint: Fingerprint,
}

impl TypeInfo {
    /// Describes a type.
    pub fn of<T: Archive>() -> Self {
        let name = short_name(std::any::type_name::<T>());
        let size = size_of::<T::Archived>();
        let align = align_of::<T::Archived>();
        let fingerprint = Fingerprint::of_parts(&[
            name.as_bytes(),
            &(size as u64).to_le_bytes(),
            &(align as u64).to_le_bytes(),
            ARCHIVE_FORMAT.as_bytes(),
        ]);
        // An archived root of 4 GiB cannot exist: a message is at most half as long.
        Self { name, size: size as u32, align: align as u32, fingerprint }
    }
}

impl fmt::Display for TypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.name, self.fingerprint)
    }
}

/// Strips the module path from every path in a type's name: `alloc::vec::Vec<f32>` becomes
/// `Vec<f32>`.
///
/// Where a type lives is no part of what it means: moving it to another module must not break its
/// peers.
pub(crate) fn short_name(full: &str) -> String {
    let mut short = String::with_capacity(full.len());
    let mut segment_at = 0;
    let mut rest = full;
    while let Some(character) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("::") {
            short.truncate(segment_at);
            rest = behind;
            continue;
        }
        short.push(character);
        if !(character.is_alphanumeric() || character == '_') {
            segment_at = short.len();
        }
        rest = &rest[character.len_utf8()..];
    }
    short
}

/// One method: its name and the types it takes and gives.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct MethodDescriptor {
    /// The method's name in the trait.
    pub name: String,
    /// The tuple of its arguments.
    pub request: TypeInfo,
    /// What it answers with.
    pub reply: TypeInfo,
    /// Which directions are streams.
    pub shape: Shape,
    /// The type of the client's items.
    pub client_items: Option<TypeInfo>,
    /// The type of the server's items.
    pub server_items: Option<TypeInfo>,
    /// The type of the service's own errors, if they travel as values.
    pub error: Option<TypeInfo>,
    /// Whether a call may be made again without harm.
    pub idempotent: bool,
    /// Whether it can be called with values that describe themselves.
    pub dynamic: bool,
    /// Names of the arguments, in their order.
    pub arguments: Vec<String>,
    /// Why it should not be called any more, if so.
    pub deprecated: Option<String>,
    /// How long a call may take if its caller does not say, in nanoseconds; zero: as long as the service lives.
    pub timeout_ns: u64,
    /// What the trait says about it.
    pub docs: String,
}

impl MethodDescriptor {
    /// Describes a method with the arguments `Request` and the answer `Reply`.
    pub fn of<Request: Archive, Reply: Archive>(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            request: TypeInfo::of::<Request>(),
            reply: TypeInfo::of::<Reply>(),
            shape: Shape::Unary,
            client_items: None,
            server_items: None,
            error: None,
            idempotent: false,
            dynamic: false,
            arguments: Vec::new(),
            deprecated: None,
            timeout_ns: 0,
            docs: String::new(),
        }
    }
}

/// A service's methods; a method's place in the list is its index on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ServiceDescriptor {
    /// The trait's name, for people; two traits with different names can match.
    pub trait_name: String,
    /// The service's version, for people; empty if it has none.
    pub version: String,
    /// The methods in the order of their indices; at most 65,535.
    pub methods: Vec<MethodDescriptor>,
}

impl ServiceDescriptor {
    /// Gives the method with this index, if there is one.
    pub fn method(&self, index: MethodIndex) -> Option<&MethodDescriptor> {
        self.methods.get(usize::from(index.0))
    }

    /// Makes the status of a call to a method that is not there.
    #[cold]
    pub fn unknown_method(&self, index: MethodIndex) -> Status {
        let (name, count) = (&self.trait_name, self.methods.len());
        let message = format!("`{name}` has {count} methods and none with index {index}");
        Status::new(Code::Unimplemented, Outcome::NotRun, message)
    }

    /// Matches this descriptor, the client's, with a server's by method names.
    ///
    /// A method that the server lacks is left out of the map: only its calls fail. Methods that only the server has do not
    /// matter. A server may have a method several times under one name, with fewer arguments for clients that were built
    /// before it got more; the client is bound to the one that it knows. Types of errors are not compared: a client that
    /// knows another type gets the failure's class and its sentence.
    ///
    /// # Errors
    /// `FailedPrecondition`, not run, if a method exists on both sides with other types.
    pub fn bind(&self, server: &ServiceDescriptor) -> Result<MethodMap, Status> {
        let bind_one = |method: &MethodDescriptor| {
            let named = || server.methods.iter().enumerate().filter(|(_, other)| other.name == method.name);
            let Some((_, first)) = named().next() else { return Ok(None) };
            let Some((index, _)) = named().find(|(_, other)| method.difference(other).is_none()) else {
                return Err(self.mismatch(server, method, first));
            };
            // A server that claims more methods than an index can name has none behind the last
            // index.
            Ok(u16::try_from(index).ok().map(MethodIndex))
        };
        self.methods.iter().map(bind_one).collect::<Result<_, _>>().map(MethodMap)
    }

    #[cold]
    fn mismatch(&self, server: &Self, ours: &MethodDescriptor, theirs: &MethodDescriptor) -> Status {
        let (part, our_part, their_part) = ours.difference(theirs).unwrap_or_default();
        let text = format!(
            "method `{}`: the {part} is {our_part} in the client's {}, {their_part} in the server's {}",
            ours.name,
            self.title(),
            server.title(),
        );
        Status::new(Code::FailedPrecondition, Outcome::NotRun, text)
    }

    /// The trait's name, and its version if it has one.
    fn title(&self) -> String {
        match self.version.as_str() {
            "" => format!("`{}`", self.trait_name),
            version => format!("`{}` {version}", self.trait_name),
        }
    }
}

impl MethodDescriptor {
    /// Says what a client's method and a server's of the same name differ in, and what it is on both sides.
    fn difference(&self, server: &Self) -> Option<(&'static str, String, String)> {
        let described = |part: Option<&TypeInfo>| part.map_or_else(|| "none".to_owned(), TypeInfo::to_string);
        [
            ("request", Some(&self.request), Some(&server.request)),
            ("reply", Some(&self.reply), Some(&server.reply)),
            ("client's stream", self.client_items.as_ref(), server.client_items.as_ref()),
            ("server's stream", self.server_items.as_ref(), server.server_items.as_ref()),
        ]
        .into_iter()
        .find(|(_, ours, theirs)| ours.map(|ours| ours.fingerprint) != theirs.map(|theirs| theirs.fingerprint))
        .map(|(part, ours, theirs)| (part, described(ours), described(theirs)))
    }
}

/// Turns a client's method indices into a server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodMap(Box<[Option<MethodIndex>]>);

impl MethodMap {
    /// Gives the server's index of the client's method; `None` if the server lacks it.
    pub fn get(&self, method: MethodIndex) -> Option<MethodIndex> {
        self.0.get(usize::from(method.0)).copied().flatten()
    }
}
