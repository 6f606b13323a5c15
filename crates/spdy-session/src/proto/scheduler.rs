//! Which stream writes next: by priority, round-robin within one, and nobody waits for ever.

use std::collections::VecDeque;

use spdy_frame::{Priority, StreamId};

/// A level that has been passed over this many times in a row is served next, whatever its priority.
///
/// So with eight levels busy each gets at least one frame in `8 * AGING`, and a stream among `n` of its level
/// one in `8 * AGING * n` (protocol.md §17, "an aging rule").
pub(crate) const AGING: u32 = 16;

/// The streams that have something to write and may write it. A stream stands in it at most once.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    levels: [Level; Priority::COUNT],
    ready: usize,
}

#[derive(Debug, Default)]
struct Level {
    ring: VecDeque<StreamId>,
    passed_over: u32,
}

impl Scheduler {
    /// Puts a stream behind the others of its priority.
    pub(crate) fn push(&mut self, id: StreamId, priority: Priority) {
        self.levels[usize::from(priority.get())].ring.push_back(id);
        self.ready += 1;
    }

    /// Takes the stream whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<StreamId> {
        if self.ready == 0 {
            return None;
        }
        let chosen = self.choose()?;
        for level in &mut self.levels[chosen + 1..] {
            if !level.ring.is_empty() {
                level.passed_over += 1;
            }
        }
        let level = &mut self.levels[chosen];
        level.passed_over = 0;
        self.ready -= 1;
        level.ring.pop_front()
    }

    /// Takes a stream out that does not write any more.
    pub(crate) fn remove(&mut self, id: StreamId, priority: Priority) {
        let ring = &mut self.levels[usize::from(priority.get())].ring;
        if let Some(place) = ring.iter().position(|&waiting| waiting == id) {
            ring.remove(place);
            self.ready -= 1;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn choose(&self) -> Option<usize> {
        let mut busy = (0..self.levels.len()).filter(|&level| !self.levels[level].ring.is_empty());
        let highest = busy.next()?;
        let oldest = busy.max_by_key(|&level| self.levels[level].passed_over);
        Some(
            oldest
                .filter(|&level| self.levels[level].passed_over >= AGING)
                .unwrap_or(highest),
        )
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

    #[test]
    fn c123_equal_streams_take_turns() {
        let mut scheduler = Scheduler::default();
        for raw in [1, 3, 5] {
            scheduler.push(id(raw), priority(3));
        }
        let order: Vec<u32> = (0..6)
            .map(|_| {
                let next = scheduler.pop().unwrap();
                scheduler.push(next, priority(3));
                next.get()
            })
            .collect();
        assert_eq!(order, [1, 3, 5, 1, 3, 5]);
    }

    #[test]
    fn c124_the_highest_priority_is_served_first() {
        let mut scheduler = Scheduler::default();
        scheduler.push(id(1), Priority::LOWEST);
        scheduler.push(id(3), Priority::HIGHEST);
        assert_eq!(scheduler.pop(), Some(id(3)));
        assert_eq!(scheduler.pop(), Some(id(1)));
        assert_eq!(scheduler.pop(), None);
    }

    #[test]
    fn a_stream_that_was_taken_out_does_not_come_up() {
        let mut scheduler = Scheduler::default();
        for raw in [1, 3, 5] {
            scheduler.push(id(raw), priority(3));
        }
        scheduler.remove(id(3), priority(3));
        scheduler.remove(id(7), priority(3));
        assert_eq!(scheduler.pop(), Some(id(1)));
        assert_eq!(scheduler.pop(), Some(id(5)));
        assert_eq!(scheduler.pop(), None);
    }

    #[test]
    fn every_level_is_served_within_the_stated_number_of_frames() {
        let mut scheduler = Scheduler::default();
        for level in 0..8 {
            scheduler.push(id(u32::from(level) * 2 + 1), priority(level));
        }
        let mut last_seen = [0; 8];
        for turn in 1..=2000_u32 {
            let next = scheduler.pop().unwrap();
            let level = (next.get() / 2) as usize;
            assert!(
                turn - last_seen[level] <= 8 * AGING,
                "level {level} waited {}",
                turn - last_seen[level]
            );
            last_seen[level] = turn;
            scheduler.push(next, priority(level as u8));
        }
        assert!(last_seen.iter().all(|&turn| turn > 0));
    }
}
