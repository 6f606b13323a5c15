//! Sessions that end, in every way there is, leave nothing behind (docs/limits.md, row 22): no
//! task, no descriptor, no memory.
//!
//! A few thousand sessions by default; `SPDY_TEST_SESSIONS=100000` says how many are wanted.

use std::{env, fs, future::Future, time::Duration};

use allocation_counter::measure;
use spdy_frame::{RstStatus, Version};
use spdy_session::{
    Config, HeaderBlock, Incoming, OpenOptions, Session, SessionError, Shutdown, Stream,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::UnixStream,
    runtime::Runtime,
    task::JoinHandle,
    time::timeout,
};

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The streams finish, and the client shuts the session down.
    Fin,
    /// The client resets a stream in the middle, the server another.
    Reset,
    /// The server shuts the session down while a stream is open, which finishes.
    GoAway,
    /// As before, but nothing waits for the stream.
    GoAwayNow,
    /// All handles are dropped while streams are open.
    DroppedHandles,
    /// The client's transport is gone from one moment to the next.
    DroppedTransport,
    /// The server's driver is dropped.
    DroppedDriver,
    /// The streams that the peer opens are never looked at.
    NotAccepted,
    /// The task that opens a stream gives up before there is a place for it.
    GivenUp,
}

const WAYS: [Way; 9] = [
    Way::Fin,
    Way::Reset,
    Way::GoAway,
    Way::GoAwayNow,
    Way::DroppedHandles,
    Way::DroppedTransport,
    Way::DroppedDriver,
    Way::NotAccepted,
    Way::GivenUp,
];

#[test]
fn s22_sessions_leave_no_task_and_no_memory_behind() {
    let rounds = sessions() / (WAYS.len() * Version::ALL.len());
    for way in WAYS {
        for version in Version::ALL {
            let runtime = runtime();
            let tasks = || runtime.metrics().num_alive_tasks();
            let session = || {
                runtime.block_on(async {
                    let (near, far) = duplex(4096);
                    within(way, session(version, way, near, far)).await;
                });
            };
            // What is allocated once and kept is there afterwards: the room in which the thread
            // inflates among it.
            (0..40).for_each(|_| session());
            assert_eq!(tasks(), 0, "{version} {way:?}");
            let info = measure(|| (0..rounds).for_each(|_| session()));
            assert_eq!(tasks(), 0, "{version} {way:?}");
            assert!(
                info.bytes_current.abs() < 8192,
                "{version} {way:?}: {rounds} sessions have left {} bytes",
                info.bytes_current
            );
        }
    }
}

#[test]
fn s22_sessions_leave_no_descriptor_behind() {
    let rounds = (sessions() / 100).max(10);
    let runtime = runtime();
    let descriptors = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    for way in WAYS {
        for version in Version::ALL {
            let session = || {
                runtime.block_on(async {
                    let (near, far) = UnixStream::pair().unwrap();
                    within(way, session(version, way, near, far)).await;
                });
            };
            session();
            let before = descriptors();
            (0..rounds / WAYS.len() + 1).for_each(|_| session());
            // The other test of this file has descriptors of its own, a handful.
            let after = descriptors();
            assert!(
                after <= before + 8,
                "{version} {way:?}: {before} before, {after} after"
            );
            assert_eq!(runtime.metrics().num_alive_tasks(), 0);
        }
    }
}

/// One side of a session.
struct End {
    session: Session,
    incoming: Incoming,
    driver: JoinHandle<Result<(), SessionError>>,
}

