//! What an application gave is never freed or woken under a lock: payload, wakers, and functions
//! can use the same stream and the same session when they are dropped.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use spdy_session::{
    Config, OpenOptions, RecvStream, RstStatus, SendRoom, SendStream, Session, Shutdown, Stream,
    Version,
};
use tokio::{io::AsyncWrite, time::sleep};

use crate::support::{End, block, pair, pair_with, within};

/// The handles of one stream and of its session, which everything that is dropped uses.
#[derive(Debug)]
struct Handles {
    session: Session,
    room: Option<SendRoom>,
    recv: Mutex<Option<RecvStream>>,
    send: Mutex<Option<SendStream>>,
    /// How often they were used.
    uses: AtomicUsize,
}

impl Handles {
    fn new(
        session: &Session,
        room: Option<SendRoom>,
        (recv, send): (RecvStream, SendStream),
    ) -> Arc<Self> {
        Arc::new(Self {
            session: session.clone(),
            room,
            recv: Mutex::new(Some(recv)),
            send: Mutex::new(Some(send)),
            uses: AtomicUsize::new(0),
        })
    }

    /// Uses the session, and both halves unless the test itself uses them now.
    fn act(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        _ = self.session.can_open();
        drop(self.session.clone());
        drop(self.session.open(block(&[]), OpenOptions::default()));
        if let Some(room) = &self.room {
            drop(room.reserve(100_000));
        }
        if let Ok(mut send) = self.send.try_lock()
            && let Some(send) = &mut *send
        {
            _ = send.send_data(Bytes::from_static(b"another"), false);
        }
        if let Ok(mut recv) = self.recv.try_lock() {
            recv.take()
                .into_iter()
                .for_each(|it| it.reset(RstStatus::CANCEL));
        }
    }

    fn uses(&self) -> usize {
        self.uses.load(Ordering::Relaxed)
    }

    /// Queues payload that uses the handles when it is dropped.
    fn queue(self: &Arc<Self>, length: usize, fin: bool) {
        let payload = self.payload(length);
        let mut send = self.send.lock().unwrap();
        send.as_mut().unwrap().send_data(payload, fin).unwrap();
    }

    fn payload(self: &Arc<Self>, length: usize) -> Bytes {
        Bytes::from_owner(Owner {
            bytes: vec![7; length],
            handles: Arc::clone(self),
        })
    }

    fn task(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(Task(Arc::clone(self))))
    }

    /// Drops both halves, as the last handles of the stream.
    fn drop_halves(&self) {
        let halves = (
            self.recv.lock().unwrap().take(),
            self.send.lock().unwrap().take(),
        );
        drop(halves);
    }
}

struct Owner {
    bytes: Vec<u8>,
    handles: Arc<Handles>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.handles.act();
    }
}

/// A task that runs at once when it is woken, and that ends with its last waker.
struct Task(Arc<Handles>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.act();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.act();
    }
}

/// Runs a test on a thread of its own. It fails if the thread waits for a lock that it holds.
fn ends<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(test());
        done.send(()).unwrap();
    });
    let ended = ended.recv_timeout(Duration::from_secs(60));
    ended.expect("the test has panicked, or waits for a lock");
}

/// Opens a stream of the peer, which does not read. Returns this side's handles, and the peer's.
async fn accepted(peer: &End, this: &mut End) -> (Arc<Handles>, Stream) {
    let opening = peer.session.open(block(&[]), OpenOptions::default());
    let theirs = within(opening).await.unwrap();
    let (recv, reply) = within(this.incoming.accept()).await.unwrap().split();
    let room = Some(reply.room());
    let send = reply.send_reply(block(&[]), false).unwrap();
    (Handles::new(&this.session, room, (recv, send)), theirs)
}

/// The handles of a stream, and what keeps both sides of its session alive.
async fn opened() -> (Arc<Handles>, impl Sized) {
    let (near, mut far) = pair(Version::V3_1);
    let (handles, theirs) = accepted(&near, &mut far).await;
    (handles, (near, far, theirs))
}

async fn rest() {
    sleep(Duration::from_millis(100)).await;
}

/// More than the window of a stream lets out.
const LONG: usize = 1 << 20;

#[test]
fn payload_that_is_copied_is_freed_without_a_lock() {
    ends(async || {
        let (handles, _alive) = opened().await;
        handles.queue(10, false);
        assert_eq!(handles.uses(), 1);
    });
}

#[test]
fn payload_without_bytes_is_freed_without_a_lock() {
    ends(async || {
        let (handles, _alive) = opened().await;
        handles.queue(0, false);
        handles.queue(0, true);
        assert_eq!(handles.uses(), 2);
    });
}

