//! Finds the two streams of each connection.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    time::Duration,
};

use spdy_session::{HeaderBlock, Stream, StreamId};
use tokio::time::{Instant, sleep_until};

use crate::{
    config::after,
    options::parse_port,
    stream_type::{StreamType, only},
};

/// What the two streams of a connection have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Request(Box<[u8]>),
    /// Very old clients send no `requestid`, and open the data stream directly after the error
    /// stream. The key is the id of the error stream.
    ErrorStream(u32),
}

/// The connection that a stream belongs to, and which of its two streams it is.
#[derive(Debug)]
pub(super) struct Half {
    key: Key,
    port: u16,
    is_error: bool,
}

impl Half {
    /// Parses the headers of a stream. Returns `None` if its type, port or request id is missing,
    /// invalid, or too long.
    pub(super) fn of(headers: &HeaderBlock, id: StreamId) -> Option<Self> {
        let is_error = match StreamType::of(headers)? {
            StreamType::Error => true,
            StreamType::Data => false,
            _ => return None,
        };
        let port = std::str::from_utf8(only(headers, "port")?).ok()?;
        let port = parse_port(port)?;
        let key = match headers.get("requestid") {
            Some(_) => {
                let request = only(headers, "requestid")?;
                (request.len() <= MAX_REQUEST_ID).then(|| Key::Request(request.into()))?
            }
            None if is_error => Key::ErrorStream(id.get()),
            None => Key::ErrorStream(id.get().checked_sub(2)?),
        };
        Some(Self {
            key,
            port,
            is_error,
        })
    }
}

/// The two streams of a connection.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) port: u16,
    pub(super) error: Stream,
    pub(super) data: Stream,
}

/// The connections of a session. A connection that has ended leaves no entry.
#[derive(Debug)]
pub(super) struct Pairs {
    connections: HashMap<Key, State>,
    /// The first streams of incomplete pairs, in the order in which they expire.
    waiting: BTreeMap<u64, Key>,
    next: u64,
    time: Duration,
}

#[derive(Debug)]
enum State {
    Waiting(Box<Waiting>),
    Connected,
}

/// The first stream of an incomplete pair.
#[derive(Debug)]
struct Waiting {
    half: Half,
    stream: Stream,
    until: Instant,
    /// Its place in [`Pairs::waiting`].
    place: u64,
}

impl Pairs {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            connections: HashMap::new(),
            waiting: BTreeMap::new(),
            next: 0,
            time,
        }
    }

    /// Returns whether this stream is needed: it is the first of its pair, or the missing one of a
    /// pair with the same port.
    pub(super) fn has_place(&self, half: &Half) -> bool {
        match self.connections.get(&half.key) {
            Some(State::Waiting(waiting)) => {
                waiting.half.is_error != half.is_error && waiting.half.port == half.port
            }
            Some(State::Connected) => false,
            None => true,
        }
    }

    /// Adds a stream that [has a place](Self::has_place). Returns the pair if it is complete.
    pub(super) fn add(&mut self, half: Half, stream: Stream) -> Option<(Key, Pair)> {
        let (key, port) = (half.key.clone(), half.port);
        let first = match self.connections.insert(key.clone(), State::Connected) {
            Some(State::Waiting(first)) => first,
            Some(State::Connected) => return None,
            None => {
                self.wait(half, stream);
                return None;
            }
        };
        self.waiting.remove(&first.place);
        let (error, data) = match half.is_error {
            true => (stream, first.stream),
            false => (first.stream, stream),
        };
        Some((key, Pair { port, error, data }))
    }

    fn wait(&mut self, half: Half, stream: Stream) {
        let (key, place) = (half.key.clone(), self.next);
        let waiting = Waiting {
            half,
            stream,
            until: after(self.time),
            place,
        };
        self.next += 1;
        self.waiting.insert(place, key.clone());
        self.connections
            .insert(key, State::Waiting(Box::new(waiting)));
    }

    /// Removes a connection that has ended, so its key can be used again.
    pub(super) fn ended(&mut self, key: &Key) {
        self.connections.remove(key);
    }

    /// Waits until a first stream has waited too long, and returns it as the error stream or the
    /// data stream. Cancel safe.
    pub(super) async fn expired(&mut self) -> (Option<Stream>, Option<Stream>) {
        let first = self.waiting.first_key_value();
        let Some((key, State::Waiting(waiting))) =
            first.and_then(|(_, key)| self.connections.get_key_value(key))
        else {
            return pending().await;
        };
        sleep_until(waiting.until).await;
        let (key, place) = (key.clone(), waiting.place);
        self.waiting.remove(&place);
        match self.connections.remove(&key) {
            Some(State::Waiting(waiting)) if waiting.half.is_error => (Some(waiting.stream), None),
            Some(State::Waiting(waiting)) => (None, Some(waiting.stream)),
            _ => (None, None),
        }
    }
}

