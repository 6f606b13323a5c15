//! What is asked of a machine again and again.

use spdy_frame::{GoAwayStatus, Side, StreamId, Version};
use spdy_session::proto::{OpenOptions, Phase};

use super::{Happened, Machine};
use crate::{frames, wire::Received};

impl Machine {
    /// Shows that the session works: a new stream is opened, answered and closed, with header
    /// fields that no block had before, so that a compression context that was lost would show.
    ///
    /// # Panics
    ///
    /// If it does not work.
    pub fn assert_usable(&mut self) {
        let _ = (self.sent(), self.events());
        assert_eq!(self.connection.phase(), Phase::Open, "the session goes on");
        match self.connection.side() {
            Side::Server => self.assert_server_usable(),
            Side::Client => self.assert_client_usable(),
        }
    }

    fn assert_server_usable(&mut self) {
        let version = self.connection.version();
        let stream = self.spare;
        self.spare += 2;
        let value = format!("value {stream}");
        self.feed(
            frames::syn_stream(version, stream)
                .get("/usable")
                .field("x-probe", &value)
                .fin(),
        );
        let events = self.events();
        let [
            Happened::Opened {
                id,
                fields,
                fin: true,
                ..
            },
        ] = &events[..]
        else {
            panic!("one stream is opened: {events:?}");
        };
        assert_eq!(*id, stream);
        assert!(fields.contains(&("x-probe".into(), value)), "{fields:?}");
        self.reply(stream, true);
        let sent = self.sent();
        let [
            Received::SynReply {
                stream: replied,
                fin: true,
                fields,
            },
        ] = &sent[..]
        else {
            panic!("one reply is sent: {sent:?}");
        };
        assert_eq!((*replied, fields.len()), (stream, 2));
    }

    fn assert_client_usable(&mut self) {
        let version = self.connection.version();
        let stream = self.open(OpenOptions::new().fin(true));
        let sent = self.sent();
        let [
            Received::SynStream {
                stream: opened,
                fields,
                ..
            },
        ] = &sent[..]
        else {
            panic!("one stream is opened: {sent:?}");
        };
        assert_eq!((*opened, fields.len()), (stream, 5));
        let value = format!("value {stream}");
        self.feed(
            frames::syn_reply(version, stream)
                .status("200 OK")
                .field("x-probe", &value)
                .fin(),
        );
        let events = self.events();
        let [
            Happened::Replied {
                id,
                fields,
                fin: true,
            },
        ] = &events[..]
        else {
            panic!("one reply came: {events:?}");
        };
        assert_eq!(*id, stream);
        assert!(fields.contains(&("x-probe".into(), value)), "{fields:?}");
    }

    /// Shows that the connection has sent GOAWAY with this status (SPDY/2 has none) and closes.
    /// Returns its last-good id, and what was sent before it.
    ///
    /// # Panics
    ///
    /// If it has not.
    pub fn assert_goes_away(&mut self, status: GoAwayStatus) -> (u32, Vec<Received>) {
        let mut sent = self.sent();
        let Some(Received::GoAway(frame)) = sent.pop() else {
            panic!("GOAWAY is the last frame: {sent:?}");
        };
        let expected = match self.connection.version() {
            Version::V2 => GoAwayStatus::OK,
            Version::V3 | Version::V3_1 => status,
        };
        assert_eq!(frame.status, expected);
        assert_eq!(self.connection.phase(), Phase::Closing);
        assert!(!self.connection.wants_input());
        (frame.last_good.map_or(0, StreamId::get), sent)
    }
}