async fn session<A, B>(version: Version, way: Way, near: A, far: B)
where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut config = Config::default();
    config.timeouts.close = Duration::from_millis(1);
    config.timeouts.linger = Duration::from_millis(1);
    if way == Way::GivenUp {
        config.limits.max_streams = 2;
    }
    let (session, incoming, driver) = spdy_session::client(near, version, config.clone());
    let client = End {
        session,
        incoming,
        driver: tokio::spawn(driver),
    };
    let (session, incoming, driver) = spdy_session::server(far, version, config);
    let mut server = End {
        session,
        incoming,
        driver: tokio::spawn(driver),
    };

    if way == Way::NotAccepted {
        let stream = client.open().await;
        client.session.ping().await.unwrap();
        drop(stream);
        client.session.shutdown(Shutdown::Now);
        return ended(client, server).await;
    }

    let (mut mine, mut theirs) = streams(&client, &mut server).await;
    mine.write_all(b"question").await.unwrap();
    theirs.write_all(b"half of an answer").await.unwrap();
    let (mut other, mut their_other) = streams(&client, &mut server).await;
    other.write_all(&[0; 10_000]).await.unwrap();
    // Some of it is read, some is under way, some waits.
    mine.read_exact(&mut [0; 4]).await.unwrap();
    their_other.read_exact(&mut [0; 100]).await.unwrap();

    match way {
        Way::Fin => {
            for (mut one, mut another) in [(mine, theirs), (other, their_other)] {
                one.shutdown().await.unwrap();
                another.read_to_end(&mut Vec::new()).await.unwrap();
                another.shutdown().await.unwrap();
                one.read_to_end(&mut Vec::new()).await.unwrap();
            }
            client
                .session
                .shutdown(Shutdown::Graceful { deadline: None });
        }
        Way::Reset => {
            mine.reset(RstStatus::CANCEL);
            their_other.reset(RstStatus::INTERNAL_ERROR);
            theirs.closed().await;
            other.closed().await;
            client
                .session
                .shutdown(Shutdown::Graceful { deadline: None });
        }
        Way::GoAway => {
            server
                .session
                .shutdown(Shutdown::Graceful { deadline: None });
            mine.reset(RstStatus::CANCEL);
            other.shutdown().await.unwrap();
            their_other.read_to_end(&mut Vec::new()).await.unwrap();
            their_other.shutdown().await.unwrap();
            other.read_to_end(&mut Vec::new()).await.unwrap();
        }
        Way::GoAwayNow => {
            server.session.shutdown(Shutdown::Now);
            mine.closed().await;
        }
        Way::DroppedHandles => {
            let (receive, send) = mine.split();
            drop(send);
            drop((theirs, other, receive, their_other));
            drop((client.session, client.incoming));
            drop((server.session, server.incoming));
            _ = client.driver.await.unwrap();
            _ = server.driver.await.unwrap();
            return;
        }
        Way::DroppedTransport => {
            client.driver.abort();
            theirs.closed().await;
            mine.closed().await;
        }
        Way::DroppedDriver => {
            server.driver.abort();
            mine.closed().await;
        }
        Way::GivenUp => {
            // The server allows no more streams, so these wait until the end.
            let waiting: Vec<_> = (0..5)
                .map(|_| {
                    client
                        .session
                        .open(HeaderBlock::new(), OpenOptions::default())
                })
                .collect();
            tokio::task::yield_now().await;
            drop(waiting);
            client.session.ping().await.unwrap();
            client.session.shutdown(Shutdown::Now);
        }
        Way::NotAccepted => unreachable!("it was done above"),
    }
    ended(client, server).await;
}

impl End {
    async fn open(&self) -> Stream {
        let stream = self
            .session
            .open(HeaderBlock::new(), OpenOptions::default());
        stream.await.unwrap()
    }
}

async fn streams(client: &End, server: &mut End) -> (Stream, Stream) {
    let mine = client.open().await;
    let theirs = server.incoming.accept().await.unwrap();
    (mine, theirs.send_reply(HeaderBlock::new()).unwrap())
}

/// Waits for both drivers, which may have been dropped.
async fn ended(mut client: End, mut server: End) {
    _ = client.session.closed().await;
    _ = server.session.closed().await;
    while server.incoming.accept().await.is_some() {}
    assert!(client.incoming.accept().await.is_none());
    _ = client.driver.await;
    _ = server.driver.await;
}

async fn within<T>(way: Way, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("{way:?}: the session does not end"))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
}

fn sessions() -> usize {
    env::var("SPDY_TEST_SESSIONS").map_or(3000, |text| text.parse().expect("a number"))
}