/// The longest `requestid`, in bytes. kubectl sends a number, and others send a UUID.
const MAX_REQUEST_ID: usize = 256;

#[cfg(test)]
mod tests {
    use spdy_session::{Config, OpenOptions, Version};

    use super::*;

    fn half(fields: &[(&str, &str)], id: u32) -> Option<Half> {
        let headers = HeaderBlock::from_pairs(fields.iter().copied()).unwrap();
        Half::of(&headers, StreamId::new(id).unwrap())
    }

    #[test]
    fn halves_of_one_request_have_one_key() {
        let error = [
            ("streamtype", "error"),
            ("port", "8080"),
            ("requestid", "0"),
        ];
        let data = [("streamtype", "data"), ("port", "8080"), ("requestid", "0")];
        let (error, data) = (half(&error, 1).unwrap(), half(&data, 9).unwrap());
        assert_eq!(error.key, data.key);
        assert_eq!((error.port, error.is_error), (8080, true));
        assert_eq!((data.port, data.is_error), (8080, false));
    }

    #[test]
    fn without_a_request_the_data_stream_follows_the_error_stream() {
        let error = half(&[("streamtype", "error"), ("port", "1")], 5).unwrap();
        let data = half(&[("streamtype", "data"), ("port", "1")], 7).unwrap();
        assert_eq!(error.key, data.key);
        assert!(half(&[("streamtype", "data"), ("port", "1")], 1).is_none());
    }

    #[test]
    fn a_request_has_one_value_of_no_more_than_256_bytes() {
        let longest = "x".repeat(MAX_REQUEST_ID);
        for (request, is_good) in [
            (&*longest, true),
            (&format!("{longest}x"), false),
            ("0\x001", false),
        ] {
            let fields = [
                ("streamtype", "data"),
                ("port", "1"),
                ("requestid", request),
            ];
            assert_eq!(half(&fields, 3).is_some(), is_good, "{request:?}");
        }
    }

    #[test]
    fn a_missing_or_wrong_type_or_port_is_refused() {
        for port in ["0", "65536", "-1", "+80", "http", "", "80 "] {
            assert!(
                half(&[("streamtype", "data"), ("port", port)], 3).is_none(),
                "{port}"
            );
        }
        assert!(half(&[("streamtype", "data")], 3).is_none());
        assert!(half(&[("port", "80")], 3).is_none());
        assert!(half(&[("streamtype", "stdin"), ("port", "80")], 3).is_none());
    }

    /// Streams of a session, and what keeps it alive.
    async fn streams(count: usize) -> (Vec<Stream>, impl Sized) {
        let (near, far) = tokio::io::duplex(4096);
        let (session, incoming, driver) =
            spdy_session::client(near, Version::V3_1, Config::default());
        let (far, mut accepting, other) =
            spdy_session::server(far, Version::V3_1, Config::default());
        let tasks = (tokio::spawn(driver), tokio::spawn(other));
        let mut streams = Vec::new();
        for _ in 0..count {
            let opening = session.open(HeaderBlock::new(), OpenOptions::default());
            let opened = opening.await.unwrap();
            let pending = accepting.accept().await.unwrap();
            streams.push(pending.send_reply(HeaderBlock::new()).unwrap());
            drop(opened);
        }
        (streams, (session, incoming, far, accepting, tasks))
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_connection_that_has_ended_nothing_is_left() {
        let (mut streams, _session) = streams(5).await;
        let mut pairs = Pairs::new(Duration::from_secs(30));
        let request =
            |id, kind| half(&[("streamtype", kind), ("port", "1"), ("requestid", id)], 1).unwrap();
        let lone = streams.pop().unwrap();
        assert!(pairs.add(request("lone", "error"), lone).is_none());
        for id in ["a", "b"] {
            let (first, second) = (streams.pop().unwrap(), streams.pop().unwrap());
            assert!(pairs.add(request(id, "error"), first).is_none());
            let (key, _) = pairs.add(request(id, "data"), second).unwrap();
            assert!(!pairs.has_place(&request(id, "data")));
            pairs.ended(&key);
            assert!(pairs.has_place(&request(id, "data")));
        }
        assert_eq!((pairs.connections.len(), pairs.waiting.len()), (1, 1));
        let (error, data) = pairs.expired().await;
        assert!(error.is_some() && data.is_none());
        assert_eq!((pairs.connections.len(), pairs.waiting.len()), (0, 0));
    }
}
