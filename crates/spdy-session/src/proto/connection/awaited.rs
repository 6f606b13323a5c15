//! An application that has more to send and waits for the window of its stream first.

use std::time::Instant;

use spdy_frame::StreamId;

use super::Connection;
use crate::proto::event::Event;

impl Connection {
    /// Returns what the window of a stream lets out now, in bytes; `usize::MAX` where streams have no window.
    #[must_use]
    pub fn send_window(&self, id: StreamId) -> usize {
        if !self.role.has_stream_windows() {
            return usize::MAX;
        }
        let stream = self.streams.peek(id);
        stream.map_or(0, |stream| self.windows.available(stream))
    }

    /// Waits with more payload until the window of a stream is open, which [`Event::WindowOpen`] tells. Meanwhile the
    /// stream counts as one that has payload and no window for it, with its [timeout](crate::Timeouts::blocked).
    pub fn await_window(&mut self, now: Instant, id: StreamId) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        let window = self.windows.available(&stream);
        if window > 0 {
            self.events.push_back(Event::WindowOpen { id, window });
        } else if self.inbound.is_ended() {
            self.lose_stream(id); // No peer is left to grant anything.
        } else {
            let moment = self.clock.at(now);
            self.waits.begin_for_application(&mut stream, moment);
        }
    }

    /// Waits until the window of a stream is another than the `known` one, open or not, which [`Event::WindowOpen`]
    /// tells once. The stream waits for nothing of the peer meanwhile, so no timeout runs.
    pub fn await_grant(&mut self, id: StreamId, known: usize) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        let window = self.windows.available(&stream);
        if window != known {
            self.events.push_back(Event::WindowOpen { id, window });
        } else {
            self.waits.await_grant(&mut stream);
        }
    }

    // --- what the peer grants ---------------------------------------------------------------------------

    /// The peer made a window larger.
    pub(super) fn note_grant(&mut self, now: Instant) {
        let moment = self.clock.at(now);
        self.waits.granted(moment, self.output.is_full());
    }

    /// The window of a stream grew, or may have. Tells its application if it `awaits` that, open or not.
    pub(super) fn window_grew(&mut self, now: Instant, id: StreamId, awaits: bool) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        let window = self.windows.available(&stream);
        let mut is_awaited = false;
        if stream.wait.is_blocked() && window > 0 {
            let moment = self.clock.at(now);
            is_awaited = self.waits.end(&mut stream, moment);
            self.output.schedule(&mut stream);
        }
        if awaits {
            is_awaited |= self.waits.take_grant(&mut stream);
        }
        if is_awaited {
            self.events.push_back(Event::WindowOpen { id, window });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Buf;
    use spdy_frame::{
        Frame, HeaderBlock, RstStatus, Setting, SettingFlags, SettingId, Settings, Side, Version,
        WindowIncrement, WindowTarget, WindowUpdate,
    };

    use super::*;
    use crate::{StreamError, config::Config, error::Timeout, proto::connection::Open};

    /// A client whose stream has no window and waits for one.
    fn waiting(now: Instant) -> (Connection, StreamId) {
        let config = Arc::new(Config::default());
        let mut client = Connection::new(Side::Client, Version::V3_1, config, now);
        initial_window(&mut client, now, 0);
        let open = client.open(now, HeaderBlock::new(), Open::default());
        let id = open.expect("there is no limit yet");
        write_all(&mut client, now);
        client.await_window(now, id);
        assert_eq!(events(&mut client), []);
        (client, id)
    }

    fn initial_window(client: &mut Connection, now: Instant, value: u32) {
        let entry = Setting {
            flags: SettingFlags::default(),
            id: SettingId::INITIAL_WINDOW_SIZE,
            value,
        };
        let settings = Settings {
            clear: false,
            entries: vec![entry],
        };
        client.handle_frame(now, Frame::Settings(settings));
    }

    fn write_all(client: &mut Connection, now: Instant) -> usize {
        let mut written = 0;
        while client.poll_transmit(now).has_remaining() {
            let out = client.poll_transmit(now);
            written += out.remaining();
            out.advance(out.remaining());
        }
        written
    }

    /// The windows that are told to be open, and the number of streams that were timed out.
    fn events(client: &mut Connection) -> Vec<Result<usize, Timeout>> {
        std::iter::from_fn(|| client.poll_event())
            .filter_map(|event| match event {
                Event::WindowOpen { window, .. } => Some(Ok(window)),
                Event::Reset {
                    error: StreamError::TimedOut(timeout),
                    ..
                } => Some(Err(timeout)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_window_that_is_granted_is_told_once() {
        let now = Instant::now();
        let (mut client, id) = waiting(now);
        let grant = WindowUpdate {
            target: WindowTarget::Stream(id),
            increment: WindowIncrement::new(5).unwrap(),
        };
        client.handle_frame(now, Frame::WindowUpdate(grant));
        client.handle_frame(now, Frame::WindowUpdate(grant));
        assert_eq!(events(&mut client), [Ok(5)]);
        client.await_window(now, id);
        assert_eq!(events(&mut client), [Ok(10)], "it is open already");
        assert!(client.waits.blocked() == 0);
    }

    #[test]
    fn a_window_that_all_streams_get_is_told() {
        let now = Instant::now();
        let (mut client, _) = waiting(now);
        initial_window(&mut client, now, 7);
        assert_eq!(events(&mut client), [Ok(7)]);
        assert!(client.waits.blocked() == 0);
    }

    #[test]
    fn a_stream_that_waits_for_other_things_is_told_of_a_grant_once() {
        let now = Instant::now();
        let (mut client, id) = waiting(now);
        initial_window(&mut client, now, 7);
        assert_eq!(events(&mut client), [Ok(7)]);
        let grant = WindowUpdate {
            target: WindowTarget::Stream(id),
            increment: WindowIncrement::new(5).unwrap(),
        };
        client.handle_frame(now, Frame::WindowUpdate(grant));
        assert_eq!(events(&mut client), [], "it does not wait");
        client.await_grant(id, 7);
        assert_eq!(events(&mut client), [Ok(12)], "it has come before");
        client.await_grant(id, 12);
        assert_eq!(events(&mut client), []);
        client.handle_frame(now, Frame::WindowUpdate(grant));
        client.handle_frame(now, Frame::WindowUpdate(grant));
        assert_eq!(events(&mut client), [Ok(17)]);
        client.await_grant(id, 22);
        initial_window(&mut client, now, 6);
        assert_eq!(events(&mut client), [], "it is smaller");
        initial_window(&mut client, now, 8);
        assert_eq!(events(&mut client), [Ok(23)]);
        client.await_grant(id, 23);
        client.reset(id, RstStatus::CANCEL);
        assert_eq!(client.waits.grants(), 0);
    }

    #[test]
    fn a_stream_that_is_granted_no_window_is_reset_though_it_has_queued_nothing() {
        let now = Instant::now();
        let (mut client, _) = waiting(now);
        let later = now + Duration::from_secs(30);
        client.handle_timeout(later - Duration::from_millis(1));
        assert_eq!(events(&mut client), []);
        client.handle_timeout(later);
        assert_eq!(events(&mut client), [Err(Timeout::Blocked)]);
        assert!(client.waits.blocked() == 0);
    }

    #[test]
    fn header_fields_and_fin_need_no_window() {
        let now = Instant::now();
        let (mut client, id) = waiting(now);
        client.send_headers(id, HeaderBlock::new(), false).unwrap();
        assert!(write_all(&mut client, now) > 0);
        assert_eq!(client.waits.blocked(), 1, "it still waits");
        client.finish(id).unwrap();
        assert_eq!(write_all(&mut client, now), 8);
        assert!(client.waits.blocked() == 0);
        client.handle_timeout(now + Duration::from_secs(60));
        assert_eq!(events(&mut client), [], "it waits for nothing");
        client.reset(id, RstStatus::CANCEL);
    }

    #[test]
    fn a_stream_that_is_reset_waits_no_more() {
        let now = Instant::now();
        let (mut client, id) = waiting(now);
        client.reset(id, RstStatus::CANCEL);
        assert!(client.waits.blocked() == 0);
    }
}
