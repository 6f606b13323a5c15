//! Chooses the next stream to write: by priority, in turn within one priority, and without starving
//! any stream.

use std::collections::VecDeque;

use spdy_frame::{Priority, StreamId};

use crate::spare::Spare;

/// A level that has been passed over this many times in a row is served next, whatever its
/// priority.
///
/// So with eight busy levels, each level gets at least one frame in `8 * AGING`, and a stream among
/// `n` of its level gets one in `8 * AGING * n` (protocol.md §17, "an aging rule").
pub(crate) const AGING: u32 = 16;

/// The streams that have something to write, and for which only the window of the session can be
/// missing. A stream is in it at most once.
///
/// Only a written frame counts as service, not the choice of a stream. So a closed window, or a
/// stream that turns out to be unable to write, does not change the order.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// Each is made for its first stream. Most sessions use one or two of them.
    levels: [Option<Box<Level>>; Priority::COUNT],
    /// The levels with streams that have payload to write.
    payload: Levels,
    /// The levels with streams that have something else to write.
    free: Levels,
    /// How many places were assigned so far.
    places: u64,
}

/// The streams of one priority. Streams with payload need the window of the session, the others do
/// not. They still take turns, in the order of their places.
#[derive(Debug, Default)]
struct Level {
    payload: VecDeque<Place>,
    free: VecDeque<Place>,
    passed_over: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    id: StreamId,
}

/// What a stream needs to write its next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Payload, which uses the session's window.
    Window,
    /// A frame that uses no window.
    Nothing,
}

impl Scheduler {
    /// Adds a stream behind the others of its priority.
    pub(crate) fn push(&mut self, id: StreamId, priority: Priority, need: Need) {
        self.places += 1;
        let number = self.places;
        let level = usize::from(priority.get());
        self.level(level).ring(need).push_back(Place { number, id });
        self.busy(need).insert(level);
    }

    /// Adds a stream with payload in front of the others of its priority, because its turn is not
    /// over.
    pub(crate) fn push_front(&mut self, id: StreamId, priority: Priority) {
        let level = usize::from(priority.get());
        self.level(level)
            .payload
            .push_front(Place { number: 0, id });
        self.payload.insert(level);
    }

    /// Takes the stream whose turn it is. If the window of the session is closed (`is_open`), only
    /// streams without payload count.
    pub(crate) fn pop(&mut self, is_open: bool) -> Option<StreamId> {
        let level = self.choose(is_open)?;
        let chosen = self.levels[level].as_mut()?;
        let need = chosen.next(is_open);
        let ring = chosen.ring(need);
        let place = ring.pop_front();
        if ring.is_empty() {
            self.busy(need).remove(level);
        }
        place.map(|place| place.id)
    }

    /// Notes that a stream of this priority has written a frame.
    pub(crate) fn served(&mut self, priority: Priority) {
        let served = usize::from(priority.get());
        if let Some(level) = &mut self.levels[served] {
            level.passed_over = 0;
        }
        for level in self.payload.and(self.free).below(served).iter() {
            self.level(level).passed_over += 1;
        }
    }

    /// Removes a stream.
    pub(crate) fn remove(&mut self, id: StreamId, priority: Priority) {
        let level = usize::from(priority.get());
        for need in [Need::Window, Need::Nothing] {
            let Some(streams) = &mut self.levels[level] else {
                return;
            };
            let ring = streams.ring(need);
            ring.retain(|place| place.id != id);
            if ring.is_empty() {
                self.busy(need).remove(level);
            }
        }
    }

    /// Returns whether no stream is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.payload.and(self.free) == Levels::default()
    }

    /// Returns whether a stream has payload to write.
    pub(crate) fn has_payload(&self) -> bool {
        self.payload != Levels::default()
    }

    /// Returns how many places were assigned so far.
    pub(crate) fn places(&self) -> u64 {
        self.places
    }

    /// Returns the streams with payload.
    pub(crate) fn payload(&self) -> impl Iterator<Item = StreamId> {
        let levels = self.levels.iter().flatten();
        levels.flat_map(|level| level.payload.iter().map(|place| place.id))
    }

    /// Returns the streams with payload whose places were assigned at the back, after the first
    /// `places` ones.
    pub(crate) fn payload_after(&self, places: u64) -> impl Iterator<Item = StreamId> {
        let new = move |place: &&Place| place.number > places;
        let levels = self.levels.iter().flatten();
        levels.flat_map(move |level| level.payload.iter().rev().take_while(new).map(|it| it.id))
    }

    /// Frees memory that is not needed.
    pub(crate) fn free_spare(&mut self) {
        for level in self.levels.iter_mut().flatten() {
            level.payload.free_spare();
            level.free.free_spare();
        }
    }

    /// Removes all streams.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn level(&mut self, level: usize) -> &mut Level {
        self.levels[level].get_or_insert_default()
    }

    fn busy(&mut self, need: Need) -> &mut Levels {
        match need {
            Need::Window => &mut self.payload,
            Need::Nothing => &mut self.free,
        }
    }

    fn choose(&self, is_open: bool) -> Option<usize> {
        let may_write = if is_open {
            self.payload.and(self.free)
        } else {
            self.free
        };
        let passed_over = |level: &usize| {
            let level = &self.levels[*level];
            level.as_ref().map_or(0, |level| level.passed_over)
        };
        let mut busy = may_write.iter();
        let highest = busy.next()?;
        let oldest = busy.filter(|level| passed_over(level) >= AGING);
        Some(oldest.max_by_key(passed_over).unwrap_or(highest))
    }
}

