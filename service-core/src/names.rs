//! Names of namespaces, services and instances, and the addresses made of them.
//!
//! A name ends up in a file name, in log lines and in messages to other processes. Each type
//! therefore checks its text once, when it is made, and can be trusted from then on. Nothing here
//! looks a name up.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::status::{Code, Outcome, Status};

/// Longest label of any name, in bytes.
pub const MAX_LABEL_LEN: usize = 64;
/// Longest service name, in bytes, dots included.
///
/// 64: a Unix socket's path has 107 bytes. A transport that names sockets after instances needs room in it for the
/// longest instance, a suffix, and a prefix that stands for the directory.
pub const MAX_SERVICE_LEN: usize = 64;
/// Longest instance id, in bytes.
pub const MAX_INSTANCE_LEN: usize = 16;

/// Longest piece of a refused text that an error repeats, in bytes.
const SHOWN_LEN: usize = 48;
const SCHEME: &str = "svc://";

/// What a text was meant to be when it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A namespace, such as `default`.
    Namespace,
    /// A service name, such as `text.embed`.
    Service,
    /// An instance id, such as `1`.
    Instance,
    /// A whole address, such as `svc://default/text.embed@1`.
    Address,
}

impl NameKind {
    fn allowed(self) -> &'static str {
        match self {
            Self::Namespace => "one label of 1 to 64 of A-Z a-z 0-9 _ -",
            Self::Service => "labels of 1 to 64 of A-Z a-z 0-9 _ - joined by dots, at most 64 bytes in all",
            Self::Instance => "one label of 1 to 16 of A-Z a-z 0-9 _ -",
            Self::Address => "svc://namespace/service[@instance] or service[@instance]",
        }
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "namespace",
            Self::Service => "service name",
            Self::Instance => "instance id",
            Self::Address => "address",
        })
    }
}

/// Tells why a text is not a name: which text, at which byte, and what would be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {shown} is refused at byte {at}: {fault}; allowed: {}", kind.allowed())]
pub struct NameError {
    kind: NameKind,
    /// The text, quoted and escaped, cut to [`SHOWN_LEN`] bytes.
    shown: Box<str>,
    at: usize,
    fault: Fault,
}

impl NameError {
    fn new(kind: NameKind, text: &str, at: usize, fault: Fault) -> Self {
        Self { kind, shown: shown(text), at, fault }
    }

    /// Moves the error from a part of an address to the whole of it.
    fn within(self, text: &str, part_at: usize) -> Self {
        Self { shown: shown(text), at: self.at + part_at, ..self }
    }

    /// Says what the text was meant to be.
    pub fn kind(&self) -> NameKind {
        self.kind
    }

    /// Says where the first refused byte is; equals the length of the text if something is missing
    /// at its end.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl From<NameError> for Status {
    fn from(error: NameError) -> Self {
        Status::new(Code::InvalidArgument, Outcome::NotRun, error.to_string())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("a label is empty")]
    EmptyLabel,
    #[error("{0:?} is not allowed")]
    Character(char),
    #[error("{len} bytes are more than {max}")]
    TooLong { len: usize, max: usize },
    #[error("`/` is missing behind the namespace")]
    NoSlash,
}

/// Quotes and escapes a text of a stranger, so that it can stand in a log line whatever it holds.
fn shown(text: &str) -> Box<str> {
    if text.len() <= SHOWN_LEN {
        return format!("{text:?}").into();
    }
    let mut end = SHOWN_LEN;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{:?}… ({} bytes)", &text[..end], text.len()).into()
}

/// The rule that one kind of name follows.
struct Rule {
    kind: NameKind,
    max_len: usize,
    dots: bool,
}

impl Rule {
    fn check(&self, text: &str) -> Result<(), NameError> {
        let refuse = |at, fault| Err(NameError::new(self.kind, text, at, fault));
        let mut label_at = 0;
        for (at, character) in text.char_indices() {
            match character {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' if at - label_at < MAX_LABEL_LEN => {}
                'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => {
                    let len = text[label_at..].split('.').next().map_or(0, str::len);
                    return refuse(at, Fault::TooLong { len, max: self.max_len.min(MAX_LABEL_LEN) });
                }
                '.' if self.dots && at > label_at => label_at = at + 1,
                '.' if self.dots => return refuse(at, Fault::EmptyLabel),
                other => return refuse(at, Fault::Character(other)),
            }
        }
        if label_at == text.len() {
            return refuse(text.len(), Fault::EmptyLabel);
        }
        if text.len() > self.max_len {
            return refuse(self.max_len, Fault::TooLong { len: text.len(), max: self.max_len });
        }
        Ok(())
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text and keeps a copy of it.
            ///
            /// # Errors
            /// [`NameError`] with the place of the first byte that the name may not have.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $rule.check(text)?;
                Ok(Self(text.into()))
            }

            /// Shows the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

name_type! {
    /// A group of services that see each other: one label, `default` unless told otherwise.
    Namespace, Rule { kind: NameKind::Namespace, max_len: MAX_LABEL_LEN, dots: false }
}
name_type! {
    /// The name of a service: labels joined by dots (`text.embed`), or a single label (`digits`).
    ServiceName, Rule { kind: NameKind::Service, max_len: MAX_SERVICE_LEN, dots: true }
}
name_type! {
    /// One of the processes or threads that serve the same name: one label, `1` unless told
    /// otherwise.
    InstanceId, Rule { kind: NameKind::Instance, max_len: MAX_INSTANCE_LEN, dots: false }
}

impl Default for Namespace {
    /// Gives `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl Default for InstanceId {
    /// Gives `1`.
    fn default() -> Self {
        Self("1".into())
    }
}

/// Where a service is called: `svc://namespace/domain.service[@instance]` or
/// `domain.service[@instance]`.
///
/// A part that the text leaves out is `None`; who uses the address decides what then holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The namespace, if the long form was written.
    pub namespace: Option<Namespace>,
    /// The service's name.
    pub service: ServiceName,
    /// The instance, if one was named.
    pub instance: Option<InstanceId>,
}

impl Address {
    /// Reads an address from a text.
    ///
    /// # Errors
    /// [`NameError`] that counts bytes from the start of the whole address.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (namespace, name_at) = match text.strip_prefix(SCHEME) {
            None => (None, 0),
            Some(rest) => {
                let Some(slash) = rest.find('/') else {
                    return Err(NameError::new(NameKind::Address, text, text.len(), Fault::NoSlash));
                };
                let namespace = Namespace::new(&rest[..slash]).map_err(|e| e.within(text, SCHEME.len()))?;
                (Some(namespace), SCHEME.len() + slash + 1)
            }
        };
        let (service, instance) = match text[name_at..].split_once('@') {
            None => (&text[name_at..], None),
            Some((service, instance)) => {
                let at = name_at + service.len() + 1;
                (service, Some(InstanceId::new(instance).map_err(|e| e.within(text, at))?))
            }
        };
        let service = ServiceName::new(service).map_err(|e| e.within(text, name_at))?;
        Ok(Self { namespace, service, instance })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{SCHEME}{namespace}/")?;
        }
        write!(f, "{}", self.service)?;
        if let Some(instance) = &self.instance {
            write!(f, "@{instance}")?;
        }
        Ok(())
    }
}

impl FromStr for Address {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Address {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}
