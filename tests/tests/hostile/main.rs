//! What a hostile peer can do to a session over the driver, row by row: `sNN` are the rows of
//! docs/limits.md.
//!
//! Rows about memory are in `memory`, those about the program in `hostile_program`, those about the
//! order of frames in `scheduling`.

mod control;
mod data;
mod headers;
mod resets;
mod time;

use std::future::poll_fn;

use spdy_frame::{GoAwayStatus, RstStatus, RstStream, StreamId, Version};
use spdy_session::{Config, HeaderBlock, Incoming, Rule, Session, SessionError, StreamError};
use spdy_tests::{
    frames::{self, RawFrame},
    wire::{Received, Wire},
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinHandle, JoinSet},
};

/// A server whose peer is the test.
struct Served {
    version: Version,
    peer: Wire<DuplexStream>,
    session: Session,
    driver: JoinHandle<Result<(), SessionError>>,
    /// How streams have ended, as their handlers saw it.
    ends: UnboundedReceiver<(u32, StreamError)>,
}

/// What the application does with a stream.
#[derive(Clone, Copy, Debug)]
enum Handler {
    /// It waits for the end of the stream, and neither reads nor answers.
    Waits,
    /// It answers with headers alone.
    Answers,
    /// It answers with this number of bytes.
    Sends(usize),
    /// It drops the receiving half at once, and waits.
    Discards,
    /// It reads to the end, and answers then.
    Reads,
}

impl Served {
    fn new(version: Version, handler: Handler) -> Self {
        Self::with(version, handler, Config::default())
    }

    fn with(version: Version, handler: Handler, config: Config) -> Self {
        let (near, far) = duplex(64 * 1024);
        let (session, incoming, driver) = spdy_session::server(far, version, config);
        let (told, ends) = unbounded_channel();
        tokio::spawn(application(incoming, handler, told));
        Self {
            version,
            peer: Wire::new(near, version),
            session,
            driver: tokio::spawn(driver),
            ends,
        }
    }

    async fn send(&mut self, frame: RawFrame) {
        self.peer.send(frame).await;
    }

    /// Sends a frame again and again, until the session has ended. Returns how often it was sent,
    /// and the status of GOAWAY. Answers are read.
    async fn flood(&mut self, mut frame: impl FnMut(u32) -> Vec<RawFrame>, most: u32) -> u32 {
        for round in 0..most {
            for frame in frame(round) {
                self.peer.send(frame).await;
            }
            // What is answered is read now and then, and what is on its way gets time.
            if round % 50 == 49 && self.drained().await {
                return round;
            }
        }
        panic!("{most} rounds were taken");
    }

    /// Reads frames up to the answer to a PING of the peer. Returns true if GOAWAY came instead.
    async fn drained(&mut self) -> bool {
        self.peer.send(frames::ping(self.version, 4711)).await;
        loop {
            match self.peer.recv_or_end().await {
                None => return true,
                Some(Received::GoAway(frame)) => {
                    // GOAWAY of SPDY/2 has no status.
                    let is_v2 = self.version == Version::V2;
                    assert!(is_v2 || frame.status == GoAwayStatus::PROTOCOL_ERROR);
                    return true;
                }
                Some(Received::Ping(ping)) if ping.id == 4711 => return false,
                Some(_) => {}
            }
        }
    }

    /// Shows that the session goes on.
    async fn assert_usable(&mut self) {
        assert!(!self.drained().await, "the session has ended");
    }

    /// The error that the session ended with.
    async fn error(mut self) -> SessionError {
        self.peer.shutdown().await;
        let end = self.driver.await.expect("nothing panics");
        end.expect_err("the session failed")
    }

    /// The rule for which the session has ended.
    async fn rule(self) -> Rule {
        match self.error().await {
            SessionError::Violation { rule, .. } => rule,
            error => panic!("{error:?}"),
        }
    }
}

async fn application(
    mut incoming: Incoming,
    handler: Handler,
    told: UnboundedSender<(u32, StreamError)>,
) {
    let mut handlers = JoinSet::new();
    while let Some(stream) = incoming.accept().await {
        let told = told.clone();
        handlers.spawn(async move {
            let id = stream.id().get();
            let (mut receive, mut reply) = stream.split();
            let end = match handler {
                Handler::Waits => poll_fn(|cx| reply.poll_closed(cx)).await,
                Handler::Discards => {
                    drop(receive);
                    poll_fn(|cx| reply.poll_closed(cx)).await
                }
                Handler::Answers => match reply.send_reply(HeaderBlock::new(), true) {
                    Ok(mut send) => send.closed().await,
                    Err(error) => error,
                },
                Handler::Sends(bytes) => match reply.send_reply(HeaderBlock::new(), false) {
                    Ok(mut send) => {
                        let sent = async {
                            send.write_all(&vec![b'x'; bytes]).await?;
                            send.shutdown().await
                        };
                        _ = sent.await;
                        send.closed().await
                    }
                    Err(error) => error,
                },
                Handler::Reads => {
                    while let Some(Ok(_)) = receive.next().await {}
                    match reply.send_reply(HeaderBlock::new(), true) {
                        Ok(mut send) => send.closed().await,
                        Err(error) => error,
                    }
                }
            };
            _ = told.send((id, end));
        });
        while handlers.try_join_next().is_some() {}
    }
    while handlers.join_next().await.is_some() {}
}

fn is_reset(frame: &Received, stream: u32, status: RstStatus) -> bool {
    *frame
        == Received::RstStream(RstStream {
            stream: StreamId::new(stream).unwrap(),
            status,
        })
}

fn is_goaway(frame: &Received) -> bool {
    matches!(frame, Received::GoAway(_))
}
