//! What happened on a connection, in a form that tests can compare.

use std::time::Duration;

use bytes::Bytes;
use spdy_frame::{GoAwayStatus, RstStatus, StreamId};
use spdy_session::{
    Initiator, SessionError, StreamError, Timeout,
    proto::{Event, PingId},
};

use crate::received::{Fields, fields};

/// What happened on a connection: an [`Event`] that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of Event")]
pub enum Happened {
    Opened {
        id: u32,
        fields: Fields,
        fin: bool,
        priority: u8,
        associated: u32,
        unidirectional: bool,
    },
    Replied {
        id: u32,
        fields: Fields,
        fin: bool,
    },
    Headers {
        id: u32,
        fields: Fields,
        fin: bool,
    },
    Data {
        id: u32,
        payload: Bytes,
        fin: bool,
    },
    Sent {
        id: u32,
        bytes: usize,
        fin: bool,
    },
    Reset {
        id: u32,
        end: End,
    },
    Pong {
        id: PingId,
        rtt: Duration,
    },
    GoAway {
        last_good: u32,
        status: GoAwayStatus,
    },
}

/// Why a stream has ended: a [`StreamError`] that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer has not acted on the stream.
    NotProcessed,
    /// The peer reset the stream.
    Remote(RstStatus),
    /// The application reset the stream.
    Local(RstStatus),
    /// The machine reset the stream.
    Library(RstStatus),
    /// A timeout has passed.
    TimedOut(Timeout),
    /// The peer is gone.
    ConnectionLost,
    /// The session failed otherwise.
    Session,
    /// The stream could not be written.
    Encode,
}

impl Happened {
    /// DATA.
    #[must_use]
    pub fn data(id: u32, payload: impl Into<Vec<u8>>, fin: bool) -> Self {
        let payload: Vec<u8> = payload.into();
        Self::Data {
            id,
            payload: payload.into(),
            fin,
        }
    }

    /// Returns the stream of the event.
    #[must_use]
    pub const fn stream(&self) -> Option<u32> {
        match self {
            Self::Opened { id, .. }
            | Self::Replied { id, .. }
            | Self::Headers { id, .. }
            | Self::Data { id, .. }
            | Self::Sent { id, .. }
            | Self::Reset { id, .. } => Some(*id),
            Self::Pong { .. } | Self::GoAway { .. } => None,
        }
    }
}

impl Happened {
    /// Returns what an event reports of streams and the end. Other tests check the events of
    /// SETTINGS.
    #[must_use]
    pub fn of(event: Event) -> Option<Self> {
        Some(match event {
            Event::Settings(_) => return None,
            Event::Opened(opened) => Self::Opened {
                id: opened.id.get(),
                fields: fields(&opened.headers),
                fin: opened.fin,
                priority: opened.priority.get(),
                associated: opened.associated.map_or(0, StreamId::get),
                unidirectional: opened.unidirectional,
            },
            Event::Replied { id, headers, fin } => Self::Replied {
                id: id.get(),
                fields: fields(&headers),
                fin,
            },
            Event::Headers { id, headers, fin } => Self::Headers {
                id: id.get(),
                fields: fields(&headers),
                fin,
            },
            Event::Data { id, payload, fin } => Self::Data {
                id: id.get(),
                payload,
                fin,
            },
            Event::Sent { id, bytes, fin, .. } => Self::Sent {
                id: id.get(),
                bytes,
                fin,
            },
            Event::Reset { id, error } => Self::Reset {
                id: id.get(),
                end: error.into(),
            },
            Event::Pong { id, rtt } => Self::Pong { id, rtt },
            Event::GoAway { last_good, status } => Self::GoAway {
                last_good: last_good.map_or(0, StreamId::get),
                status,
            },
            other => panic!("tests do not know {other:?}"),
        })
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::NotProcessed => Self::NotProcessed,
            StreamError::Reset { status, initiator } => match initiator {
                Initiator::Remote => Self::Remote(status),
                Initiator::Local => Self::Local(status),
                Initiator::Library { .. } => Self::Library(status),
            },
            StreamError::TimedOut(timeout) => Self::TimedOut(timeout),
            StreamError::Session(SessionError::ConnectionLost) => Self::ConnectionLost,
            StreamError::Session(_) => Self::Session,
            StreamError::Encode(_) => Self::Encode,
            other => panic!("no stream ends with {other:?}"),
        }
    }
}
