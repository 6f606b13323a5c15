//! Futures and handles that are dropped before their time.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use spdy_frame::Version;
use spdy_session::{HeaderBlock, OpenOptions, PendingStream, Received, Shutdown, Stream};
use spdy_tests::machine::block;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{BODY, Ends, alone, assert_usable, body, joined};

/// Polls a future at most `polls` times, whether it is woken or not, then drops it.
async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(result) = polled {
            return Some(result);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

/// Awaits what a call gives, while each future of it is dropped at its first point to wait.
macro_rules! impatient {
    ($call:expr) => {
        loop {
            let future = $call;
            let mut future = pin!(future);
            let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            match polled {
                Poll::Ready(result) => break result,
                // No waker of a future that is gone has to work: the test polls again by itself.
                Poll::Pending => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
}

/// Everything that says it is cancel safe is, at each point where it waits.
#[test]
fn nothing_is_lost_by_futures_that_are_dropped() {
    for version in Version::ALL {
        alone(async move {
            let mut ends = joined(version);
            let sent = body();
            let opening = ends
                .session
                .open(block(&[("ask", "1")]), OpenOptions::default());
            let mut mine = opening.await.unwrap();
            let pending: PendingStream = impatient!(ends.incoming.accept()).unwrap();
            let theirs = pending.send_reply(block(&[("answer", "2")])).unwrap();
            let headers = impatient!(mine.response_headers()).unwrap();
            assert_eq!(headers.get("answer"), Some(&b"2"[..]));

            let (_recv, mut send) = mine.split();
            let (mut recv, mut back) = theirs.split();
            let upload = async {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    impatient!(send.ready()).unwrap();
                    let written = impatient!(send.write(rest)).unwrap();
                    rest = &rest[written..];
                }
                impatient!(send.flush()).unwrap();
                send.send_headers(block(&[("late", "3")]), true).unwrap();
                impatient!(send.written()).unwrap();
            };
            let download = async {
                let mut received = Vec::new();
                let mut bytes = [0; 1000];
                while received.len() < BODY / 2 {
                    let read = impatient!(recv.read(&mut bytes)).unwrap();
                    received.extend_from_slice(&bytes[..read]);
                }
                let mut trailers = 0;
                while let Some(piece) = impatient!(recv.next()) {
                    match piece.unwrap() {
                        Received::Data(payload) => received.extend_from_slice(&payload),
                        Received::Headers(_) => trailers += 1,
                    }
                }
                assert!(received == sent);
                assert_eq!(trailers, 1);
            };
            tokio::join!(upload, download);
            back.finish().unwrap();
            assert_usable(&mut ends).await;
            end(ends, async |ends| {
                impatient!(ends.session.closed()).unwrap();
            })
            .await;
        });
    }
}

/// What is not cancel safe, and what gives something up when it is dropped, leaves a session that
/// works.
#[test]
fn the_session_survives_every_future_that_is_dropped_at_any_point() {
    for version in Version::ALL {
        for polls in 0..14 {
            alone(async move {
                let mut ends = joined(version);
                let opening = ends
                    .session
                    .open(HeaderBlock::new(), OpenOptions::default());
                drop(dropped_after(polls, opening).await);
                drop(dropped_after(polls, ends.session.ping()).await);
                drop(dropped_after(polls, ends.session.closed()).await);
                drop(dropped_after(polls, ends.server.ping()).await);
                assert_usable(&mut ends).await;
                let (mut mine, mut theirs) = stream(&mut ends).await;
                let large = body();
                drop(dropped_after(polls, mine.write_all(&large)).await);
                let mut bytes = vec![0; BODY];
                drop(dropped_after(polls, theirs.read_exact(&mut bytes)).await);
                drop(dropped_after(polls, theirs.next_headers()).await);
                drop(dropped_after(polls, mine.flush()).await);
                drop(dropped_after(polls, mine.shutdown()).await);
                drop(dropped_after(polls, ends.incoming.accept()).await);
                assert_usable(&mut ends).await;
                drop((mine, theirs));
                assert_usable(&mut ends).await;
                end(ends, async |_| {}).await;
            });
        }
    }
}

/// A handle that may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Mine,
    Theirs,
    MyRecv,
    MySend,
    TheirRecv,
    TheirSend,
    Session,
    Incoming,
    ClientDriver,
    ServerDriver,
}

impl Victim {
    const ALL: [Self; 10] = [
        Self::Mine,
        Self::Theirs,
        Self::MyRecv,
        Self::MySend,
        Self::TheirRecv,
        Self::TheirSend,
        Self::Session,
        Self::Incoming,
        Self::ClientDriver,
        Self::ServerDriver,
    ];
}

/// Each handle is dropped after each step of an exchange. What is left of it comes to an end, the
/// session goes on if it can, and no payload is kept.
#[test]
fn any_handle_may_be_dropped_at_any_point() {
    for version in Version::ALL {
        for victim in Victim::ALL {
            for step in 0..8 {
                let payload = Arc::new(());
                let kept = Arc::clone(&payload);
                alone(async move { drop_at(version, victim, step, kept).await });
                assert_eq!(
                    Arc::strong_count(&payload),
                    1,
                    "{version} {victim:?} {step}"
                );
            }
        }
    }
}

async fn drop_at(version: Version, victim: Victim, step: usize, kept: Arc<()>) {
    let mut ends = joined(version);
    let (mine, theirs) = stream(&mut ends).await;
    let (my_recv, my_send) = mine.split();
    let (their_recv, their_send) = theirs.split();
    let (mut my_recv, mut my_send) = (Some(my_recv), Some(my_send));
    let (mut their_recv, mut their_send) = (Some(their_recv), Some(their_send));
    let mut incoming = Some(ends.incoming);
    let mut session = Some(ends.session);
    for now in 0..8 {
        if now == step {
            match victim {
                Victim::Mine => (my_recv, my_send) = (None, None),
                Victim::Theirs => (their_recv, their_send) = (None, None),
                Victim::MyRecv => my_recv = None,
                Victim::MySend => my_send = None,
                Victim::TheirRecv => their_recv = None,
                Victim::TheirSend => their_send = None,
                Victim::Session => session = None,
                Victim::Incoming => incoming = None,
                Victim::ClientDriver => ends.drivers[0].abort(),
                Victim::ServerDriver => ends.drivers[1].abort(),
            }
        }
        // Each of them may fail, and none may wait for ever.
        match now {
            0 => drop(
                my_send
                    .as_mut()
                    .map(|send| send.send_data(payload(&kept), false)),
            ),
            1 => drop(
                their_send
                    .as_mut()
                    .map(|send| send.send_data(payload(&kept), false)),
            ),
            2 => {
                if let Some(recv) = &mut their_recv {
                    recv.next().await;
                }
            }
            3 => {
                if let Some(recv) = &mut my_recv {
                    recv.next().await;
                }
            }
            4 => drop(
                my_send
                    .as_mut()
                    .map(|send| send.send_data(payload(&kept), true)),
            ),
            5 => drop(
                their_send
                    .as_mut()
                    .map(|send| send.send_data(payload(&kept), true)),
            ),
            6 => {
                if let Some(recv) = &mut their_recv {
                    while let Some(Ok(_)) = recv.next().await {}
                }
            }
            _ => {
                if let Some(send) = &mut their_send {
                    _ = send.written().await;
                }
            }
        }
    }
    let is_driven = !matches!(victim, Victim::ClientDriver | Victim::ServerDriver);
    if let (Some(session), Some(incoming), true) = (&session, &mut incoming, is_driven) {
        // A new stream, with the old one as it is.
        let opening = session.open(HeaderBlock::new(), OpenOptions::default());
        let (opened, accepted) = tokio::join!(opening, incoming.accept());
        let mut opened = opened.expect("the session goes on");
        drop(accepted.expect("a stream comes"));
        let refused = opened.response_headers().await;
        assert!(refused.unwrap_err().is_retry_safe());
    }
    drop((my_recv, my_send, their_recv, their_send));
    drop((session, incoming));
    ends.server.shutdown(Shutdown::Now);
    for driver in &mut ends.drivers {
        match driver.await {
            Ok(_) => {}
            Err(error) => assert!(error.is_cancelled() && !is_driven, "{error}"),
        }
    }
}

/// Payload that shows whether it is kept.
fn payload(kept: &Arc<()>) -> Bytes {
    struct Kept(
        Vec<u8>,
        #[allow(dead_code, reason = "its count is looked at")] Arc<()>,
    );
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Kept(vec![7; 500], Arc::clone(kept)))
}

/// A stream with both its ends, answered.
async fn stream(ends: &mut Ends) -> (Stream, Stream) {
    let opening = ends
        .session
        .open(HeaderBlock::new(), OpenOptions::default());
    let accepting = async {
        loop {
            let stream = ends.incoming.accept().await.expect("a stream comes");
            if let Ok(stream) = stream.send_reply(HeaderBlock::new()) {
                return stream;
            }
        }
    };
    let (mine, mut theirs) = tokio::join!(opening, accepting);
    let mine = mine.expect("a stream can be opened");
    while theirs.id() != mine.id() {
        let pending = ends.incoming.accept().await.expect("the stream comes");
        theirs = pending.send_reply(HeaderBlock::new()).expect("it is open");
    }
    (mine, theirs)
}

/// Ends the sessions, which leaves nothing behind.
async fn end(mut ends: Ends, then: impl AsyncFnOnce(&mut Ends)) {
    ends.session.shutdown(Shutdown::Now);
    ends.server.shutdown(Shutdown::Now);
    then(&mut ends).await;
    let Ends { drivers, .. } = ends;
    for driver in drivers {
        _ = driver.await.expect("it does not panic");
    }
}
