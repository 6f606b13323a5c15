//! What a server holds for clients that send requests and do not read, and for idle sessions. The
//! allocator counts it for the whole process (docs/limits.md, "Memory"). The client is in the same
//! process; it has raw frames and nothing else.
//!
//! `SPDY_TEST_MEMORY=all` runs every version and every way not to read; without it only the three
//! cases that hold most run. `SPDY_TEST_SESSIONS=10000` sets the number of idle sessions; `ulimit
//! -n` must allow two descriptors for each.

mod apps;
mod peer;
mod rest;

use std::{
    env,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use axum::Router;
use peak_alloc::PeakAlloc;
use spdy_server::{Bind, Config, PlainVersion, Server, Version, app};
use tokio::{
    sync::Mutex,
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use self::{
    apps::Served,
    peer::{Peer, Way},
    rest::Head,
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Only one test of this file measures at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// The maximum that one session holds, whatever the application: docs/limits.md.
const MOST: usize = 4 << 20;

/// What hyper holds for a connection to an application of HTTP/1.1: docs/limits.md.
const CONNECTION: usize = 16_928;

/// The growth of the lists of all connections, which belongs to none of them.
const SHARED: usize = 64 << 10;

/// What an idle session holds besides the compression window of its peer: docs/limits.md.
const AT_REST: usize = 8 << 10;

/// What a connection holds before it has a protocol: docs/limits.md.
const SILENT: usize = 4 << 10;

/// What an idle session holds in all, if its one request was small: docs/limits.md.
const SMALL_AT_REST: usize = 5_700;

/// The number of streams of one session.
const STREAMS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_site_holds_little_for_a_client_that_does_not_read() {
    measure("site", apps::site()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_hold_little_for_a_client_that_does_not_read() {
    measure("small files", apps::small_files()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_holds_little_for_a_client_that_does_not_read() {
    measure("large file", apps::large_file()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_a_directory_hold_little_for_a_client_that_does_not_read() {
    measure("lists", apps::lists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_file_holds_little_for_a_client_that_does_not_read() {
    measure("compressed file", apps::compressed_file()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chunks_of_a_mebibyte_hold_little_for_a_client_that_does_not_read() {
    measure("chunks of 1 MiB", apps::chunks(1 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_odd_lengths_hold_little_for_a_client_that_does_not_read() {
    for chunk in [16_384, 16_385, 60_000] {
        measure("chunks", apps::chunks(chunk)).await;
    }
}

/// What every stream may have, however much others hold, is little for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_file_behind_chunks_holds_little_for_a_client_that_does_not_read() {
    measure("large file behind chunks", apps::large_file_behind_chunks()).await;
}

/// What a body gives first says nothing of what it gives then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chunks_behind_short_ones_hold_little_for_a_client_that_does_not_read() {
    for (number, short) in [(1, 1000), (1, 16_384), (3, 16_384), (100, 16_384)] {
        let name = format!("{number} of {short}, then 1 MiB");
        measure(&name, apps::short_then_chunks(number, short, 1 << 20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_hold_little_for_a_client_that_does_not_read() {
    measure("pushes", apps::pushes()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxied_application_holds_little_for_a_client_that_does_not_read() {
    let connections = STREAMS * CONNECTION;
    measure_beside(connections, "proxy to HTTP/1.1", apps::proxy_to("http")).await;
    measure("proxy to HTTP/2", apps::proxy_to("h2")).await;
}

/// There is one request with a small head or one of 40 kB, or a hundred come at once, from a client
/// with a small compression window or a large one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_at_rest_holds_the_window_that_its_peer_announced_and_8_kib() {
    let _turn = TURN.lock().await;
    let number = env::var("SPDY_TEST_SESSIONS").map_or(200, |number| number.parse().unwrap());
    for head in Head::all() {
        let server = Running::start(app::site(), head.version).await;
        // Threads keep some memory afterwards.
        drop(server.rest(head, 20).await);
        let before = settled().await;
        let sessions = server.rest(head, number).await;
        let held = settled().await.saturating_sub(before + SHARED) / number;
        println!("{head:?}: {held} bytes a session at rest");
        let most = match head.is_small() {
            true => SMALL_AT_REST,
            false => head.window() + AT_REST,
        };
        assert!(held <= most, "{head:?}: {held} bytes");
        drop(sessions);
        freed("rest", before).await;
        server.task.abort();
    }
}

/// They wait for the first bytes of their clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_has_sent_nothing_holds_4_kib() {
    let _turn = TURN.lock().await;
    let number = 200;
    let head = Head::all().next().unwrap();
    let server = Running::start(app::site(), head.version).await;
    drop(server.rest(head, 20).await);
    let before = settled().await;
    let connect = |_| TcpStream::connect(server.address).unwrap();
    let silent: Vec<TcpStream> = (0..number).map(connect).collect();
    // Connections are accepted in their order, so a response shows that all of them are.
    let last = server.rest(head, 1).await;
    let held = settled().await.saturating_sub(before + SHARED) / number;
    println!("{held} bytes a connection that has sent nothing");
    assert!(held <= SILENT, "{held} bytes");
    drop((silent, last));
    freed("silent", before).await;
    server.task.abort();
}

/// Idle sessions count what they hold, until they have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_refused_while_all_sessions_hold_too_much() {
    let _turn = TURN.lock().await;
    let server = Running::with(app::site(), Version::V3_1, |config| {
        config.max_session_memory = 512 << 10;
    })
    .await;
    let head = Head {
        version: Version::V3_1,
        bits: 15,
        is_flushed: true,
        more: 40_000,
        requests: 1,
    };
    // Each holds 44 KiB: the last one is accepted below the limit, and exceeds it.
    let sessions = server.rest(head, 12).await;
    let held = server.wait_for(|is_served| !is_served).await;
    assert!(held, "a connection is refused");
    drop(sessions);
    assert!(server.wait_for(|is_served| is_served).await);
    server.task.abort();
}

/// Opens as many streams as a session has, in each way not to read them.
async fn measure(name: &str, served: Served) {
    measure_beside(0, name, served).await;
}

/// `connections` is what the application's connections hold, beside what the session holds.
async fn measure_beside(connections: usize, name: &str, served: Served) {
    let _turn = TURN.lock().await;
    let all: [(Version, &[Way]); 3] = [
        (Version::V3_1, &Way::ALL),
        (Version::V3, &[Way::Window(1), Way::Unread]),
        (Version::V2, &[Way::Unread]),
    ];
    let most: [(Version, &[Way]); 1] = [(Version::V3_1, &Way::MOST)];
    let wanted = if env::var("SPDY_TEST_MEMORY").is_ok_and(|wanted| wanted == "all") {
        &all[..]
    } else {
        &most
    };
    for &(version, ways) in wanted {
        let server = Running::start(served.router.clone(), version).await;
        // The caches of files and connections remain afterwards.
        server.session(&served, ways[0]).await.end();
        for &way in ways {
            let before = settled().await;
            ALLOCATED.reset_peak_usage();
            let peer = server.session(&served, way).await;
            let most = ALLOCATED.peak_usage().saturating_sub(before);
            println!("{name}, {version}, {way:?}: {most} bytes at the peak");
            assert!(
                most <= MOST + connections,
                "{name}, {version}, {way:?}: {most} bytes"
            );
            peer.end();
            freed(name, before).await;
        }
        server.task.abort();
    }
}

/// A server in this process.
struct Running {
    address: SocketAddr,
    version: Version,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(router: Router, version: Version) -> Self {
        Self::with(router, version, |_| {}).await
    }

    async fn with(router: Router, version: Version, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            binds: vec![Bind::plain(SocketAddr::from(([127, 0, 0, 1], 0)))],
            plain_version: match version {
                Version::V3 => PlainVersion::V3,
                _ => PlainVersion::V3_1,
            },
            ..Config::default()
        };
        set(&mut config);
        let server = Server::bind(config).await.unwrap();
        let address = server.endpoints()[0].address.tcp().unwrap();
        let task = tokio::spawn(async move {
            _ = server.run(router, std::future::pending()).await;
        });
        Self {
            address,
            version,
            task,
        }
    }

    /// Sends all requests, and waits until the server has done what it can.
    async fn session(&self, served: &Served, way: Way) -> Peer {
        let mut peer = Peer::connect(self.address, self.version).await;
        peer.ask(&served.paths, way).await;
        peer.wait(served.paths.len(), way).await;
        peer
    }
}

impl Running {
    /// Connects until the connection is served, or until it is not. Returns false if that takes too
    /// long.
    async fn wait_for(&self, wanted: impl Fn(bool) -> bool) -> bool {
        for _ in 0..600 {
            let address = self.address;
            let is_served = spawn_blocking(move || rest::is_served(address));
            if wanted(is_served.await.unwrap()) {
                return true;
            }
            sleep(QUIET).await;
        }
        false
    }

    /// Opens sessions, each of which has made a request and is idle.
    async fn rest(&self, head: Head, number: usize) -> Vec<TcpStream> {
        let address = self.address;
        let sessions = spawn_blocking(move || rest::sessions(address, head, number));
        sessions.await.unwrap()
    }
}

/// Waits until no more memory is freed, and returns what is held then.
async fn settled() -> usize {
    let mut held = ALLOCATED.current_usage();
    loop {
        sleep(QUIET).await;
        let now = ALLOCATED.current_usage();
        if now.abs_diff(held) < 16 * 1024 {
            return now;
        }
        held = now;
    }
}

/// Waits until all memory of a session is freed.
async fn freed(name: &str, before: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = ALLOCATED.current_usage().saturating_sub(before);
        if left < LEFT {
            return;
        }
        assert!(Instant::now() < deadline, "{name}: {left} bytes are left");
        sleep(QUIET).await;
    }
}

/// How long it takes to see whether anything happens.
const QUIET: Duration = Duration::from_millis(100);

/// What threads keep for their next session, and maps for their next entry.
const LEFT: usize = 384 * 1024;
