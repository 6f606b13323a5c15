//! The bounds of the matrix, in seconds. They are listed only here.  Each is a sum of timeouts in
//! docs/limits.md, and a second for the steps in between.

use spdy_frame::Version;
use spdy_server::Protocol;

use crate::{
    cells::{
        Bound::{self, GoesOn, None, Stays, Within},
        Role, State, Way,
    },
    peer::WINDOW,
};

/// Returns the bound of a cell.
pub(crate) fn bound(protocol: Protocol, role: Role, state: State, way: Way) -> Bound {
    if let Some(reason) = no_sense(protocol, role, state, way) {
        return None(reason);
    }
    if state == State::Unread {
        return unread(protocol, way);
    }
    match (way, protocol) {
        // A reset of the transport is seen at once in every state, and ends everything.
        (Way::Reset, _) => Within(1, 2),
        (Way::Close, _) => Within(2, 3),
        (Way::Fin, Protocol::Spdy(_)) => after_fin(state),
        // hyper treats the end of the bytes as the end of the client.
        (Way::Fin, _) => Within(1, 1),
        (_, Protocol::Spdy(_)) => spdy(state, way),
        (_, Protocol::Http2) => http2(state, way),
        (Way::Dribble, Protocol::Http1) if role == Role::ProxyHttp2 => {
            // The application is a server of this kind, too. It gives up a response that takes
            // nothing for `write`, once or twice. The proxy grants half a window, 5 KiB, at a time,
            // and such a client takes longer for them. Before that, it empties the buffers.
            Within(750 + 60 + 2 * 180 + 1, 750 + 60 + 2 * 180 + 1)
        }
        (_, Protocol::Http1) => http1(state, way),
    }
}

/// The end of the peer is behind bytes that are not read.
pub(crate) const fn unread(protocol: Protocol, way: Way) -> Bound {
    match (protocol, way) {
        // With windows the reading goes on.
        (Protocol::Spdy(Version::V3_1) | Protocol::Http2, _) => Within(2, 3),
        // `unread`, and `linger`. A peer that has sent FIN may still read.
        (Protocol::Spdy(_), Way::Fin) => Within(60, 60 + 2),
        // `probe`, twice.
        (Protocol::Spdy(_), _) => Within(5 + 5, 5 + 5 + 1),
        // HTTP/1.1 has no probes: `idle`, once or twice. A transport in memory reports neither a
        // reset nor an end before it is read. A socket does: see `tests/server.rs` and `idle.rs` of
        // spdy-server.
        (Protocol::Http1, _) => Within(2 * 180, 2 * 180),
    }
}

/// A client of SPDY that has sent FIN may still read.
const fn after_fin(state: State) -> Bound {
    match state {
        // An incomplete head, body, tunnel or window stays incomplete.
        State::HeadComing | State::BodyComing | State::Tunnel | State::WaitingForWindow => {
            Within(1, 2)
        }
        State::HandlerWaiting | State::ResponseGoing | State::Push => {
            GoesOn("the client reads, and waits for the answer it has asked for")
        }
        State::Idle | State::Unread => Within(0, 2),
    }
}

const fn spdy(state: State, way: Way) -> Bound {
    use {State as S, Way as W};
    match (state, way) {
        // `frame`, and `linger`.
        (S::HeadComing, _) => Within(0, 32),
        // `body`; then `discard`, `idle` and `linger`.
        (S::BodyComing, W::BodyNeverComes) => Within(60, 60 + 60 + 180 + 2),
        // `body`; and `write` for the answer to it.
        (S::BodyComing, W::ReadsNothing) => Within(60, 60 + 30 + 2),
        // `body`; `keep_alive`, its answer, and `linger`.
        (S::BodyComing, _) => Within(60, 60 + 20 + 2),
        (S::HandlerWaiting, _) => Within(60 + 20, 60 + 20 + 2),
        (S::Tunnel, W::BodyNeverComes) => GoesOn("a tunnel may be silent; its peer answers PINGs"),
        (S::Tunnel, _) => Within(60 + 20, 60 + 20 + 2),
        // `trickle`, whose time may start again once.
        (S::WaitingForWindow, W::Dribble) => Stays(
            2 * 300,
            "WINDOW_UPDATE after WINDOW_UPDATE is no idle session",
        ),
        (S::WaitingForWindow, W::WindowShut) => Within(30, 30 + 180 + 2),
        // `keep_alive`, and its answer, which gets a second for each 4 KiB that a window let out:
        // with one of 65,536 bytes the connection ends after 97 s.
        (S::WaitingForWindow, _) => Within(30, 60 + 20 + 1 + WINDOW / 4096 + 2),
        // `write`; or `keep_alive`, which grants time for bytes that are under way.
        (S::ResponseGoing | S::Push, W::ReadsNothing) => Within(32, 33),
        (S::ResponseGoing | S::Push, _) => Within(60 + 20 + 30, 60 + 20 + 32),
        // `idle`. Answers to PINGs do not extend it.
        (S::Idle, W::BodyNeverComes) => Within(0, 180 + 2),
        (S::Idle | S::Unread, _) => Within(0, 60 + 20 + 2),
    }
}

