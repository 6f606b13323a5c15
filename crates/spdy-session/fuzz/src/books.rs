//! The application's record of its streams, and the assertions about the machine.

use std::collections::BTreeMap;

use spdy_frame::{
    DecodeLimits, Decoder, Frame, HeaderDecoder, HeaderLimits, StreamId, Version, WindowTarget,
    bytes::{Bytes, BytesMut},
};
use spdy_session::{
    FlowControl, StreamError, Timeout,
    proto::{Connection, Event, OpenOptions, Phase},
};

/// The streams that the application knows.
#[derive(Debug, Default)]
pub(crate) struct Books(BTreeMap<StreamId, Stream>);

#[derive(Debug, Default)]
struct Stream {
    unread: usize,
    received: usize,
    queued: usize,
    finished: bool,
    ended: bool,
    failed: bool,
    given_up: bool,
    mute: bool,
}

impl Books {
    pub(crate) fn streams(&self) -> Vec<StreamId> {
        self.0.keys().copied().collect()
    }

    pub(crate) fn opened_here(&mut self, id: StreamId, how: OpenOptions) {
        let stream = Stream {
            finished: how.fin,
            ended: how.unidirectional,
            ..Stream::default()
        };
        assert!(self.0.insert(id, stream).is_none(), "ids are new");
    }

    pub(crate) fn queued(&mut self, id: StreamId, bytes: usize) {
        self.stream(id).queued += bytes;
    }

    pub(crate) fn finished(&mut self, id: StreamId, fin: bool) {
        if let Some(stream) = self.0.get_mut(&id) {
            stream.finished |= fin;
        }
    }

    pub(crate) fn give_up(&mut self, id: StreamId) {
        if let Some(stream) = self.0.get_mut(&id) {
            stream.given_up = true;
        }
    }

    /// Consumes at most `most` of the unread bytes. Returns how many.
    pub(crate) fn consume(&mut self, id: StreamId, most: usize) -> usize {
        let Some(stream) = self.0.get_mut(&id) else {
            return 0;
        };
        let bytes = most.min(stream.unread);
        stream.unread -= bytes;
        bytes
    }

    /// Drops the application's handles of a stream that has failed.
    pub(crate) fn release(&self, connection: &mut Connection, id: StreamId) {
        if self.0.get(&id).is_some_and(|stream| stream.failed) {
            connection.release(id);
        }
    }

    /// Returns the next bytes of a stream.
    pub(crate) fn payload(&self, id: StreamId, bytes: usize) -> Bytes {
        let at = self.0.get(&id).map_or(0, |stream| stream.queued);
        (at..at + bytes).map(|at| pattern(id, at)).collect()
    }

    pub(crate) fn note_events(&mut self, connection: &mut Connection) {
        while let Some(event) = connection.poll_event() {
            self.note(&event);
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Opened(opened) => {
                let stream = Stream {
                    ended: opened.fin,
                    mute: opened.unidirectional,
                    finished: opened.unidirectional,
                    ..Stream::default()
                };
                assert!(
                    self.0.insert(opened.id, stream).is_none(),
                    "a stream is opened once"
                );
            }
            Event::Replied { id, fin, .. } | Event::Headers { id, fin, .. } => {
                let stream = self.live(*id);
                assert!(!stream.ended, "nothing comes after FIN");
                stream.ended = *fin;
            }
            Event::Data { id, payload, fin } => {
                let stream = self.live(*id);
                assert!(!stream.ended, "nothing comes after FIN");
                stream.ended = *fin;
                stream.received += payload.len();
                stream.unread += payload.len();
            }
            Event::Sent { id, .. } => drop(self.live(*id)),
            Event::Reset { id, error } => {
                if matches!(error, StreamError::TimedOut(Timeout::Unread)) {
                    // The stream may have ended before. Its unread bytes do not count any more.
                    self.stream(*id).unread = 0;
                } else {
                    self.live(*id);
                }
                self.stream(*id).failed = true;
            }
            _ => {}
        }
    }

    fn live(&mut self, id: StreamId) -> &mut Stream {
        let stream = self.stream(id);
        assert!(!stream.failed, "no event comes after the end");
        stream
    }

    fn stream(&mut self, id: StreamId) -> &mut Stream {
        self.0.get_mut(&id).expect("the stream was opened")
    }

    pub(crate) fn check(&self, connection: &Connection) {
        let (stats, config) = (connection.stats(), connection.config());
        let limits = &config.limits;
        let unread: usize = self.0.values().map(|stream| stream.unread).sum();
        assert_eq!(stats.unread, unread);
        assert!(stats.backlog <= limits.max_backlog);
        assert!(stats.remote_streams + stats.cancelled <= 2 * limits.max_streams as usize);
        assert!(stats.held_headers <= limits.held_headers);
        let Some(session) = connection.windows(WindowTarget::Session) else {
            panic!("the session has windows");
        };
        assert_eq!(session.unread, unread);
        if config.flow_control == FlowControl::Enforce {
            let sum = session.receive + session.unread as i64 + i64::from(session.returnable);
            assert_eq!(sum, i64::from(session.size), "credit is conserved");
            let allowed = match connection.version() {
                Version::V3_1 => limits.session_window..=limits.max_session_window,
                Version::V2 | Version::V3 => 65_536..=65_536,
            };
            assert!(allowed.contains(&session.size), "{session:?}");
        }
        if connection.phase() == Phase::Closing {
            assert_eq!((stats.local_streams, stats.remote_streams), (0, 0));
        }
    }

    /// Asserts that no stream of a session that goes on waits for anything.
    pub(crate) fn assert_settled(&self) {
        for (id, stream) in &self.0 {
            let is_over = stream.failed
                || stream.given_up
                || (stream.finished && (stream.ended || stream.mute));
            assert!(is_over, "{id} waits for ever: {stream:?}");
        }
    }

    /// Asserts that all that was sent was received, unless a side gave the stream up.
    pub(crate) fn assert_received(&self, sender: &Self) {
        for (id, here) in &self.0 {
            let Some(there) = sender.0.get(id) else {
                continue;
            };
            if ![here, there]
                .iter()
                .any(|stream| stream.failed || stream.given_up)
            {
                assert_eq!(here.received, there.queued, "{id}");
            }
        }
    }
}

fn pattern(id: StreamId, at: usize) -> u8 {
    (at + 7 * id.get() as usize) as u8
}

/// Reads the output of a machine with the codec.
pub(crate) struct ReadBack {
    bytes: BytesMut,
    decoder: Decoder,
    headers: HeaderDecoder,
}

impl ReadBack {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            bytes: BytesMut::new(),
            decoder: Decoder::new(version, DecodeLimits::default()),
            headers: HeaderDecoder::new(version, HeaderLimits::default()),
        }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while let Some(frame) = self
            .decoder
            .decode(&mut self.bytes)
            .expect("it writes sound frames")
        {
            let block = match frame {
                Frame::SynStream(frame) => frame.block,
                Frame::SynReply(frame) => frame.block,
                Frame::Headers(frame) => frame.block,
                _ => continue,
            };
            self.headers
                .decode(block)
                .expect("it writes sound header blocks");
        }
    }
}
