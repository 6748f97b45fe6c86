//! Names of queues.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::Error;

/// The namespace of an address that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Longest namespace and longest name, in bytes: the socket's address must hold them.
const MAX_LEN: usize = 64;

/// How much of a refused text is repeated in the error, in characters.
const SHOWN: usize = 80;

/// The name of a queue in a namespace, as `namespace/name`; `name` alone is in the namespace `default`.
///
/// Each is 1 to 64 bytes of letters, digits, `-` and `_`; a name may have dots between them. What
/// [`Display`](fmt::Display) writes is the whole address, and parses to an equal one: a handle that travels as text
/// reaches the same queue, however often it travels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueAddress {
    namespace: Box<str>,
    name: Box<str>,
}

impl QueueAddress {
    /// The queue `name` in `namespace`.
    ///
    /// # Errors
    /// [`Error::BadAddress`] says which rule is broken.
    pub fn new(namespace: &str, name: &str) -> Result<Self, Error> {
        let refused = |text: &str, why| Err(Error::BadAddress { text: text.chars().take(SHOWN).collect(), why });
        if let Some(why) = fault(namespace) {
            return refused(namespace, why);
        }
        if let Some(why) = name.split('.').find_map(fault).or((name.len() > MAX_LEN).then_some(TOO_LONG)) {
            return refused(name, why);
        }
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name in the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the queue's socket is, under the runtime directory.
    pub(super) fn directory(&self, runtime: &Path) -> PathBuf {
        runtime.join(&*self.namespace).join("queues")
    }
}

const TOO_LONG: &str = "a part has more than 64 bytes";

/// What is wrong with a part.
fn fault(part: &str) -> Option<&'static str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if part.is_empty() {
        Some("a part is empty")
    } else if part.len() > MAX_LEN {
        Some(TOO_LONG)
    } else if !part.chars().all(is_allowed) {
        Some("only letters, digits, `-`, `_`, and dots inside a name are allowed")
    } else {
        None
    }
}

impl fmt::Display for QueueAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for QueueAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
        Self::new(namespace, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_10_an_address_that_travels_as_text_stays_the_same_however_often() {
        for text in ["jobs", "default/jobs", "team-a/jobs.high_1"] {
            let address: QueueAddress = text.parse().unwrap();
            let again: QueueAddress = address.to_string().parse().unwrap();
            let third: QueueAddress = again.to_string().parse().unwrap();
            assert_eq!((&address, &again), (&again, &third));
            assert_eq!(address.directory(Path::new("/run")), third.directory(Path::new("/run")));
        }
        assert_eq!("jobs".parse::<QueueAddress>().unwrap().to_string(), "default/jobs");
    }

    #[test]
    fn what_could_leave_the_directory_or_overflow_the_socket_is_refused_with_the_reason() {
        let long = "x".repeat(65);
        for text in ["", "/", "a/", "/b", "a/b/c", "..", "../b", "a/..", "a/b.", "a/.b", "a b", "a\0", "ü", &long] {
            match text.parse::<QueueAddress>() {
                Err(Error::BadAddress { .. }) => {}
                other => panic!("{text:?}: {other:?}"),
            }
        }
        let kilobytes = "y".repeat(10_000);
        let error = kilobytes.parse::<QueueAddress>().unwrap_err().to_string();
        assert!(error.len() < 200 && error.contains("more than 64 bytes"), "{error}");
        assert!("x".repeat(64).parse::<QueueAddress>().is_ok());
    }
}
