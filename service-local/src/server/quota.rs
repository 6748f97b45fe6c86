//! How much of a service one user may have at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shm_ring::rendezvous::own_uid;

/// Counts of one thing per user. A clone counts the same.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    counts: Arc<Mutex<HashMap<u32, u32>>>,
    /// For the service's own user.
    own: u32,
    /// For each other.
    others: u32,
}

/// One of a user's. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Share {
    quota: Quota,
    uid: u32,
}

impl Quota {
    pub(super) fn up_to(own: u32, others: u32) -> Self {
        Self { counts: Arc::default(), own, others }
    }

    /// Most that this user may have.
    pub(super) fn limit(&self, uid: u32) -> u32 {
        if uid == own_uid() { self.own } else { self.others }
    }

    /// One more for a user, if the limit allows it.
    pub(super) fn take(&self, uid: u32) -> Option<Share> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(uid).or_default();
        (*count < self.limit(uid)).then(|| {
            *count += 1;
            Share { quota: self.clone(), uid }
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.quota.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_as_many_as_the_limit_and_nothing_stays_of_them() {
        let (own, other) = (own_uid(), own_uid() + 1);
        let quota = Quota::up_to(3, 2);
        let mut shares: Vec<_> = [own, own, own, other, other].map(|uid| quota.take(uid).unwrap()).into();
        assert!(quota.take(own).is_none() && quota.take(other).is_none());
        shares.remove(0);
        assert!(quota.take(other).is_none());
        shares.push(quota.take(own).unwrap());
        drop(shares);
        assert!(quota.counts.lock().unwrap().is_empty());
    }
}
