//! Tests what a server keeps when a peer ends: in every way, at every moment of an exchange, in
//! every protocol, and with every kind of application. The cells of this matrix run with a paused
//! clock, over transports in memory.  Each cell serves one connection, brings one exchange to a
//! [`State`], and lets the peer end in a [`Way`]. Then it checks what still exists: handlers,
//! bodies of responses, tunnels, pushes and requests at the application behind a proxy ([`Held`]),
//! the connection with its place, and its transport. All of them must be gone within the [`Bound`]
//! in the table of `bounds.rs`. The table also lists the cells that cannot exist, with the reason.
//!
//! ```text
//! cargo test -p spdy-tests --test endings
//! SPDY_TEST_ENDINGS=show cargo test -p spdy-tests --test endings -- --nocapture
//! ```

mod applications;
mod bounds;
mod cells;
mod client;
mod peer;
mod transport;

use std::{env, fmt, time::Duration};

use spdy_frame::Version;
use spdy_server::{Config, PlainVersion, Protocol, auto};
use tokio::{
    join,
    runtime::Builder,
    time::{Instant, sleep, timeout},
};

use self::{
    applications::{Held, application},
    bounds::bound,
    cells::{Bound, Role, State, Way},
    peer::Peer,
    transport::link,
};

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    protocol: Protocol,
    role: Role,
    state: State,
    way: Way,
}

/// The result of a cell, in seconds from the end of the peer. `None`: not until [`LONG`].
#[derive(Clone, Copy, Debug)]
struct Taken {
    exchange: Option<f64>,
    connection: Option<f64>,
}

impl Cell {
    async fn run(self) -> Taken {
        let (near, far) = link();
        let held = Held::new();
        let config = Config {
            plain_version: match self.protocol {
                Protocol::Spdy(Version::V3) => PlainVersion::V3,
                _ => PlainVersion::V3_1,
            },
            ..Config::default()
        };
        let builder = auto::Builder::with_config(&config);
        let connection =
            tokio::spawn(builder.serve_connection(near, application(self.role, &held)));
        let mut peer = Peer::new(self.protocol, far.clone());
        peer.reach(self.state).await;
        self.check_state(&held, connection.is_finished());

        let start = Instant::now();
        let going = tokio::spawn(peer.go(self.way));
        let exchange = async {
            let end = timeout(LONG, held.nothing()).await;
            end.ok().map(|()| start.elapsed().as_secs_f64())
        };
        let end = async {
            let end = timeout(LONG, connection).await;
            let ended = end.ok().map(|joined| joined.unwrap().is_ok());
            ended.map(|_| start.elapsed().as_secs_f64())
        };
        let (exchange, connection) = join!(exchange, end);
        if connection.is_some() {
            assert!(far.near_is_gone(), "{self}: the transport is kept");
            // A request at an application ends a moment later.
            sleep(Duration::from_secs(1)).await;
            assert_eq!(held.count(), 0, "{self}: something outlives the connection");
        }
        going.abort();
        Taken {
            exchange,
            connection,
        }
    }

    /// A cell that never reached its state would prove nothing.
    fn check_state(self, held: &Held, is_over: bool) {
        assert!(!is_over, "{self}: the connection has ended by itself");
        let expected = match (self.state, self.role) {
            (State::HeadComing | State::Idle, _) => 0,
            // The handler that has asked for the pushes is over, or is not counted.
            (State::Push, _) => 2,
            // Without a window of the session the peer needs several streams.
            (State::Unread, _) if self.protocol == Protocol::Spdy(Version::V3) => 5,
            (_, Role::Site | Role::Directory) => 1,
            (_, Role::ProxyHttp1 | Role::ProxyHttp2) => 2,
        };
        assert_eq!(held.count(), expected, "{self}: is not in its state");
    }
}

impl Taken {
    fn is_within(self, bound: Bound) -> bool {
        let within =
            |taken: Option<f64>, most: u32| taken.is_some_and(|taken| taken <= f64::from(most));
        match bound {
            Bound::Within(exchange, connection) => {
                within(self.exchange, exchange) && within(self.connection, connection)
            }
            Bound::Stays(exchange, _) => {
                within(self.exchange, exchange) && self.connection.is_none()
            }
            Bound::GoesOn(_) => self.exchange.is_none() && self.connection.is_none(),
            Bound::None(_) => true,
        }
    }
}

/// Runs a cell on its own runtime, whose clock advances when no task can run.
fn paused(cell: impl Future<Output = Taken>) -> Taken {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(cell)
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            role,
            state,
            way,
        } = self;
        write!(f, "{protocol} {role:?} {state:?} {way:?}")
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |taken: Option<f64>| {
            taken.map_or_else(|| "never".into(), |taken| format!("{taken:.1}"))
        };
        write!(
            f,
            "exchange {}, connection {}",
            seconds(self.exchange),
            seconds(self.connection)
        )
    }
}

fn matrix(protocol: Protocol) {
    let shows = env::var("SPDY_TEST_ENDINGS").is_ok();
    let (mut wrong, mut played, mut left_out) = (Vec::new(), 0, 0);
    for role in Role::ALL {
        for state in State::ALL {
            for way in Way::ALL {
                let cell = Cell {
                    protocol,
                    role,
                    state,
                    way,
                };
                let bound = bound(cell.protocol, role, state, way);
                if matches!(bound, Bound::None(_)) {
                    left_out += 1;
                    if shows {
                        println!("{cell}: {bound}");
                    }
                    continue;
                }
                let taken = paused(cell.run());
                played += 1;
                if shows {
                    println!("{cell}: {taken}; the bound: {bound}");
                }
                if !taken.is_within(bound) {
                    wrong.push(format!("{cell}: {taken}; the bound: {bound}"));
                }
            }
        }
    }
    println!("{protocol}: {played} cells were played, {left_out} make no sense");
    assert!(
        wrong.is_empty(),
        "{} cells:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn resources_of_a_spdy_2_peer_are_freed_after_every_ending() {
    matrix(Protocol::Spdy(Version::V2));
}

#[test]
fn resources_of_a_spdy_3_peer_are_freed_after_every_ending() {
    matrix(Protocol::Spdy(Version::V3));
}

#[test]
fn resources_of_a_spdy_3_1_peer_are_freed_after_every_ending() {
    matrix(Protocol::Spdy(Version::V3_1));
}

#[test]
fn resources_of_an_http_2_peer_are_freed_after_every_ending() {
    matrix(Protocol::Http2);
}

#[test]
fn resources_of_an_http_1_peer_are_freed_after_every_ending() {
    matrix(Protocol::Http1);
}

#[test]
fn resources_of_a_spdy_client_are_freed_after_every_ending_of_its_server() {
    let wrong: Vec<_> = Version::ALL.into_iter().flat_map(client::matrix).collect();
    assert!(
        wrong.is_empty(),
        "{} cells:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Longer than any cell waits: far more than the sum of all timeouts.
const LONG: Duration = Duration::from_secs(1500);
