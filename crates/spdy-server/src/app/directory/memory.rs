//! What is remembered of the disk, within its limits.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{
    disk::{Disk, Found, Question},
    entry::Entry,
    shares::Held,
};

/// Entries by the questions that they answer.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) known: HashMap<Question, Known>,
    pub(super) bytes: usize,
    pub(super) open: usize,
    /// The number of times that an entry was used or added. It orders the entries by their last
    /// use.
    uses: u64,
    pub(super) gone: Gone,
    removed: Removed,
}

/// Entries that were removed, for others to drop once the memory is unlocked.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Removed(Vec<Arc<Entry>>);

#[derive(Debug)]
pub(super) struct Known {
    pub(super) found: Found,
    looked: Instant,
    used: u64,
}

/// Entries that had to give way while responses use them. Further responses use the same ones, so
/// that many responses with one file hold it once.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) entries: HashMap<Question, Weak<Entry>>,
    /// The number of entries at which those that are no longer used are searched.
    crowded: usize,
}

impl Memory {
    /// Returns what was found, and when.
    pub(super) fn recall(&mut self, question: &Question) -> Option<(Found, Instant)> {
        let known = self.known.get_mut(question)?;
        self.uses += 1;
        known.used = self.uses;
        Some((known.found.clone(), known.looked))
    }

    /// Returns what was found last, if it is cached or in use.
    pub(super) fn entry(&self, question: &Question) -> Option<Arc<Entry>> {
        let known = self.known.get(question);
        let known = known.map(|known| Arc::clone(&known.found.entry));
        known.or_else(|| self.gone.entries.get(question)?.upgrade())
    }

    /// Adds what was found just now, in place of what was known. Where entries hold as much as they
    /// may together, none of them is kept here: what is not used makes room at once, and what is
    /// used as soon as its last response is gone.
    pub(super) fn keep(
        &mut self,
        question: Question,
        found: &Found,
        looked: Instant,
        disk: &Disk,
    ) -> Removed {
        self.clear(&question);
        self.forget_old(looked);
        self.uses += 1;
        self.bytes += found.entry.bytes();
        self.open += usize::from(found.entry.is_open());
        let known = Known {
            found: found.clone(),
            looked,
            used: self.uses,
        };
        self.known.insert(question, known);
        self.make_room(disk);
        if found.entry.is_short {
            self.release_held(Held::Bytes);
        }
        mem::take(&mut self.removed)
    }

    fn make_room(&mut self, Disk { limits, shares, .. }: &Disk) {
        while self.known.len() > limits.max_entries {
            self.release_one(|_| true);
        }
        while self.bytes > limits.max_bytes {
            self.release_one(|entry| entry.holds(Held::Bytes));
        }
        while self.open > limits.max_open {
            self.release_one(|entry| entry.holds(Held::File));
        }
        for held in [Held::File, Held::Bytes] {
            if shares.is_used_up(held) {
                self.release_held(held);
            }
        }
    }

    /// Removes all entries that hold this.
    pub(super) fn release_all(&mut self, held: Held) -> Removed {
        self.release_held(held);
        mem::take(&mut self.removed)
    }

    fn release_held(&mut self, held: Held) {
        self.release_those(|known| known.found.entry.holds(held));
    }

    /// Removes the least recently used one of these entries. They are few enough to be searched one
    /// by one.
    fn release_one(&mut self, may_go: impl Fn(&Entry) -> bool) {
        let all = self.known.iter();
        let all = all.filter(|(_, known)| may_go(&known.found.entry));
        let oldest = all.min_by_key(|(_, known)| known.used);
        if let Some(question) = oldest.map(|(question, _)| question.clone()) {
            self.release(question);
        }
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        let is_old = |known: &Known| now.duration_since(known.looked) > LONGEST_REST;
        self.release_those(is_old);
    }

    fn release_those(&mut self, may_go: impl Fn(&Known) -> bool) {
        let those = self.known.iter().filter(|(_, known)| may_go(known));
        let those: Vec<_> = those.map(|(question, _)| question.clone()).collect();
        for question in those {
            self.release(question);
        }
    }

    /// Removes an entry, which is found again as long as a response uses it.
    fn release(&mut self, question: Question) {
        let Some(entry) = self.remove(&question) else {
            return;
        };
        if Arc::strong_count(&entry) > 1 {
            self.gone.add(question, &entry);
        }
        self.removed.0.push(entry);
    }

    /// Removes what is known of a question.
    pub(super) fn forget(&mut self, question: &Question) -> Removed {
        self.clear(question);
        mem::take(&mut self.removed)
    }

    fn clear(&mut self, question: &Question) {
        self.gone.entries.remove(question);
        let entry = self.remove(question);
        self.removed.0.extend(entry);
    }

    fn remove(&mut self, question: &Question) -> Option<Arc<Entry>> {
        let entry = self.known.remove(question)?.found.entry;
        self.bytes -= entry.bytes();
        self.open -= usize::from(entry.is_open());
        Some(entry)
    }
}

/// How long an entry without a request is kept.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(60);

impl Gone {
    fn add(&mut self, question: Question, entry: &Arc<Entry>) {
        if self.entries.len() >= self.crowded {
            self.entries.retain(|_, entry| entry.strong_count() > 0);
            self.crowded = 2 * self.entries.len().max(MIN_CROWD);
        }
        self.entries.insert(question, Arc::downgrade(entry));
    }
}

pub(super) const MIN_CROWD: usize = 64;
