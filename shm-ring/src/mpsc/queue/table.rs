//! Who has which lane of a queue, and how many. Under a lock of the hub's.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::taking::Taking;
use super::lanes::Lane;
use crate::account::{self, Account};
use crate::rendezvous::{Watch, own_uid};

/// The lanes, each in its slot.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    limit: u32,
    /// How many lanes users other than our own have.
    others: HashMap<u32, u32>,
    /// No lane is given any more.
    pub(super) closed: bool,
    tally: Tally,
}

/// What onlookers are told of the lanes.
#[derive(Debug, Default)]
struct Tally {
    lanes: u64,
    ever: u64,
    /// Of lanes that were given up.
    given_back: u64,
    aborted: u64,
    full: u64,
}

impl Tally {
    fn note_in(&self, account: &Account) {
        account.note::<{ account::LANES_AT }>(self.lanes);
        account.note::<{ account::LANES_EVER_AT }>(self.ever);
        account.note::<{ account::GONE_GIVEN_BACK_AT }>(self.given_back);
        account.note::<{ account::GONE_ABORTED_AT }>(self.aborted);
        account.note::<{ account::GONE_FULL_AT }>(self.full);
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) lane: Arc<Lane>,
    /// Here while the lane is cold; else with the consumer.
    pub(super) taking: Option<Taking>,
    /// Both ends of a producer's life, hang-up and death, and its rope if it has one.
    watches: Vec<Watch>,
}

/// Why a producer gets no lane.
pub(super) enum Full {
    /// Its user has all that it may have.
    OfUser,
    /// There are none left.
    Table,
}

impl Table {
    /// For so many lanes at a time.
    pub(super) fn new(limit: u32) -> Self {
        let (others, tally) = (HashMap::new(), Tally::default());
        Self { slots: Vec::new(), free: Vec::new(), limit, others, closed: false, tally }
    }

    /// A lane's number for a user, who may have so many if it is another than our own.
    pub(super) fn reserve(&mut self, uid: u32, per_user: u32) -> Result<u32, Full> {
        let theirs = (uid != own_uid()).then(|| self.others.get(&uid).copied().unwrap_or(0));
        if theirs.is_some_and(|theirs| theirs >= per_user) {
            return Err(Full::OfUser);
        }
        let index = match self.free.pop().filter(|_| !self.closed) {
            Some(index) => index,
            None if !self.closed && self.slots.len() < self.limit as usize => {
                self.slots.push(None);
                self.slots.len() as u32 - 1
            }
            None => return Err(Full::Table),
        };
        if let Some(theirs) = theirs {
            self.others.insert(uid, theirs + 1);
        }
        Ok(index)
    }

    /// A lane's number is free again.
    pub(super) fn give_back(&mut self, index: u32, uid: u32) {
        self.free.push(index);
        if let Some(theirs) = self.others.get_mut(&uid) {
            *theirs -= 1;
            if *theirs == 0 {
                self.others.remove(&uid);
            }
        }
    }

    pub(super) fn fill(&mut self, lane: &Arc<Lane>, taking: Taking, account: &Account) -> bool {
        if !self.closed {
            let slot = Slot { lane: Arc::clone(lane), taking: Some(taking), watches: Vec::new() };
            self.slots[lane.index as usize] = Some(slot);
            self.tally.lanes += 1;
            self.tally.ever += 1;
            self.tally.note_in(account);
        }
        !self.closed
    }

    pub(super) fn slot(&mut self, lane: &Arc<Lane>) -> Option<&mut Slot> {
        self.slots[lane.index as usize].as_mut().filter(|slot| Arc::ptr_eq(&slot.lane, lane))
    }

    /// Attaches the watches to a lane; if it is gone already they end.
    pub(super) fn watch(&mut self, lane: &Arc<Lane>, watches: Vec<Watch>) {
        if let Some(slot) = self.slot(lane) {
            slot.watches.extend(watches);
        }
    }

    /// Removes a cold lane in which nothing is committed.
    pub(super) fn remove_if_empty(&mut self, lane: &Arc<Lane>, account: &Account) -> Option<Slot> {
        let taking = self.slot(lane)?.taking.as_mut()?;
        if matches!(taking.search(), Ok(None)) { self.remove(lane, account) } else { None }
    }

    pub(super) fn remove(&mut self, lane: &Arc<Lane>, account: &Account) -> Option<Slot> {
        self.slot(lane)?;
        self.give_back(lane.index, lane.uid());
        let counts = lane.ring().counts();
        let tally = &mut self.tally;
        tally.lanes = tally.lanes.saturating_sub(1);
        tally.given_back = tally.given_back.wrapping_add(counts.given_back);
        tally.aborted = tally.aborted.wrapping_add(counts.aborted);
        tally.full = tally.full.wrapping_add(counts.full);
        tally.note_in(account);
        self.slots[lane.index as usize].take()
    }
}
