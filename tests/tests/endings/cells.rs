//! The axes of the matrix, and what is asked of a cell.

use std::fmt;

/// What is going on when the peer goes.
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
    /// A handler leaves the body of its request unread, and more of it has come than is kept.
    Unread,
}

/// How the peer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It has vanished: its system takes bytes for a while, and nothing comes.
    Silence,
    /// It sends FIN, and lives on: it reads, and answers what it can.
    Fin,
    /// It has closed its socket: FIN, and a reset to whatever is sent after that.
    Close,
    Reset,
    /// It lives, and grants nothing more.
    WindowShut,
    /// It lives, and takes 100 bytes every ten seconds.
    Dribble,
    /// It lives, and sends nothing of what it owes; where it owes nothing, it asks for nothing.
    BodyNeverComes,
    /// Its transport is full.
    ReadsNothing,
}

/// What serves it.
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

/// What must have happened, in seconds from when the peer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// The first: handlers, bodies and the request at the application are gone. The second: so are
    /// the connection, its place and its transport.
    Within(u32, u32),
    /// As `Within` for the exchange; the connection goes on, for this reason.
    Stays(u32, &'static str),
    /// The exchange goes on, for this reason.
    GoesOn(&'static str),
    /// There is no such cell, for this reason.
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
