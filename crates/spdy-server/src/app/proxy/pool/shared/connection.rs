//! One HTTP/2 connection.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tracing::debug;

use super::{
    super::{super::failure::MAX_HEAD, Channel, Failure, Heard, Listening, Target, Upload},
    Seat, Shared,
    usage::Usage,
};

/// A connection. Once the pool has forgotten it, it closes when its last request has ended.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Upload>,
    pub(super) heard: Heard,
    pub(super) usage: Arc<Usage>,
}

impl Connection {
    /// Opens a connection, and waits until the application has announced how many requests it
    /// takes. If the future is dropped, the connection closes at once.
    pub(super) async fn new(target: &Target, seat: Seat) -> Result<Self, Failure> {
        let pool = seat.pool();
        let (io, heard, cut) = super::super::connect(target, seat).await?;
        let io = io.of_http2();
        let usage = Arc::new(Usage::new(cut));
        let unmade = CutOnDrop(Some(&usage));
        let (sender, connection) = builder(target.proxy.answer_timeout)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::of(&error))?;
        let (begin, begun) = oneshot::channel();
        tokio::spawn(run(
            connection,
            heard.clone(),
            Arc::clone(&usage),
            begin,
            pool,
        ));
        let ended = || Failure::Broken("the connection ended with its runtime".into());
        begun.await.unwrap_or_else(|_| Err(ended()))?;
        unmade.not();
        Ok(Self {
            sender,
            heard,
            usage,
        })
    }

    /// Returns whether new requests go by this connection while others can be had.
    pub(super) fn is_preferred(&self) -> bool {
        !self.usage.is_spare()
    }

    /// Returns whether the connection takes no more requests, or is kept although it is not needed.
    pub(super) fn is_over(&self) -> bool {
        self.sender.is_closed() || (self.usage.is_spare() && self.usage.is_idle())
    }
}

fn builder(answer_timeout: Duration) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(ping_interval(answer_timeout))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD)
        .initial_max_send_streams(1)
        // With the default, many invalid responses would end the connection with the requests of
        // other clients.
        .max_local_error_reset_streams(None);
    builder
}

/// Returns whether an application lives, at the end of the time of a request. If it does, it has
/// answered a PING in the second half of that time.
pub(super) fn is_alive(heard: &Heard, answer_timeout: Duration) -> bool {
    heard.silence() < answer_timeout / 4 * 3
}

fn ping_interval(answer_timeout: Duration) -> Duration {
    (answer_timeout / 2).clamp(Duration::from_millis(1), PING_INTERVAL)
}

/// Cuts a connection that was not made.
struct CutOnDrop<'a>(Option<&'a Usage>);

impl CutOnDrop<'_> {
    /// The connection is made.
    fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(usage) = self.0 {
            usage.cut();
        }
    }
}

type Http2 = http2::Connection<TokioIo<Listening<Channel, Seat>>, Upload, TokioExecutor>;

/// Runs a connection, and records how many places the application allows.
async fn run(
    connection: Http2,
    heard: Heard,
    usage: Arc<Usage>,
    begin: oneshot::Sender<Result<(), Failure>>,
    pool: Weak<Shared>,
) {
    let mut connection = pin!(connection);
    let mut settings = pin!(heard.settings());
    let mut begin = Some(begin);
    let outcome = poll_fn(|cx| {
        let outcome = connection.as_mut().poll(cx);
        if outcome.is_ready() {
            return outcome;
        }
        while settings.as_mut().poll(cx).is_ready() {
            settings.set(heard.settings());
            let has_grown = usage.set_places(connection.current_max_send_streams());
            if let Some(begin) = begin.take() {
                _ = begin.send(Ok(()));
            } else if has_grown {
                notify(&pool);
            }
        }
        Poll::Pending
    })
    .await;
    if let Err(error) = &outcome {
        debug!(%error, "connection to the application failed");
    }
    if let Some(begin) = begin {
        let failure = outcome.map_or_else(
            |error| Failure::of(&error),
            |()| Failure::Broken("the application closes each connection at once".into()),
        );
        _ = begin.send(Err(failure));
    }
    notify(&pool);
}

fn notify(pool: &Weak<Shared>) {
    if let Some(pool) = pool.upgrade() {
        pool.freed.notify_one();
    }
}

/// The interval of PINGs to an application while requests are open. Without a reply within 20 s,
/// which is hyper's timeout, the requests end.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The window of one response, in bytes. The application is near, and a client that does not read
/// might have a hundred streams, each with a piece of this length here and in the session.
const STREAM_WINDOW: u32 = 10 * 1024;

/// How many bytes of one request wait to be sent: one DATA frame.
const SEND_BUFFER: usize = 16 * 1024;

/// As large as possible, because the window of each response limits it. With a smaller one,
/// responses to clients that do not read would block all others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
