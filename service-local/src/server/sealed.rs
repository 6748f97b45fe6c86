//! Requests that came as sealed memory of the client's, from their announcement to the call that names them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shm_ring::{Error, SealedPayload};

use crate::growth::MAX_BYTES;
use crate::handshake::FromServer;

/// Announced and not yet called, for one connection. With these a connection costs its service about twice as many
/// descriptors and mappings as without.
const MOST_KEPT: usize = 4;

/// What one client has announced.
#[derive(Debug)]
pub(super) struct SealedRequests {
    /// `None` if the service takes no memory of this client's.
    kept: Option<Mutex<Vec<(u64, SealedPayload)>>>,
}

impl SealedRequests {
    /// For a connection on which such requests are taken, or not.
    pub(super) fn new(is_accepted: bool) -> Self {
        Self { kept: is_accepted.then(Mutex::default) }
    }

    fn kept(&self) -> Option<MutexGuard<'_, Vec<(u64, SealedPayload)>>> {
        Some(self.kept.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks and keeps what a client announces; gives the answer to it.
    ///
    /// # Errors
    /// What no honest client does.
    pub(super) fn keep(&self, number: u64, len: u64, fds: &[OwnedFd]) -> Result<FromServer, Error> {
        let bad = |what: String| Error::BadMessage { during: "announcing a sealed request", what };
        let refused = |message: String| Ok(FromServer::NotKept { number, message });
        let Some(mut kept) = self.kept() else { return Err(bad("none are accepted here".into())) };
        let [fd] = fds else { return Err(bad(format!("{} descriptors instead of one", fds.len()))) };
        if kept.iter().any(|(known, _)| *known == number) {
            return Err(bad(format!("number {number} is taken")));
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_BYTES {
            return refused(format!("{len} bytes exceed the limit of {MAX_BYTES} bytes"));
        }
        if kept.len() >= MOST_KEPT {
            return refused(format!("{MOST_KEPT} sealed requests wait for their calls already, the limit"));
        }
        match SealedPayload::open(fd.as_fd(), len) {
            Ok(payload) => kept.push((number, payload)),
            Err(error @ Error::ResourceExhausted { .. }) => return refused(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(FromServer::Kept { number })
    }

    /// Lets go of a request whose call will not come. The client may be wrong about it, so nothing is said.
    pub(super) fn withdraw(&self, number: u64) {
        drop(self.take_out(number));
    }

    /// Takes out the request that a call names; `None` if there is none, or it has another length.
    #[cold]
    pub(super) fn take(&self, number: u64, len: usize) -> Option<SealedPayload> {
        self.take_out(number).filter(|payload| payload.bytes().len() == len)
    }

    fn take_out(&self, number: u64) -> Option<SealedPayload> {
        let mut kept = self.kept()?;
        let at = kept.iter().position(|(known, _)| *known == number)?;
        Some(kept.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use shm_ring::SealedWriter;

    use super::*;

    fn announced(bytes: &[u8]) -> Vec<OwnedFd> {
        let mut writer = SealedWriter::new("test", bytes.len()).unwrap();
        writer.append(bytes).unwrap();
        vec![writer.seal().unwrap().0]
    }

    #[test]
    fn what_was_announced_is_taken_once_by_number_and_length() {
        let requests = SealedRequests::new(true);
        for number in [7, 8, 9] {
            assert_eq!(requests.keep(number, 3, &announced(b"abc")).unwrap(), FromServer::Kept { number });
        }
        assert_eq!(requests.take(7, 3).unwrap().bytes(), b"abc");
        assert!(requests.take(7, 3).is_none(), "taken twice");
        assert!(requests.take(8, 2).is_none(), "of another length");
        requests.withdraw(9);
        assert!(requests.take(9, 3).is_none(), "withdrawn");
    }

    #[test]
    fn one_more_than_the_limit_is_refused_until_there_is_room_again() {
        let requests = SealedRequests::new(true);
        let most = MOST_KEPT as u64;
        for number in 0..most {
            assert_eq!(requests.keep(number, 1, &announced(b"a")).unwrap(), FromServer::Kept { number });
        }
        assert!(matches!(requests.keep(most, 1, &announced(b"a")).unwrap(), FromServer::NotKept { .. }));
        requests.withdraw(0);
        assert_eq!(requests.keep(most, 1, &announced(b"a")).unwrap(), FromServer::Kept { number: most });
    }

    #[test]
    fn what_no_honest_client_announces_is_an_error() {
        let requests = SealedRequests::new(true);
        assert!(requests.keep(1, 3, &[]).is_err(), "no descriptor");
        assert!(requests.keep(1, 4, &announced(b"abc")).is_err(), "shorter than announced");
        let pipe = vec![OwnedFd::from(std::io::pipe().unwrap().0)];
        assert!(requests.keep(1, 4, &pipe).is_err(), "a pipe");
        requests.keep(1, 3, &announced(b"abc")).unwrap();
        assert!(requests.keep(1, 3, &announced(b"abc")).is_err(), "a number that is taken");
        assert!(SealedRequests::new(false).keep(1, 3, &announced(b"abc")).is_err(), "where none are accepted");
    }
}
