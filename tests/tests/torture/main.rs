//! The driver when its transport fails at each of its calls in turn, and when handles and futures
//! are dropped at each point where they may be: the session goes on, or ends with an error that
//! every handle gets, and nothing is left.

mod cancelled;
mod transport;

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use spdy_frame::Version;
use spdy_session::{
    Config, Driver, HeaderBlock, Incoming, OpenOptions, Session, SessionError, Shutdown,
};
use spdy_tests::machine::block;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    task::JoinHandle,
};

use self::transport::{Fault, Plan, Scripted};

/// What each side sends as its body.
const BODY: usize = 6_000;

/// What came of a conversation.
#[derive(Debug)]
struct Outcome {
    client: Result<(), SessionError>,
    server: Result<(), SessionError>,
    /// The client has the whole answer.
    is_answered: bool,
    /// How often the transport of each side was called.
    calls: [usize; 2],
}

#[test]
fn every_exchange_completes_over_a_transport_that_is_pending_at_any_call() {
    for version in Version::ALL {
        for fault in [Fault::Pending, Fault::Drip] {
            each_call(version, fault, |plan, outcome| {
                assert!(outcome.is_answered, "{plan:?}: {outcome:?}");
                assert!(outcome.client.is_ok(), "{plan:?}: {outcome:?}");
                assert!(outcome.server.is_ok(), "{plan:?}: {outcome:?}");
            });
        }
    }
}

#[test]
fn a_transport_that_fails_at_any_call_ends_the_session_for_everybody() {
    for version in Version::ALL {
        for fault in [Fault::Error, Fault::End] {
            let (mut answered, mut failed) = (0, 0);
            each_call(version, fault, |plan, outcome| {
                let is_ok = outcome.client.is_ok() && outcome.server.is_ok();
                assert!(outcome.is_answered || !is_ok, "{plan:?}: {outcome:?}");
                answered += usize::from(outcome.is_answered);
                failed += usize::from(!outcome.is_answered);
            });
            assert!(answered > 0 && failed > 10, "{answered} {failed}");
        }
    }
}

/// Has a conversation for each call that the transport of each side gets.
fn each_call(version: Version, fault: Fault, check: impl FnMut(Plan, Outcome)) {
    let mut check = check;
    let undisturbed = conversation(version, [None; 2]);
    assert!(undisturbed.is_answered, "{undisturbed:?}");
    for (side, calls) in undisturbed.calls.into_iter().enumerate() {
        assert!(calls > 20);
        let step = if fault == Fault::Drip { 3 } else { 1 };
        for at in (0..calls).step_by(step) {
            let plan = Plan { at, fault };
            let mut plans = [None; 2];
            plans[side] = Some(plan);
            check(plan, conversation(version, plans));
        }
    }
}

