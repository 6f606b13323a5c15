//! Finds the two streams of a connection.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    time::Duration,
};

use spdy_session::{HeaderBlock, Stream, StreamId};
use tokio::time::{Instant, sleep_until};

/// What the two streams of a connection have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Request(Vec<u8>),
    /// Very old clients give no `requestid`, and open the data stream next to the error stream: its id.
    ErrorStream(u32),
}

/// Which half of which connection a stream is.
#[derive(Debug)]
pub(super) struct Half {
    key: Key,
    port: u16,
    is_error: bool,
}

impl Half {
    /// Reads the headers of a stream. `None`: its type or its port is missing or wrong.
    pub(super) fn of(headers: &HeaderBlock, id: StreamId) -> Option<Self> {
        let is_error = match headers.get("streamtype")? {
            b"error" => true,
            b"data" => false,
            _ => return None,
        };
        let port = std::str::from_utf8(headers.get("port")?).ok()?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let key = match headers.get("requestid") {
            Some(request) => Key::Request(request.to_vec()),
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

/// The connections of a session.
#[derive(Debug)]
pub(super) struct Pairs {
    connections: HashMap<Key, State>,
    /// When those that are not complete expire, the oldest first; those that are complete by now among them.
    deadlines: VecDeque<(Instant, Key)>,
    time: Duration,
}

#[derive(Debug)]
enum State {
    Waiting {
        half: Half,
        stream: Stream,
        until: Instant,
    },
    Connected,
}

impl Pairs {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            connections: HashMap::new(),
            deadlines: VecDeque::new(),
            time,
        }
    }

    /// Whether this half is still missing: it is the first one, or the other half of one that waits, to the same port.
    pub(super) fn has_place(&self, half: &Half) -> bool {
        match self.connections.get(&half.key) {
            Some(State::Waiting { half: other, .. }) => {
                other.is_error != half.is_error && other.port == half.port
            }
            Some(State::Connected) => false,
            None => true,
        }
    }

    /// Adds a half that [has a place](Self::has_place). Gives the pair that it completes.
    pub(super) fn add(&mut self, half: Half, stream: Stream) -> Option<(Key, Pair)> {
        let (key, port) = (half.key.clone(), half.port);
        let Some(place) = self.connections.get_mut(&key) else {
            let until = Instant::now() + self.time;
            self.deadlines.push_back((until, key.clone()));
            let waiting = State::Waiting {
                half,
                stream,
                until,
            };
            self.connections.insert(key, waiting);
            return None;
        };
        let State::Waiting { stream: other, .. } = std::mem::replace(place, State::Connected)
        else {
            return None;
        };
        let (error, data) = match half.is_error {
            true => (stream, other),
            false => (other, stream),
        };
        Some((key, Pair { port, error, data }))
    }

    /// A connection has ended: its key may be used again.
    pub(super) fn ended(&mut self, key: &Key) {
        self.connections.remove(key);
    }

    /// Waits until a half has waited for too long: the error stream or the data stream. Cancel safe.
    pub(super) async fn expired(&mut self) -> (Option<Stream>, Option<Stream>) {
        loop {
            let Some((deadline, key)) = self.deadlines.front() else {
                return pending().await;
            };
            if self.is_waiting(key, *deadline) {
                sleep_until(*deadline).await;
            }
            let Some((deadline, key)) = self.deadlines.pop_front() else {
                continue;
            };
            if self.is_waiting(&key, deadline)
                && let Some(State::Waiting { half, stream, .. }) = self.connections.remove(&key)
            {
                return match half.is_error {
                    true => (Some(stream), None),
                    false => (None, Some(stream)),
                };
            }
        }
    }

    fn is_waiting(&self, key: &Key, deadline: Instant) -> bool {
        matches!(self.connections.get(key), Some(State::Waiting { until, .. }) if *until == deadline)
    }
}

#[cfg(test)]
mod tests {
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
    fn a_missing_or_wrong_type_or_port_is_refused() {
        for port in ["0", "65536", "-1", "http", "", "80 "] {
            assert!(
                half(&[("streamtype", "data"), ("port", port)], 3).is_none(),
                "{port}"
            );
        }
        assert!(half(&[("streamtype", "data")], 3).is_none());
        assert!(half(&[("port", "80")], 3).is_none());
        assert!(half(&[("streamtype", "stdin"), ("port", "80")], 3).is_none());
    }
}
