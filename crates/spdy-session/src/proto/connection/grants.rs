//! What happens when a window grows, of the peer or of this side.

use std::time::Instant;

use spdy_frame::{DEFAULT_WINDOW, StreamId};

use super::Connection;
use crate::proto::{
    event::Event,
    windows::{Grown, RecvWindow},
};

impl Connection {
    /// Notes that the peer enlarged a window.
    pub(super) fn note_grant(&mut self, now: Instant, _: Grown) {
        let moment = self.clock.at(now);
        self.waits.granted(moment, self.output.is_full());
    }

    /// Lets a stream go on after its window grew. If it `awaits` a new window, open or not, that is
    /// reported to the application.
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

    /// Adds the streams that have joined those that wait for the window of the session. Their waits
    /// begin now.
    pub(super) fn join_stall(&mut self, now: Instant) {
        let moment = self.clock.at(now);
        for id in self.waits.newcomers(self.output.scheduler()) {
            if let Some(mut stream) = self.streams.get(id) {
                self.waits.join_stall(&mut stream, moment);
            }
        }
    }

    /// Notes that the application has read a part of a piece. It counts as consumed only when it is
    /// read completely.
    #[cfg(feature = "tokio")]
    pub(crate) fn note_partly_read(&mut self, id: StreamId) {
        self.note_read_on(id);
    }

    /// Returns credit for consumed bytes of a stream, which may be gone.
    pub(super) fn return_bytes(&mut self, id: StreamId, bytes: usize) {
        self.note_read_on(id);
        let Some(mut stream) = self.streams.get(id) else {
            if self.streams.consume_gone(id, bytes) {
                self.windows.consume(bytes);
            }
            return;
        };
        self.windows.consume(bytes);
        if stream.consume(bytes).credit_due {
            self.output.credit(id);
        }
    }

    /// Notes that the application reads a stream, which counts if unread bytes hold up the peer.
    #[inline]
    fn note_read_on(&mut self, id: StreamId) {
        if self.clock.unread_since().is_some() && self.makes_room(id) {
            self.clock.note_consumed();
        }
    }

    /// Returns whether the peer can go on better when the application consumes payload of a
    /// stream. While the transport is read, what the peer sends into the room that is left, and the
    /// application consumes, makes no more room.
    fn makes_room(&self, id: StreamId) -> bool {
        self.is_overfull() || self.streams.is_fullest(id)
    }

    /// Returns the receive window of a new stream.
    pub(super) fn new_window(&self) -> RecvWindow {
        let window = if self.role.has_stream_windows() {
            self.config.limits.stream_window
        } else {
            DEFAULT_WINDOW
        };
        let slack = match self.pings.awaits_settings() {
            true => DEFAULT_WINDOW.saturating_sub(window),
            false => 0,
        };
        RecvWindow::with_slack(window, slack)
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
    use crate::{StreamError, Timeout, config::Config, proto::connection::OpenOptions};

    /// Returns a client whose stream has no window and waits for one.
    fn waiting(now: Instant) -> (Connection, StreamId) {
        let config = Arc::new(Config::default());
        let mut client = Connection::new(Side::Client, Version::V3_1, config, now);
        initial_window(&mut client, now, 0);
        let open = client.open(now, HeaderBlock::new(), OpenOptions::default());
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

    /// Returns the windows that were reported, and the timeouts of streams.
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
    fn an_awaited_window_is_reported_once() {
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
    fn a_larger_initial_window_is_reported_to_waiting_streams() {
        let now = Instant::now();
        let (mut client, _) = waiting(now);
        initial_window(&mut client, now, 7);
        assert_eq!(events(&mut client), [Ok(7)]);
        assert!(client.waits.blocked() == 0);
    }

    #[test]
    fn a_changed_window_is_reported_once_to_a_stream_that_awaits_a_grant() {
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
