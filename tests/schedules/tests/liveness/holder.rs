//! What a transport holds of the bytes that it has taken, as TLS does, and which ends of streams
//! are among them.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use spdy_frame::StreamId;
use spdy_session::{SessionError, Timeout};
use tokio::time::Instant;

pub(crate) type SharedHolder = Rc<RefCell<Holder>>;

/// Bytes on their way to the path, and what the session has reported of them.
#[derive(Debug)]
pub(crate) struct Holder {
    bytes: Vec<u8>,
    /// How many bytes are held at most; with 0 the transport is one like TCP.
    capacity: usize,
    frames: Frames,
    passed: usize,
    /// Since when something is held.
    since: Option<Instant>,
    /// The streams that were reported as written.
    written: Vec<StreamId>,
    /// How often the application has ended the session.
    orders: usize,
}

impl Holder {
    pub(crate) fn new(capacity: usize) -> SharedHolder {
        Rc::new(RefCell::new(Self {
            bytes: Vec::new(),
            capacity,
            frames: Frames::default(),
            passed: 0,
            since: None,
            written: Vec::new(),
            orders: 0,
        }))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    pub(crate) fn front(&self) -> &[u8] {
        &self.bytes
    }

    /// Notes bytes of the session, which are held or have passed already.
    pub(crate) fn take(&mut self, bytes: &[u8], is_held: bool) {
        self.frames.read(bytes);
        if is_held {
            self.bytes.extend_from_slice(bytes);
            self.since.get_or_insert_with(Instant::now);
        } else {
            self.passed += bytes.len();
        }
    }

    /// Notes that this number of bytes was passed on.
    pub(crate) fn pass(&mut self, length: usize) {
        self.bytes.drain(..length);
        self.passed += length;
        if self.bytes.is_empty() {
            self.since = None;
        }
    }

    pub(crate) fn written(&mut self, stream: StreamId) {
        self.written.push(stream);
    }

    pub(crate) fn ordered(&mut self) {
        self.orders += 1;
    }

    /// Returns whether the end of a stream that was reported as written is lost.
    fn has_lost(&self) -> bool {
        let is_lost = |stream: &StreamId| {
            let end = self.frames.ends.get(&stream.get());
            end.is_some_and(|&end| end > self.passed)
        };
        self.written.iter().any(is_lost)
    }

    /// Judges the end of a session, once all tasks have ended. `write` is the timeout of a write.
    pub(crate) fn check(&self, end: &Ended, write: Duration) {
        if !self.has_lost() {
            return;
        }
        let Ended { outcome, at } = end;
        assert!(
            outcome.is_err(),
            "what was written is lost, and the session has ended in order"
        );
        // The second order of the application says that it does not wait.
        let timed_out = matches!(outcome, Err(SessionError::TimedOut(Timeout::Write)));
        if let Some(since) = self.since.filter(|_| timed_out && self.orders < 2) {
            let waited = *at - since;
            assert!(
                waited + Duration::from_millis(2) >= write,
                "what was written is given up after {waited:?}"
            );
        }
    }
}

/// The end of a session.
#[derive(Debug)]
pub(crate) struct Ended {
    outcome: Result<(), SessionError>,
    at: Instant,
}

impl Ended {
    pub(crate) fn now(outcome: Result<(), SessionError>) -> Self {
        Self {
            outcome,
            at: Instant::now(),
        }
    }
}

/// Finds the frames with FIN in the bytes of a session. All versions have them in the same places.
#[derive(Debug, Default)]
struct Frames {
    at: usize,
    /// The first bytes of the current frame.
    head: Vec<u8>,
    /// How many bytes of it are left after those.
    rest: usize,
    /// Where the ends of streams are.
    ends: BTreeMap<u32, usize>,
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.head.len() < HEAD {
                self.head.push(bytes[0]);
                (self.at, bytes) = (self.at + 1, &bytes[1..]);
                if self.head.len() == SHORT {
                    self.rest = self.length();
                }
                if self.head.len() > SHORT {
                    self.rest -= 1;
                }
            } else {
                let skipped = self.rest.min(bytes.len());
                (self.at, bytes) = (self.at + skipped, &bytes[skipped..]);
                self.rest -= skipped;
            }
            if self.head.len() >= SHORT && self.rest == 0 {
                self.end();
            }
        }
    }

    fn length(&self) -> usize {
        let length = self.head[5..SHORT].iter();
        length.fold(0, |sum, &byte| sum << 8 | usize::from(byte))
    }

    /// Notes the frame that is complete.
    fn end(&mut self) {
        let head = std::mem::take(&mut self.head);
        let of = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap()) << 1 >> 1;
        let is_control = head[0] & 0x80 != 0;
        let stream = match head[3] {
            _ if !is_control => of(0),
            SYN_STREAM | SYN_REPLY | HEADERS => of(SHORT),
            _ => return,
        };
        if head[4] & FIN != 0 {
            self.ends.insert(stream, self.at);
        }
    }
}

/// The length of the head of a frame, in bytes, without and with the first field of the payload.
const SHORT: usize = 8;
const HEAD: usize = 12;

const SYN_STREAM: u8 = 1;
const SYN_REPLY: u8 = 2;
const HEADERS: u8 = 8;
const FIN: u8 = 1;
