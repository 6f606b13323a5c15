//! The axes of the matrix, and the expected result of a cell.

use std::fmt;

/// The state of the exchange when the peer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    HeadComing,
    BodyComing,
    HandlerWaiting,
    WaitingForWindow,
    ResponseGoing,
    Tunnel,
    Push,
    Idle,
    /// A handler does not read the body of its request, and more of the body has arrived than is
    /// buffered.
    Unread,
}

/// How the peer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It has vanished: its system accepts bytes for a while, and sends nothing.
    Silence,
    /// It sends FIN, and goes on reading and answering.
    Fin,
    /// It has closed its socket: it sends FIN, and answers later bytes with a reset.
    Close,
    Reset,
    /// It works, but grants no more window.
    WindowShut,
    /// It works, but reads only 100 bytes every ten seconds.
    Dribble,
    /// It works, but does not send the rest of its message. If its message is complete, it sends no
    /// other.
    BodyNeverComes,
    /// Its transport is full.
    ReadsNothing,
}

/// The application that serves the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Site,
    Directory,
    ProxyHttp1,
    ProxyHttp2,
}

impl State {
    pub(crate) const ALL: [Self; 9] = [
        Self::HeadComing,
        Self::BodyComing,
        Self::HandlerWaiting,
        Self::WaitingForWindow,
        Self::ResponseGoing,
        Self::Tunnel,
        Self::Push,
        Self::Idle,
        Self::Unread,
    ];
}

impl Way {
    pub(crate) const ALL: [Self; 8] = [
        Self::Silence,
        Self::Fin,
        Self::Close,
        Self::Reset,
        Self::WindowShut,
        Self::Dribble,
        Self::BodyNeverComes,
        Self::ReadsNothing,
    ];
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [
        Self::Site,
        Self::Directory,
        Self::ProxyHttp1,
        Self::ProxyHttp2,
    ];
}

/// The expected result, in seconds from the end of the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// After the first time the handlers, the bodies and the request at the application are gone.
    /// After the second time the connection, its place and its transport are gone, too.
    Within(u32, u32),
    /// The exchange ends as in `Within`. The connection continues, for this reason.
    Stays(u32, &'static str),
    /// The exchange continues, for this reason.
    GoesOn(&'static str),
    /// The cell does not exist, for this reason.
    None(&'static str),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within(exchange, connection) => {
                write!(f, "exchange {exchange} s, connection {connection} s")
            }
            Self::Stays(exchange, reason) => {
                write!(f, "exchange {exchange} s, the connection goes on: {reason}")
            }
            Self::GoesOn(reason) => write!(f, "it goes on: {reason}"),
            Self::None(reason) => write!(f, "left out: {reason}"),
        }
    }
}
