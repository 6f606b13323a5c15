//! SETTINGS: how many streams and how large windows the peer allows.

use std::time::Instant;

use spdy_frame::{MAX_WINDOW, Setting, SettingFlags, SettingId, Settings};

use super::{Connection, Handled};
use crate::{
    Rule,
    proto::{error::Violation, event::Event, guard::Charge, windows},
};

impl Connection {
    pub(super) fn on_settings(&mut self, now: Instant, frame: Settings) -> Handled {
        self.guard
            .charge(Charge::Settings, &self.config.limits, now)?;
        if self.role.enforces_windows() {
            self.apply_settings(now, &frame)?;
        }
        self.events.push_back(Event::Settings(frame));
        Ok(())
    }

    fn apply_settings(&mut self, now: Instant, frame: &Settings) -> Handled {
        // Entries with PERSISTED echo values of this side, so they are not the peer's (protocol.md
        // §14).
        let own = frame
            .entries
            .iter()
            .filter(|entry| !entry.flags.contains(SettingFlags::PERSISTED));
        for entry in own {
            self.on_setting(now, entry)?;
        }
        Ok(())
    }

    fn on_setting(&mut self, now: Instant, entry: &Setting) -> Handled {
        match entry.id {
            SettingId::MAX_CONCURRENT_STREAMS => {
                self.streams.set_most_local(entry.value as usize);
            }
            SettingId::INITIAL_WINDOW_SIZE if self.role.version().has_stream_windows() => {
                if entry.value > MAX_WINDOW {
                    return Err(Violation::session(Rule::InitialWindow));
                }
                self.change_initial_window(now, entry.value);
            }
            _ => {}
        }
        Ok(())
    }

    /// Changes the windows of all streams (protocol.md §13.2). Only the streams that can go on are
    /// touched.
    fn change_initial_window(&mut self, now: Instant, value: u32) {
        let initial = self.windows.set_initial(value);
        if let Some(grown) = initial.grown {
            self.note_grant(now, grown);
        }
        if initial.may_overflow {
            for id in self.windows.overflown(self.streams.iter()) {
                self.on_violation(now, windows::overflow(id));
            }
        }
        while let Some(id) = self.waits.pop_open(value) {
            self.window_grew(now, id, false);
        }
        if initial.grown.is_some() {
            for id in self.waits.take_grants() {
                self.window_grew(now, id, true);
            }
        }
    }
}