#[test]
fn payload_behind_the_end_is_freed_without_a_lock() {
    ends(async || {
        let (handles, _alive) = opened().await;
        handles.queue(0, true);
        let payload = handles.payload(LONG);
        let late = handles
            .send
            .lock()
            .unwrap()
            .as_mut()
            .unwrap()
            .send_data(payload, false);
        late.unwrap_err();
        assert_eq!(handles.uses(), 2);
    });
}

#[test]
fn a_whole_reply_is_freed_without_a_lock() {
    for length in [0, 10, 2000] {
        ends(async move || {
            let (near, mut far) = pair(Version::V3_1);
            let opening = near.session.open(block(&[]), OpenOptions::default());
            let asking = within(opening).await.unwrap();
            let (_recv, reply) = within(far.incoming.accept()).await.unwrap().split();
            let (room, session) = (reply.room(), far.session.clone());
            let payload = Bytes::from_owner(Replied(vec![7; length], room, session));
            reply.send_reply_with(block(&[]), payload).unwrap();
            rest().await;
            drop(asking);
        });
    }
}

/// The payload of a reply.
struct Replied(Vec<u8>, SendRoom, Session);

impl AsRef<[u8]> for Replied {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Replied {
    fn drop(&mut self) {
        self.1.promise();
        _ = self.2.can_open();
    }
}

#[test]
fn payload_that_is_written_is_freed_without_a_lock() {
    ends(async || {
        let (handles, _alive) = opened().await;
        handles.queue(5000, true);
        rest().await;
        assert_eq!(handles.uses(), 1);
    });
}

#[test]
fn payload_of_a_stream_that_is_reset_is_freed_without_a_lock() {
    // The machine has it, or the driver has not seen it yet.
    for waits in [true, false] {
        ends(async move || {
            let (handles, _alive) = opened().await;
            handles.queue(LONG, false);
            handles.queue(LONG, false);
            if waits {
                rest().await;
            }
            let recv = handles.recv.lock().unwrap().take().unwrap();
            recv.reset(RstStatus::CANCEL);
            rest().await;
            assert_eq!(handles.uses(), 2);
        });
    }
}

#[test]
fn payload_of_a_stream_that_the_peer_resets_is_freed_without_a_lock() {
    ends(async || {
        let (near, mut far) = pair(Version::V3_1);
        let (handles, theirs) = accepted(&near, &mut far).await;
        handles.queue(LONG, false);
        rest().await;
        theirs.reset(RstStatus::CANCEL);
        rest().await;
        assert_eq!(handles.uses(), 1);
        // No driver has seen this.
        let payload = handles.payload(LONG);
        let late = handles
            .send
            .lock()
            .unwrap()
            .as_mut()
            .unwrap()
            .send_data(payload, false);
        late.unwrap_err();
        assert_eq!(handles.uses(), 2);
    });
}

#[test]
fn payload_of_a_dropped_handle_is_freed_without_a_lock() {
    for waits in [true, false] {
        ends(async move || {
            let (handles, _alive) = opened().await;
            handles.queue(LONG, false);
            if waits {
                rest().await;
            }
            handles.drop_halves();
            rest().await;
            assert_eq!(handles.uses(), 1);
        });
    }
}

#[test]
fn payload_of_a_session_that_ends_is_freed_without_a_lock() {
    for waits in [true, false] {
        ends(async move || {
            let (handles, _alive) = opened().await;
            if waits {
                handles.queue(LONG, false);
                rest().await;
            }
            handles.session.shutdown(Shutdown::Now);
            if !waits {
                // The machine refuses it.
                handles.queue(LONG, false);
            }
            within(handles.session.closed()).await.ok();
            rest().await;
            assert_eq!(handles.uses(), 1);
        });
    }
}

#[test]
fn payload_of_a_dropped_driver_is_freed_without_a_lock() {
    for waits in [true, false] {
        ends(async move || {
            let (near, mut far) = pair(Version::V3_1);
            let (handles, _theirs) = accepted(&near, &mut far).await;
            handles.queue(LONG, false);
            if waits {
                rest().await;
            }
            far.driver.abort();
            rest().await;
            within(handles.session.closed()).await.unwrap_err();
            assert_eq!(handles.uses(), 1);
        });
    }
}

#[test]
fn the_function_of_an_opening_is_freed_without_a_lock() {
    ends(async || {
        let (handles, _alive) = opened().await;
        handles.session.shutdown(Shutdown::Now);
        within(handles.session.closed()).await.ok();
        let captured = handles.payload(0);
        let note = move |_| drop(captured);
        let session = handles.session.clone();
        let opening = session.open_noting(block(&[]), OpenOptions::default(), note);
        within(opening).await.unwrap_err();
        assert_eq!(handles.uses(), 1);
    });
}

/// Polls with a task that nothing but the session keeps, which waits.
fn wait(handles: &Arc<Handles>, poll: impl FnOnce(&mut Context<'_>) -> bool) {
    let task = handles.task();
    assert!(poll(&mut Context::from_waker(&task)), "it has to wait");
}

/// Waits with one task after the other. Each replaces the one before, which ends.
fn replaces(handles: &Arc<Handles>, mut poll: impl FnMut(&mut Context<'_>) -> bool) {
    for _ in 0..3 {
        wait(handles, &mut poll);
    }
    assert_eq!(handles.uses(), 2);
}

/// Does not let the tasks of a test reset the stream for which others wait.
fn keep_recv(handles: &Handles) -> RecvStream {
    handles.recv.lock().unwrap().take().unwrap()
}

fn keep_send(handles: &Handles) -> SendStream {
    handles.send.lock().unwrap().take().unwrap()
}

#[test]
fn a_task_that_reads_is_replaced_without_a_lock() {
    ends(async || {
        let (handles, _alive) = opened().await;
        let mut recv = keep_recv(&handles);
        replaces(&handles, |cx| recv.poll_next(cx).is_pending());
    });
    ends(async || {
        let (handles, _alive) = opened().await;
        let mut recv = keep_recv(&handles);
        replaces(&handles, |cx| {
            pin!(recv.next_headers()).poll(cx).is_pending()
        });
    });
    ends(async || {
        let (near, far) = pair(Version::V3_1);
        let opening = near.session.open(block(&[]), OpenOptions::default());
        let halves = within(opening).await.unwrap().split();
        let handles = Handles::new(&near.session, None, halves);
        let mut recv = keep_recv(&handles);
        replaces(&handles, |cx| recv.poll_response_headers(cx).is_pending());
        drop(far);
    });
}

#[test]
fn a_task_that_writes_is_replaced_without_a_lock() {
    type Wait = fn(&mut SendStream, &mut Context<'_>) -> bool;
    let waits: [Wait; 6] = [
        |send, cx| send.poll_ready(cx).is_pending(),
        |send, cx| send.poll_piece(cx, 0, false).is_pending(),
        |send, cx| AsyncWrite::poll_write(Pin::new(send), cx, b"1").is_pending(),
        |send, cx| AsyncWrite::poll_flush(Pin::new(send), cx).is_pending(),
        |send, cx| pin!(send.written()).poll(cx).is_pending(),
        |send, cx| send.poll_closed(cx).is_pending(),
    ];
    for poll in waits {
        ends(async move || {
            let (handles, _alive) = opened().await;
            let (_recv, mut send) = (keep_recv(&handles), keep_send(&handles));
            send.send_data(vec![7; LONG].into(), false).unwrap();
            replaces(&handles, |cx| poll(&mut send, cx));
        });
    }
}

/// A stream that waits for the large pieces of another stream, with one task after the other.
#[test]
fn a_task_that_waits_for_other_streams_is_freed_without_a_lock() {
    for end in 0..4 {
        ends(async move || {
            let mut config = Config::default();
            config.limits.large_send_pieces = 1 << 17;
            let (near, mut far) = pair_with(Version::V3_1, Config::default(), config);
            let mut others = Vec::new();
            for _ in 0..4 {
                let (other, theirs) = accepted(&near, &mut far).await;
                let mut send = keep_send(&other);
                send.send_data(vec![7; LONG].into(), false).unwrap();
                others.push((other, send, theirs));
            }
            let (handles, _theirs) = accepted(&near, &mut far).await;
            let recv = keep_recv(&handles);
            let mut send = keep_send(&handles);
            replaces(&handles, |cx| send.poll_piece(cx, 0, false).is_pending());
            // The cell and the list have a clone each.
            match end {
                0 => send.finish().unwrap(),
                1 => drop(send),
                2 => far.session.shutdown(Shutdown::Now),
                _ => recv.reset(RstStatus::CANCEL),
            }
            rest().await;
            drop(others);
            rest().await;
        });
    }
}

#[test]
fn a_task_that_accepts_is_replaced_without_a_lock() {
    ends(async || {
        let (near, mut far) = pair(Version::V3_1);
        let (handles, _theirs) = accepted(&near, &mut far).await;
        let incoming = &mut far.incoming;
        replaces(&handles, |cx| incoming.poll_accept(cx).is_pending());
    });
}