impl Level {
    fn ring(&mut self, need: Need) -> &mut VecDeque<Place> {
        match need {
            Need::Window => &mut self.payload,
            Need::Nothing => &mut self.free,
        }
    }

    /// Returns what the next stream of this level needs.
    fn next(&self, is_open: bool) -> Need {
        let payload = self.payload.front().filter(|_| is_open);
        match (payload, self.free.front()) {
            (Some(payload), Some(free)) if payload.number < free.number => Need::Window,
            (Some(_), None) => Need::Window,
            _ => Need::Nothing,
        }
    }
}

/// A set of levels, as bits. Most of the time it has one element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Levels(u8);

const _: () = assert!(Priority::COUNT == u8::BITS as usize);

impl Levels {
    fn insert(&mut self, level: usize) {
        self.0 |= 1 << level;
    }

    fn remove(&mut self, level: usize) {
        self.0 &= !(1 << level);
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the levels of lower priority.
    const fn below(self, level: usize) -> Self {
        Self(self.0 & (!1 << level))
    }

    /// Returns the levels, highest priority first.
    fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let level = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some(level)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(raw: u32) -> StreamId {
        StreamId::new(raw).unwrap()
    }

    fn priority(value: u8) -> Priority {
        Priority::new(value).unwrap()
    }

    /// Takes the next stream, and counts a frame of it as written.
    fn serve(scheduler: &mut Scheduler, level: u8) -> Option<u32> {
        let next = scheduler.pop(true)?;
        scheduler.served(priority(level));
        Some(next.get())
    }

    #[test]
    fn c123_equal_streams_take_turns() {
        let mut scheduler = Scheduler::default();
        for (raw, need) in [(1, Need::Nothing), (3, Need::Window), (5, Need::Nothing)] {
            scheduler.push(id(raw), priority(3), need);
        }
        let order: Vec<u32> = (0..6)
            .map(|turn| {
                let next = serve(&mut scheduler, 3).unwrap();
                let need = [Need::Nothing, Need::Window][turn % 2];
                scheduler.push(id(next), priority(3), need);
                next
            })
            .collect();
        assert_eq!(order, [1, 3, 5, 1, 3, 5]);
    }

    #[test]
    fn c124_the_highest_priority_is_served_first() {
        let mut scheduler = Scheduler::default();
        scheduler.push(id(1), Priority::LOWEST, Need::Window);
        scheduler.push(id(3), Priority::HIGHEST, Need::Window);
        assert_eq!(serve(&mut scheduler, 0), Some(3));
        assert_eq!(serve(&mut scheduler, 7), Some(1));
        assert_eq!(scheduler.pop(true), None);
    }

    #[test]
    fn a_removed_stream_is_not_scheduled() {
        let mut scheduler = Scheduler::default();
        for (raw, need) in [(1, Need::Window), (3, Need::Window), (5, Need::Nothing)] {
            scheduler.push(id(raw), priority(3), need);
        }
        scheduler.remove(id(3), priority(3));
        scheduler.remove(id(7), priority(3));
        assert_eq!(scheduler.pop(true), Some(id(1)));
        assert_eq!(scheduler.pop(true), Some(id(5)));
        assert_eq!(scheduler.pop(true), None);
        assert!(!scheduler.has_payload());
    }

    #[test]
    fn without_a_window_only_streams_without_payload_are_served_and_others_keep_their_places() {
        let mut scheduler = Scheduler::default();
        for raw in [1, 3, 5, 7] {
            let need = [Need::Window, Need::Nothing][raw as usize / 2 % 2];
            scheduler.push(id(raw), priority(3), need);
        }
        assert_eq!(scheduler.pop(false), Some(id(3)));
        scheduler.push(id(3), priority(3), Need::Window);
        assert_eq!(scheduler.payload_after(4).collect::<Vec<_>>(), [id(3)]);
        assert_eq!(scheduler.pop(false), Some(id(7)));
        assert_eq!(scheduler.pop(false), None);
        let order = [(); 3].map(|()| scheduler.pop(true).unwrap().get());
        assert_eq!(order, [1, 5, 3]);
    }

    #[test]
    fn every_level_is_served_within_the_stated_number_of_frames() {
        let mut scheduler = Scheduler::default();
        for level in 0..8 {
            scheduler.push(id(u32::from(level) * 2 + 1), priority(level), Need::Window);
        }
        let mut last_seen = [0; 8];
        for turn in 1..=2000_u32 {
            // Now and then the window is closed, or a stream turns out to be unable to write.
            assert_eq!(scheduler.pop(false), None);
            let next = scheduler.pop(true).unwrap();
            let level = (next.get() / 2) as usize;
            if turn % 5 > 0 {
                assert!(
                    turn - last_seen[level] <= 8 * AGING,
                    "level {level} waited {}",
                    turn - last_seen[level]
                );
                last_seen[level] = turn;
                scheduler.served(priority(level as u8));
            }
            scheduler.push(next, priority(level as u8), Need::Window);
        }
        assert!(last_seen.iter().all(|&turn| turn > 0));
    }
}