const fn http2(state: State, way: Way) -> Bound {
    use {State as S, Way as W};
    match (state, way) {
        // `body`; and `idle`, once or twice.
        (S::BodyComing, W::BodyNeverComes) => Within(60, 60 + 2 * 180 + 1),
        (S::BodyComing, _) => Within(60, 60 + 20 + 1),
        // `write`, once or twice.
        (S::WaitingForWindow, W::WindowShut) => Within(60, 60 + 2 * 180 + 1),
        // Ten times `write` for a piece, which may start again once; and `idle`, once or twice.
        (S::WaitingForWindow, W::Dribble) => Within(2 * 300, 2 * 300 + 2 * 180 + 1),
        (S::WaitingForWindow, _) => Within(60, 60 + 20 + 1),
        (S::ResponseGoing, W::ReadsNothing) => Within(32, 32),
        (S::Idle, W::BodyNeverComes) => Within(0, 2 * 180 + 1),
        // `keep_alive`, and its answer.
        _ => Within(60 + 20, 60 + 20 + 1),
    }
}

const fn http1(state: State, way: Way) -> Bound {
    use {State as S, Way as W};
    match (state, way) {
        // The time for a head, which is also the time between two.
        (S::HeadComing | S::Idle, _) => Within(0, 30),
        // `body`; then the rest of the body is dropped for the time `discard`.
        (S::BodyComing, _) => Within(60, 60 + 60 + 1),
        (S::WaitingForWindow, W::Dribble) => GoesOn("the client takes some of it now and then"),
        (S::WaitingForWindow, _) => Within(60, 60),
        (S::ResponseGoing, W::ReadsNothing) => Within(32, 32),
        // The buffers of both systems are full after 256 s; then `write`.
        (S::ResponseGoing, _) => Within(256 + 32, 256 + 32),
        // HTTP/1.1 has no PING: `idle`, once or twice.
        _ => Within(2 * 180, 2 * 180),
    }
}

/// Returns the reason if the cell does not exist.
fn no_sense(protocol: Protocol, role: Role, state: State, way: Way) -> Option<&'static str> {
    use {State as S, Way as W};
    let is_spdy = matches!(protocol, Protocol::Spdy(_));
    let is_proxy = matches!(role, Role::ProxyHttp1 | Role::ProxyHttp2);
    let reason = match (state, way) {
        (S::Unread, W::Reset | W::Close | W::Fin) if role == Role::Site => return Option::None,
        (S::Unread, W::Reset | W::Close | W::Fin) => {
            "the handler of the site is what leaves it unread"
        }
        (S::Unread, _) => "the handler may leave it unread for as long as it likes",
        (S::Push, _) if !is_spdy => "nothing is pushed over HTTP/2 and HTTP/1.1",
        (S::Tunnel, _) if !is_spdy => "hyper hands a tunnel to the application, whose time it is",
        (S::Push | S::Tunnel, _) if is_proxy => "the proxy passes no tunnels and pushes on",
        (S::Push | S::Tunnel | S::BodyComing | S::HandlerWaiting | S::ResponseGoing, _)
            if role == Role::Directory =>
        {
            "a directory reads no body, does not wait, and sends nothing slowly"
        }
        (S::WaitingForWindow, _) if protocol == Protocol::Spdy(Version::V2) => {
            "SPDY/2 has no windows"
        }
        (S::WaitingForWindow, W::WindowShut) if protocol == Protocol::Http1 => {
            "HTTP/1.1 has no windows; that the transport is full is another way"
        }
        (S::WaitingForWindow, W::BodyNeverComes) => "the peer owes no body",
        (S::WaitingForWindow, _) => return Option::None,
        (_, W::WindowShut | W::Dribble) => "nothing waits for the peer's window",
        (S::ResponseGoing | S::Push | S::HandlerWaiting, W::BodyNeverComes) => {
            "the peer owes no body"
        }
        _ => return Option::None,
    };
    Some(reason)
}
