//! The matrix for clients: the client is under test, and its server ends.  The test checks that a
//! task ends that waits for the response and then for its body, and that the session and its
//! transport end. The client has the settings of `Connector`. For HTTP/2 and HTTP/1.1 `Connector`
//! uses hyper, so they are not tested here. How long to wait for a server that works is the
//! caller's decision, by `Connector::timeout` or another timeout: such cells go on.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use spdy_frame::Version;
use spdy_server::Protocol;
use spdy_tower::{
    Tunnel,
    client::{SendRequest, handshake},
    session,
};
use tokio::{
    io::AsyncReadExt,
    join,
    time::{Instant, sleep, timeout},
};

use crate::{
    LONG, Taken,
    applications::{Drip, Endless, Held},
    bounds,
    cells::{
        Bound::{self, GoesOn, None, Stays, Within},
        State, Way,
    },
    paused,
    peer::{Peer, streams_unread},
    transport::link,
};

/// Runs every cell of a version. Returns those that are wrong.
pub(crate) fn matrix(version: Version) -> Vec<String> {
    let mut wrong = Vec::new();
    for state in State::ALL {
        for way in Way::ALL {
            let bound = bound(version, state, way);
            if matches!(bound, None(_)) {
                continue;
            }
            let taken = paused(play(version, state, way));
            if !taken.is_within(bound) {
                wrong.push(format!(
                    "{version} client {state:?} {way:?}: {taken}; the bound: {bound}"
                ));
            }
        }
    }
    wrong
}

async fn play(version: Version, state: State, way: Way) -> Taken {
    let (near, far) = link();
    let mut config = session::Config::default();
    config.timeouts.keep_alive = Some(Duration::from_secs(20));
    let (requests, _, driver) = handshake(near, version, config);
    let connection = tokio::spawn(driver);
    let held = Held::new();
    let one = held.one();
    let asking = requests.clone();
    let exchange = tokio::spawn(async move {
        match state {
            State::Unread => leave_unread(&asking, version).await,
            _ => ask(&asking, state).await,
        }
        drop(one);
    });
    let mut peer = Peer::new(Protocol::Spdy(version), far.clone());
    peer.serve(state).await;
    let is_over = exchange.is_finished();
    assert_eq!(
        is_over,
        state == State::Idle,
        "{version} {state:?}: is not in its state"
    );

    let start = Instant::now();
    let going = tokio::spawn(peer.go(way));
    let exchange = async {
        let end = timeout(LONG, held.nothing()).await;
        end.ok().map(|()| start.elapsed().as_secs_f64())
    };
    let end = async {
        let end = timeout(LONG, connection).await;
        end.ok().map(|_| start.elapsed().as_secs_f64())
    };
    let (exchange, connection) = join!(exchange, end);
    if connection.is_some() {
        assert!(
            far.near_is_gone(),
            "{version} {state:?} {way:?}: the transport is kept"
        );
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            held.count(),
            0,
            "{version} {state:?} {way:?}: the caller waits on"
        );
    }
    going.abort();
    drop(requests);
    Taken {
        exchange,
        connection,
    }
}

/// Sends a request, and reads until any end.
async fn ask(requests: &SendRequest, state: State) {
    let (method, uri, body) = match state {
        State::Tunnel => (Method::CONNECT, "a.test:443", Body::empty()),
        State::WaitingForWindow => (Method::POST, "http://a.test/", Body::new(Endless)),
        State::ResponseGoing => (
            Method::POST,
            "http://a.test/",
            Body::new(Drip::new(Option::None)),
        ),
        _ => (Method::GET, "http://a.test/", Body::empty()),
    };
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .body(body)
        .unwrap();
    let Ok(mut response) = requests.send(request).await else {
        return;
    };
    match Tunnel::of(&mut response) {
        Some(mut tunnel) => _ = tunnel.read_to_end(&mut Vec::new()).await,
        Option::None => _ = response.into_body().collect().await,
    }
}

/// Leaves the bodies of responses unread until the session ends, then reads the rest.
async fn leave_unread(requests: &SendRequest, version: Version) {
    let responses: Vec<_> = (0..streams_unread(version))
        .map(|_| {
            let request = Request::builder().uri("http://a.test/");
            let request = request.body(Body::empty()).unwrap();
            tokio::spawn(requests.send(request))
        })
        .collect();
    let mut unread = Vec::new();
    for response in responses {
        unread.push(response.await.unwrap().unwrap());
    }
    while requests.is_ready() {
        sleep(Duration::from_millis(100)).await;
    }
    for response in unread {
        let end = response.into_body().collect().await;
        assert!(end.is_err(), "it is not complete");
    }
}

/// The bounds, in seconds.
fn bound(version: Version, state: State, way: Way) -> Bound {
    use {State as S, Way as W};
    match (state, way) {
        (S::Push, _) => None("a client takes no pushes unless it is told to"),
        (S::Unread, W::Reset | W::Close | W::Fin) => {
            match bounds::unread(Protocol::Spdy(version), way) {
                // The caller sees the end when it reads on.
                Within(_, connection) => Within(connection, connection),
                other => other,
            }
        }
        (S::Unread, _) => None("the caller may leave it unread for as long as it likes"),
        (S::WaitingForWindow, _) if version == Version::V2 => None("SPDY/2 has no windows"),
        (S::WaitingForWindow, W::BodyNeverComes) => None("the same as a window that stays shut"),
        (S::WaitingForWindow, W::Dribble) => {
            // `trickle`, whose time may start again once.
            Stays(
                2 * 300,
                "WINDOW_UPDATE after WINDOW_UPDATE is no idle session",
            )
        }
        (_, W::WindowShut | W::Dribble) if state != S::WaitingForWindow => {
            None("nothing waits for the peer's window")
        }
        // A server that has closed its direction cannot answer.
        (_, W::Reset | W::Close | W::Fin) => Within(1, 2),
        // `frame`, and `linger`.
        (S::HeadComing, W::BodyNeverComes) => Within(30, 32),
        (S::Idle, W::BodyNeverComes) => Within(0, 180 + 2),
        (_, W::BodyNeverComes) => {
            GoesOn("how long a server that lives is waited for is the caller's to say")
        }
        // `blocked`, `idle` and `linger`. For servers that are gone: `keep_alive`, its answer, and
        // `linger`.
        (S::WaitingForWindow, W::WindowShut) => Within(30, 30 + 180 + 2),
        // `write`, or `keep_alive` with the time for bytes that are under way.
        (S::ResponseGoing | S::WaitingForWindow, _) => Within(20 + 20 + 20, 20 + 20 + 22),
        _ => Within(20 + 20, 20 + 20 + 2),
    }
}