/// A client asks with a body, the server echoes it with trailers, both measure a round trip and the
/// client ends the session. Nothing is left of it whatever comes.
fn conversation(version: Version, plans: [Option<Plan>; 2]) -> Outcome {
    alone(async move {
        let calls = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let (near, far) = duplex(1024);
        let near = Scripted::new(near, plans[0], &calls[0]);
        let far = Scripted::new(far, plans[1], &calls[1]);
        let (session, incoming, driver) = spdy_session::client(near, version, config());
        let client = tokio::spawn(driver);
        drop(incoming);
        let (server_session, server_incoming, driver) =
            spdy_session::server(far, version, config());
        let server = tokio::spawn(driver);
        let serving = tokio::spawn(serve(server_session, server_incoming));

        let is_answered = ask(&session).await.is_ok();
        _ = session.ping().await;
        session.shutdown(Shutdown::Graceful {
            deadline: Some(Duration::from_secs(5)),
        });
        drop(session);
        serving.await.expect("it does not panic");
        Outcome {
            client: client.await.expect("it does not panic"),
            server: server.await.expect("it does not panic"),
            is_answered,
            calls: calls.map(|calls| calls.load(Ordering::Relaxed)),
        }
    })
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn ask(session: &Session) -> Result<(), AnyError> {
    let mut stream = session
        .open(block(&[("ask", "1")]), OpenOptions::default())
        .await?;
    let body = body();
    let headers = stream.response_headers().await?;
    assert_eq!(headers.get("answer"), Some(&b"2"[..]));
    let (mut recv, mut send) = stream.split();
    let mut answer = Vec::new();
    let sending = async {
        send.write_all(&body).await?;
        send.shutdown().await
    };
    tokio::try_join!(sending, recv.read_to_end(&mut answer))?;
    assert!(
        answer == body,
        "the bytes that came are those that were sent"
    );
    Ok(())
}

/// Serves until the session has ended.
async fn serve(session: Session, mut incoming: Incoming) {
    while let Some(stream) = incoming.accept().await {
        // It may fail at any point: what counts is that it comes to its end.
        let _ended = async {
            let (mut recv, mut send) = stream.send_reply(block(&[("answer", "2")]))?.split();
            tokio::io::copy(&mut recv, &mut send).await?;
            send.send_headers(block(&[("late", "3")]), true)?;
            send.written().await?;
            session.ping().await?;
            Ok::<_, AnyError>(())
        }
        .await;
    }
    let first = session.closed().await;
    assert_eq!(first.is_ok(), session.closed().await.is_ok());
}

fn body() -> Bytes {
    (0..BODY).map(|n| (n / 3) as u8).collect()
}

fn config() -> Config {
    let mut config = Config::default();
    // A side whose transport swallows everything notices it by time alone.
    config.timeouts.write = Some(Duration::from_secs(5));
    config.timeouts.idle = Some(Duration::from_secs(5));
    config.timeouts.blocked = Some(Duration::from_secs(5));
    config.timeouts.keep_alive = Some(Duration::from_secs(5));
    config.timeouts.keep_alive_reply = Duration::from_secs(5);
    config
}

/// Runs a future under a clock that goes on by itself. Everything that it has spawned has ended
/// when it has.
fn alone<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let result = tokio::time::timeout(Duration::from_secs(600), future).await;
        tokio::task::yield_now().await;
        result.expect("a task waits for what does not come")
    });
    assert_eq!(runtime.metrics().num_alive_tasks(), 0, "a task is left");
    result
}

/// A client and a server with drivers that run.
struct Ends {
    session: Session,
    incoming: Incoming,
    server: Session,
    drivers: [JoinHandle<Result<(), SessionError>>; 2],
}

/// Joins two sessions by a transport that moves one byte at a time, so that everything has many
/// points to wait at.
fn joined(version: Version) -> Ends {
    let drip = Some(Plan {
        at: 0,
        fault: Fault::Drip,
    });
    let (near, far) = duplex(64);
    let near = Scripted::new(near, drip, &Arc::default());
    let far = Scripted::new(far, drip, &Arc::default());
    let (session, _, driver): (_, _, Driver<_>) = spdy_session::client(near, version, config());
    let client = tokio::spawn(driver);
    let (server, incoming, driver) = spdy_session::server(far, version, config());
    Ends {
        session,
        incoming,
        server,
        drivers: [client, tokio::spawn(driver)],
    }
}

/// The session works: a stream is opened and echoed.
async fn assert_usable(ends: &mut Ends) {
    let mine = async {
        let mut stream = ends
            .session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await?;
        stream.write_all(b"usable").await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        assert_eq!(answer, "usable");
        Ok::<_, AnyError>(())
    };
    let theirs = async {
        loop {
            let stream = ends.incoming.accept().await.ok_or("no stream comes")?;
            let Ok(stream) = stream.send_reply(HeaderBlock::new()) else {
                continue; // One that was given up before.
            };
            let (mut recv, mut send) = stream.split();
            let mut text = String::new();
            if recv.read_to_string(&mut text).await.is_ok() && text == "usable" {
                send.write_all(text.as_bytes()).await?;
                send.shutdown().await?;
                return Ok::<_, AnyError>(());
            }
        }
    };
    tokio::try_join!(mine, theirs).expect("the session works");
}
