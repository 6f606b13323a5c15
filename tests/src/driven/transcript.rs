//! What was sent, so that two sides can be compared.

use std::{collections::BTreeMap, fmt};

use crate::{
    application::Step,
    wire::{Reader, Received},
};

/// What one side has sent, in a form that does not depend on how payload was cut.
pub(super) struct Transcript {
    reader: Reader,
    pub(super) frames: Vec<Sent>,
}

/// A frame, or frames of payload that follow each other.
#[derive(Clone, PartialEq)]
pub(super) enum Sent {
    Data {
        stream: u32,
        fin: bool,
        payload: Vec<u8>,
    },
    Other(Received),
}

impl Transcript {
    pub(super) const fn new(reader: Reader) -> Self {
        Self {
            reader,
            frames: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.reader.buffer().extend_from_slice(bytes);
        while let Some(frame) = self.reader.next_frame().expect("it sends sound frames") {
            match frame {
                Received::WindowUpdate(_) => {}
                Received::Data {
                    stream,
                    fin,
                    payload,
                } => push(
                    &mut self.frames,
                    Sent::Data {
                        stream,
                        fin,
                        payload: payload.to_vec(),
                    },
                ),
                frame => push(&mut self.frames, Sent::Other(frame)),
            }
        }
        assert!(!self.reader.is_mid_frame(), "it sends whole frames");
    }

    /// The frames of each stream; 0 has those of the session.
    pub(super) fn by_stream(&self) -> BTreeMap<u32, Vec<Sent>> {
        let mut streams = BTreeMap::new();
        for frame in &self.frames {
            push(streams.entry(frame.stream()).or_default(), frame.clone());
        }
        streams
    }
}

impl Sent {
    const fn stream(&self) -> u32 {
        match self {
            Self::Data { stream, .. }
            | Self::Other(
                Received::SynStream { stream, .. }
                | Received::SynReply { stream, .. }
                | Received::Headers { stream, .. },
            ) => *stream,
            Self::Other(Received::RstStream(frame)) => frame.stream.get(),
            Self::Other(_) => 0,
        }
    }
}

/// Adds a frame. Payload joins that before it.
fn push(frames: &mut Vec<Sent>, frame: Sent) {
    if let (
        Some(Sent::Data {
            stream,
            fin,
            payload,
        }),
        Sent::Data {
            stream: next,
            fin: last,
            payload: more,
        },
    ) = (frames.last_mut(), &frame)
        && *stream == *next
    {
        payload.extend_from_slice(more);
        *fin = *last;
    } else {
        frames.push(frame);
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data {
                stream,
                fin,
                payload,
            } => write!(f, "DATA {stream} of {} bytes, fin {fin}", payload.len()),
            Self::Other(frame) => frame.fmt(f),
        }
    }
}

/// Whether the order of frames of different streams is one of the driver's own.
#[derive(Default)]
pub(super) struct Order {
    /// The application has done something since anything was written.
    is_pending: bool,
    /// It may differ from that of the machine from now on.
    pub(super) is_free: bool,
}

impl Order {
    /// The driver prepares frames whenever it runs, and it opens streams before it does anything
    /// else; the machine was asked to at the end, and did things in the order of the calls. Streams
    /// that are accepted together count as called then.
    pub(super) fn note(&mut self, step: &Step) {
        match step {
            Step::Output(_) => self.is_pending = false,
            Step::Input(_) | Step::EndOfInput | Step::Prepare | Step::Open(..)
                if self.is_pending =>
            {
                self.is_free = true;
            }
            Step::Input(_) | Step::EndOfInput | Step::Prepare | Step::Advance(_) => {}
            _ => self.is_pending = true,
        }
    }
}
