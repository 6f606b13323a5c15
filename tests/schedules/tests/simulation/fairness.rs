//! No stream is starved: one that has payload and window of its own gets a frame within a number of
//! frames of the session, whatever the others have to send, and whatever the window of the session
//! is.

use std::collections::BTreeMap;

use spdy_frame::{Side, WindowTarget};
use spdy_tests::machine::id;

use crate::{SIDES, Simulation};

/// A level that was passed over so often is served next, and there are eight levels.
const WITHIN: usize = 8 * 16;

/// How long the streams of one side have waited for their turn.
#[derive(Default)]
pub(crate) struct Shares {
    /// How many DATA frames were made.
    frames: usize,
    waiting: BTreeMap<u32, Waiting>,
}

#[derive(Clone, Copy)]
struct Waiting {
    /// What was sent before.
    sent: usize,
    /// How many frames of others have been made since then.
    passed_over: usize,
    /// The most streams of its priority there were meanwhile.
    rivals: usize,
}

impl Simulation {
    pub(crate) fn check_shares(&mut self) {
        for side in SIDES {
            self.check_shares_of(side);
        }
    }

    fn check_shares_of(&mut self, side: Side) {
        let frames = self.pair.data_frames(side);
        self.note_events();
        // What was ready is taken back when its stream is reset.
        let made = frames.saturating_sub(self.shares[side as usize].frames);
        let mut waiting = BTreeMap::new();
        for (number, sent, rivals) in self.ready_to_send(side) {
            let earlier = self.shares[side as usize].waiting.get(&number);
            let earlier = earlier.filter(|earlier| earlier.sent == sent);
            let passed_over = earlier.map_or(0, |earlier| earlier.passed_over + made);
            let rivals = earlier.map_or(rivals, |earlier| earlier.rivals.max(rivals));
            assert!(
                passed_over <= WITHIN * rivals,
                "{side}: stream {number} waited for {passed_over} frames, of {rivals} of its priority"
            );
            let now = Waiting {
                sent,
                passed_over,
                rivals,
            };
            waiting.insert(number, now);
        }
        self.shares[side as usize] = Shares { frames, waiting };
    }

    /// The streams that have payload and window of their own, what they have sent, and how many
    /// have their priority.
    fn ready_to_send(&mut self, side: Side) -> Vec<(u32, usize, usize)> {
        let streams = &self.sides[side as usize].streams;
        let of_priority = |priority| {
            let rivals = streams.values().filter(|it| it.priority == priority);
            rivals.filter(|it| it.end.is_none()).count()
        };
        let waiting = streams
            .iter()
            .filter(|(_, stream)| stream.end.is_none() && stream.queued > stream.sent);
        let mut ready = Vec::new();
        for (number, stream) in waiting {
            let target = WindowTarget::Stream(id(*number));
            let windows = self.pair.side(side).windows(target);
            let has_window = !self.version.has_stream_windows()
                || windows.is_some_and(|windows| windows.send > 0);
            if has_window {
                ready.push((*number, stream.sent, of_priority(stream.priority)));
            }
        }
        ready
    }
}
