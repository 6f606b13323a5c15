//! Frames about the session: SETTINGS, PING, GOAWAY.

use std::time::Instant;

use spdy_frame::{
    DEFAULT_WINDOW, GoAway, GoAwayStatus, MAX_WINDOW, Ping, Setting, SettingFlags, SettingId,
    Settings, Side, StreamId,
};

use super::{Connection, Phase};
use crate::{
    SessionError, StreamError,
    proto::{
        error::Violation,
        event::{Event, PingId},
        guard::Charge,
        pings::Purpose,
        streams::{Ending, Stream},
        windows,
    },
};

impl Connection {
    /// Queues what a connection says first (protocol.md §3.7).
    pub(super) fn announce(&mut self) {
        if !self.role.enforces_windows() {
            return;
        }
        let limits = &self.config.limits;
        // Streams of the server are pushes.
        let streams = match self.role.side() {
            Side::Client if !self.config.accept_push => 0,
            Side::Client | Side::Server => limits.max_streams,
        };
        // SPDY/2 has no windows, yet node-spdy counts them there: it is told the largest.
        let window = if self.role.version().has_stream_windows() {
            limits.stream_window()
        } else {
            MAX_WINDOW
        };
        self.output.settings(vec![
            Setting::new(SettingId::MAX_CONCURRENT_STREAMS, streams),
            Setting::new(SettingId::INITIAL_WINDOW_SIZE, window),
        ]);
        if window < DEFAULT_WINDOW {
            self.output.ping(self.pings.ask_settings());
        }
    }

    pub(super) fn on_settings(&mut self, now: Instant, frame: Settings) -> Result<(), Violation> {
        self.guard.charge(Charge::Settings, now)?;
        if self.role.enforces_windows() {
            self.apply_settings(now, &frame)?;
        }
        self.events.push_back(Event::Settings(frame));
        Ok(())
    }

    fn apply_settings(&mut self, now: Instant, frame: &Settings) -> Result<(), Violation> {
        // Values with PERSISTED echo what this side once asked for: they are not the peer's (protocol.md §14).
        let own = frame
            .entries
            .iter()
            .filter(|entry| !entry.flags.contains(SettingFlags::PERSISTED));
        for entry in own {
            self.on_setting(now, entry)?;
        }
        Ok(())
    }

    fn on_setting(&mut self, now: Instant, entry: &Setting) -> Result<(), Violation> {
        match entry.id {
            SettingId::MAX_CONCURRENT_STREAMS => {
                self.streams.set_most_local(entry.value as usize);
            }
            SettingId::INITIAL_WINDOW_SIZE if self.role.version().has_stream_windows() => {
                if entry.value > MAX_WINDOW {
                    return Err(Violation::session("INITIAL_WINDOW_SIZE is above 2^31-1"));
                }
                self.change_initial_window(now, entry.value);
            }
            _ => {}
        }
        Ok(())
    }

    /// Changes the windows of all streams (protocol.md §13.2), and touches those alone that go on.
    fn change_initial_window(&mut self, now: Instant, value: u32) {
        let initial = self.windows.set_initial(value);
        if initial.has_grown {
            self.note_grant(now);
        }
        if initial.may_overflow {
            for id in self.windows.overflown(self.streams.iter()) {
                self.on_violation(now, windows::overflow(id));
            }
        }
        while let Some(id) = self.waits.pop_open(value) {
            self.window_grew(now, id, false);
        }
        if initial.has_grown {
            for id in self.waits.take_grants() {
                self.window_grew(now, id, true);
            }
        }
    }

    pub(super) fn on_ping(&mut self, now: Instant, frame: Ping) -> Result<(), Violation> {
        self.guard.charge(Charge::Ping, now)?;
        if self.role.side().peer().owns(frame.id) {
            self.output.pong(frame.id);
        } else {
            self.on_pong(now, frame.id);
        }
        Ok(())
    }

    /// An answer. One that nobody waits for is ignored (protocol.md §16).
    fn on_pong(&mut self, now: Instant, id: u32) {
        let Some(purpose) = self.pings.purpose(id) else {
            return;
        };
        self.pings.answered(purpose);
        match purpose {
            // From now on the peer has no excuse any more (protocol.md §13.3).
            Purpose::Settings | Purpose::KeepAlive => {}
            Purpose::Path => self.windows.ping_answered(now),
            Purpose::User(id, sent) => {
                let rtt = now.saturating_duration_since(sent);
                self.events.push_back(Event::Pong { id, rtt });
            }
        }
    }

    /// One says it all; those that follow may name a lower last-good id, and are charged: each looks at all streams.
    pub(super) fn on_go_away(&mut self, now: Instant, frame: GoAway) -> Result<(), Violation> {
        if !self.go_away.receive() {
            self.guard.charge(Charge::IdleFrame, now)?;
        }
        self.note_go_away(&frame);
        Ok(())
    }

    fn note_go_away(&mut self, frame: &GoAway) {
        if frame.status != GoAwayStatus::OK {
            self.outcome = Err(SessionError::GoAway {
                last_good: frame.last_good,
                status: frame.status,
            });
        }
        self.events.push_back(Event::GoAway {
            last_good: frame.last_good,
            status: frame.status,
        });
        // Streams above last-good were not processed: they may be retried elsewhere (protocol.md §15).
        let is_lost = |id: &StreamId| self.role.is_local(*id) && Some(*id) > frame.last_good;
        let ids = self.streams.iter().map(Stream::id);
        let lost: Vec<StreamId> = ids.filter(is_lost).collect();
        for id in lost {
            self.end_stream(id, Ending::failed(StreamError::NotProcessed));
        }
    }

    /// Sends a PING. Its answer is [`Event::Pong`]. At most 64 are kept waiting; the oldest is given up then.
    ///
    /// On a connection that is closing nothing is sent, and no answer comes.
    pub fn ping(&mut self, now: Instant) -> PingId {
        if self.phase == Phase::Closing {
            return PingId(self.pings.take_id());
        }
        let id = self.pings.ask_for_user(now);
        self.output.ping(id.0);
        id
    }

    /// Whether the answer to a PING of this connection is not waited for any more, though the session goes on.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_given_up(&self, id: PingId) -> bool {
        self.phase != Phase::Closing && !self.pings.awaits_user(id)
    }
}
