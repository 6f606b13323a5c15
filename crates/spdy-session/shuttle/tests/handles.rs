//! Handles and drivers in tasks of their own, in many thousands of orders. A lost wake-up leaves
//! every task waiting. The scheduler reports that, with the order that caused it.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use shuttle::{future, thread};
use spdy_session::{
    Config, HeaderBlock, Incoming, OpenOptions, Received, RecvStream, SendStream, Session,
    Shutdown, StreamError, Version,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many orders of each test are tried.
const ORDERS: usize = 20_000;

/// Some writes wait for room, and each read waits for a piece.
#[test]
fn every_piece_and_every_end_arrives() {
    shuttle::check_random(
        || {
            let (client, server) = pair();
            let serving = thread::spawn(move || future::block_on(echo(server)));
            future::block_on(async move {
                let (session, _incoming) = client;
                let opened = session
                    .open(HeaderBlock::new(), OpenOptions::default())
                    .await;
                let stream = opened.expect("it can be opened");
                let (mut recv, mut send) = stream.split();
                let sending = thread::spawn(move || {
                    future::block_on(async move {
                        for n in 0..3 {
                            send.ready().await.expect("the stream is open");
                            send.send_data(Bytes::from(vec![n; 5]), n == 2)
                                .expect("it is open");
                        }
                        send.written().await.expect("it is written");
                    });
                });
                recv.response_headers().await.expect("it is answered");
                assert_eq!(read(&mut recv).await.expect("it ends"), 15);
                sending.join().expect("it does not panic");
            });
            serving.join().expect("it does not panic");
        },
        ORDERS,
    );
}

/// Handles are dropped while the events that they wait for arrive.
#[test]
fn handles_that_are_dropped_meanwhile_keep_no_task_waiting() {
    shuttle::check_random(
        || {
            let (client, server) = pair();
            let serving = thread::spawn(move || {
                future::block_on(async move {
                    let (_session, mut incoming) = server;
                    while let Some(stream) = incoming.accept().await {
                        let Ok(stream) = stream.send_reply(HeaderBlock::new()) else {
                            continue;
                        };
                        let (mut recv, send) = stream.split();
                        let dropping = thread::spawn(move || drop(send));
                        _ = read(&mut recv).await;
                        dropping.join().expect("it does not panic");
                    }
                });
            });
            future::block_on(async move {
                let (session, _incoming) = client;
                let opened = session
                    .open(HeaderBlock::new(), OpenOptions::default())
                    .await;
                let (recv, mut send) = opened.expect("it can be opened").split();
                let dropping = thread::spawn(move || drop(recv));
                _ = send.send_data(Bytes::from_static(b"hello"), false);
                _ = send.ready().await;
                let waiting = thread::spawn(move || {
                    // Either the peer or the dropped handle resets the stream.
                    future::block_on(async move { send.closed().await })
                });
                dropping.join().expect("it does not panic");
                let end = waiting.join().expect("it does not panic");
                assert!(matches!(end, StreamError::Reset { .. }), "{end:?}");
            });
            serving.join().expect("it does not panic");
        },
        ORDERS,
    );
}

/// A session ends while streams are opened, answered and awaited.
#[test]
fn all_tasks_learn_of_the_end_of_their_session() {
    shuttle::check_random(
        || {
            let (client, server) = pair();
            let serving = thread::spawn(move || future::block_on(echo(server)));
            let (session, incoming) = client;
            drop(incoming);
            let asking = {
                let session = session.clone();
                thread::spawn(move || {
                    future::block_on(async move {
                        let opened = session
                            .open(HeaderBlock::new(), OpenOptions::default())
                            .await;
                        let Ok(stream) = opened else { return };
                        let (mut recv, mut send) = stream.split();
                        _ = send.send_data(Bytes::from_static(b"hello"), true);
                        if read(&mut recv).await.is_ok() {
                            assert!(send.written().await.is_ok());
                        }
                    });
                })
            };
            let pinging = {
                let session = session.clone();
                thread::spawn(move || drop(future::block_on(session.ping())))
            };
            let watching = {
                let session = session.clone();
                thread::spawn(move || drop(future::block_on(session.closed())))
            };
            session.shutdown(Shutdown::Now);
            drop(session);
            for task in [asking, pinging, watching, serving] {
                task.join().expect("it does not panic");
            }
        },
        ORDERS,
    );
}

/// A reset by one side meets writes of the other.
#[test]
fn a_reset_wakes_a_waiting_writer() {
    shuttle::check_random(
        || {
            let (client, server) = pair();
            let serving = thread::spawn(move || {
                future::block_on(async move {
                    let (_session, mut incoming) = server;
                    while let Some(stream) = incoming.accept().await {
                        stream.refuse();
                    }
                });
            });
            future::block_on(async move {
                let (session, _incoming) = client;
                let opened = session
                    .open(HeaderBlock::new(), OpenOptions::default())
                    .await;
                let (mut recv, send) = opened.expect("it can be opened").split();
                let writing = thread::spawn(move || future::block_on(fill(send)));
                let end = recv.next().await.expect("it does not end in order");
                assert!(end.expect_err("it was refused").is_retry_safe());
                let end = writing.join().expect("it does not panic");
                assert!(end.is_retry_safe(), "{end:?}");
            });
            serving.join().expect("it does not panic");
        },
        ORDERS,
    );
}

/// A reader takes a piece, which need not wake the driver at once. Meanwhile a writer in another
/// task sends the last bytes, which must wake it. Nothing else wakes the driver.
#[test]
fn a_quiet_order_does_not_hide_an_urgent_one() {
    shuttle::check_random(
        || {
            let (client, server) = pair();
            let serving = thread::spawn(move || {
                future::block_on(async move {
                    let (_session, mut incoming) = server;
                    let stream = incoming.accept().await.expect("one is opened");
                    let stream = stream.send_reply(HeaderBlock::new()).expect("it is open");
                    let (mut recv, mut send) = stream.split();
                    let reading = thread::spawn(move || {
                        future::block_on(async move {
                            let mut bytes = 0;
                            while bytes < 10 {
                                match recv.next().await {
                                    Some(Ok(Received::Data(payload))) => bytes += payload.len(),
                                    other => panic!("the stream goes on, but: {other:?}"),
                                }
                            }
                            recv
                        })
                    });
                    let answer = Bytes::from_static(b"bye");
                    send.send_data(answer, true).expect("it is open");
                    let mut recv = reading.join().expect("it does not panic");
                    assert!(matches!(recv.next().await, None));
                });
            });
            future::block_on(async move {
                let (session, _incoming) = client;
                let opened = session
                    .open(HeaderBlock::new(), OpenOptions::default())
                    .await;
                let (mut recv, mut send) = opened.expect("it can be opened").split();
                for word in [&b"hello"[..], b"there"] {
                    send.ready().await.expect("it is open");
                    send.send_data(Bytes::from_static(word), false)
                        .expect("it is open");
                }
                assert_eq!(read(&mut recv).await.expect("it ends"), 3);
                send.finish().expect("it is open");
                _ = send.written().await;
            });
            serving.join().expect("it does not panic");
        },
        ORDERS,
    );
}

/// Each stream waits for the room that another one has. One leaves in the middle, and one asks for
/// room that it does not use.
#[test]
fn room_for_pieces_is_passed_on() {
    shuttle::check_random(
        || {
            let (client, server) = pair();
            let serving = thread::spawn(move || future::block_on(count(server, 2 * PIECE)));
            let (session, incoming) = client;
            drop(incoming);
            let sending: Vec<thread::JoinHandle<()>> = (0..4)
                .map(|number| {
                    let session = session.clone();
                    thread::spawn(move || future::block_on(send_pieces(session, number)))
                })
                .collect();
            drop(session);
            for task in sending {
                task.join().expect("it does not panic");
            }
            serving.join().expect("it does not panic");
        },
        ORDERS / 4,
    );
}

/// Sends two pieces, unless the number is that of a stream that does something else.
async fn send_pieces(session: Session, number: usize) {
    let opened = session
        .open(HeaderBlock::new(), OpenOptions::default())
        .await;
    let (_recv, mut send) = opened.expect("it can be opened").split();
    match number {
        0 => {
            // It may have been asked to go on, and does not.
            let mut asked = false;
            std::future::poll_fn(|cx| {
                if std::mem::replace(&mut asked, true) {
                    return Poll::Ready(());
                }
                _ = send.poll_piece(cx, 0, false);
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            return;
        }
        1 => drop(std::future::poll_fn(|cx| send.poll_piece(cx, 0, false)).await),
        _ => {}
    }
    for n in 0..2 {
        let room = std::future::poll_fn(|cx| send.poll_piece(cx, 0, false)).await;
        let room = room.expect("the stream is open");
        send.send_data(Bytes::from(vec![0; PIECE]), n == 1)
            .expect("it is open");
        drop(room);
    }
    send.written().await.expect("it is written");
}

/// Longer than a piece that needs no room.
const PIECE: usize = 16_385;

/// Reads every stream, and expects `all` bytes of each that ends.
async fn count((_session, mut incoming): (Session, Incoming), all: usize) {
    while let Some(stream) = incoming.accept().await {
        let Ok(stream) = stream.send_reply(HeaderBlock::new()) else {
            continue;
        };
        let (mut recv, _send) = stream.split();
        if let Ok(bytes) = read(&mut recv).await {
            assert_eq!(bytes, all);
        }
    }
}

/// Writes until a write fails.
async fn fill(mut send: SendStream) -> StreamError {
    loop {
        if let Err(error) = send.ready().await {
            return error;
        }
        if let Err(error) = send.send_data(Bytes::from_static(b"more"), false) {
            return error;
        }
    }
}

async fn read(recv: &mut RecvStream) -> Result<usize, StreamError> {
    let mut bytes = 0;
    while let Some(piece) = recv.next().await {
        if let Received::Data(payload) = piece? {
            bytes += payload.len();
        }
    }
    Ok(bytes)
}

/// Answers every stream with its own bytes.
async fn echo((_session, mut incoming): (Session, Incoming)) {
    while let Some(stream) = incoming.accept().await {
        let Ok(stream) = stream.send_reply(HeaderBlock::new()) else {
            continue;
        };
        let (mut recv, mut send) = stream.split();
        while let Some(Ok(piece)) = recv.next().await {
            if let Received::Data(payload) = piece {
                _ = send.send_data(payload, false);
            }
        }
        _ = send.finish();
    }
}

/// Returns a client and a server. Their drivers run in tasks of their own, and end with their
/// handles.
fn pair() -> ((Session, Incoming), (Session, Incoming)) {
    let (near, far) = (Arc::default(), Arc::default());
    let near_pipe = Pipe {
        input: Arc::clone(&near),
        output: Arc::clone(&far),
    };
    let far_pipe = Pipe {
        input: far,
        output: near,
    };
    let (session, incoming, driver) = spdy_session::client(near_pipe, Version::V3_1, config());
    thread::spawn(move || drop(future::block_on(driver)));
    let (far_session, far_incoming, driver) =
        spdy_session::server(far_pipe, Version::V3_1, config());
    thread::spawn(move || drop(future::block_on(driver)));
    ((session, incoming), (far_session, far_incoming))
}

/// Returns a configuration with small queues and without timeouts, because there is no clock.
fn config() -> Config {
    let mut config = Config::default();
    config.limits.stream_send_queue = 6;
    config.limits.session_send_queue = 6;
    config.limits.min_send_queue = 3;
    // One large piece, and another of a stream whose window takes it at once.
    config.limits.large_send_pieces = 1;
    let timeouts = &mut config.timeouts;
    timeouts.first_frame = None;
    timeouts.frame = None;
    timeouts.idle = None;
    timeouts.write = None;
    timeouts.blocked = None;
    timeouts.unread = None;
    timeouts.discard = None;
    timeouts.trickle = None;
    timeouts.probe = None;
    timeouts.keep_alive = None;
    timeouts.close = std::time::Duration::ZERO;
    timeouts.linger = std::time::Duration::ZERO;
    config
}

/// One end of a transport in memory.
struct Pipe {
    input: Arc<Mutex<Lane>>,
    output: Arc<Mutex<Lane>>,
}

#[derive(Default)]
struct Lane {
    bytes: VecDeque<u8>,
    ended: bool,
    reader: Option<Waker>,
}

impl Lane {
    fn wake(lane: &Mutex<Self>) {
        // The lock is released first, because other tasks may run then.
        let waker = lane.lock().expect("no task panics").reader.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut lane = self.input.lock().expect("no task panics");
        if lane.bytes.is_empty() && !lane.ended {
            lane.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = lane.bytes.len().min(buf.remaining());
        let bytes: Vec<u8> = lane.bytes.drain(..bytes).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.output
            .lock()
            .expect("no task panics")
            .bytes
            .extend(buf);
        Lane::wake(&self.output);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.lock().expect("no task panics").ended = true;
        Lane::wake(&self.output);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.output.lock().expect("no task panics").ended = true;
        Lane::wake(&self.output);
    }
}
