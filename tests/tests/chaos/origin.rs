//! An origin that does everything wrong that servers do: it takes connections late or never,
//! refuses them, says nothing, closes them after some requests, at some moment or in mid-answer,
//! freezes, and answers slowly or not at all.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::Version;
use spdy_tower::{Builder, Protocol, session::Config, upgrade};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex},
    sync::Notify,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use super::{
    books::{Books, Counted},
    dice::Dice,
    wire::{End, Far, Graveyard, Near},
};

/// What an origin speaks.
#[derive(Clone)]
pub(crate) enum Speaks {
    /// One protocol, without TLS.
    Plain(Protocol),
    /// HTTP/1.1, and SPDY/3.1 after an upgrade.
    Upgrade,
    /// Each connection offers one of these.
    Tls(Vec<(Protocol, TlsAcceptor)>),
}

/// How often things go wrong, in a hundred connections or requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) refused: u64,
    pub(crate) late: u64,
    pub(crate) never: u64,
    pub(crate) cut: u64,
    pub(crate) frozen: u64,
    pub(crate) leaving: u64,
    pub(crate) slow: u64,
    pub(crate) unanswered: u64,
    pub(crate) poison: u64,
    pub(crate) partial: u64,
    /// Streams at once.
    pub(crate) streams: u32,
}

impl Plan {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        // Some rounds are wild, and in others few things go wrong at once.
        let most = dice.pick(&[1, 6, 15, 40]);
        let mut often = || dice.below(0..most);
        Self {
            refused: often(),
            late: often(),
            never: often(),
            cut: often(),
            frozen: often(),
            leaving: often(),
            slow: often(),
            unanswered: often() / 2,
            poison: often() / 2,
            partial: often() / 2,
            streams: 1000,
        }
    }
}

pub(crate) struct Origin {
    pub(crate) books: Books,
    speaks: Speaks,
    plan: Plan,
    connect_timeout: Duration,
    dice: Mutex<Dice>,
    /// From now on everything goes well.
    is_calm: AtomicBool,
    /// Freezes the connections that are made before it is set.
    frost: Mutex<Arc<AtomicBool>>,
    tasks: Mutex<JoinSet<()>>,
    graveyard: Graveyard,
}

impl Origin {
    pub(crate) fn new(
        speaks: Speaks,
        plan: Plan,
        connect_timeout: Duration,
        dice: Dice,
    ) -> Arc<Self> {
        Arc::new(Self {
            books: Books::new(),
            speaks,
            plan,
            connect_timeout,
            dice: Mutex::new(dice),
            is_calm: AtomicBool::new(false),
            frost: Mutex::default(),
            tasks: Mutex::default(),
            graveyard: Graveyard::default(),
        })
    }

    pub(crate) fn calm_down(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    /// Freezes the connections that are open.
    pub(crate) fn freeze(&self) {
        let frost = std::mem::take(&mut *lock(&self.frost));
        frost.store(true, Ordering::Relaxed);
    }

    /// Ends whatever is left of it.
    pub(crate) fn end(&self) {
        lock(&self.tasks).abort_all();
        lock(&self.graveyard).clear();
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        lock(&self.dice)
    }

    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// True this number of times out of a hundred, except while everything goes well.
    fn happens(&self, percent: u64) -> bool {
        !self.is_calm() && self.dice().percent(percent)
    }

    /// Connects to it.
    pub(crate) async fn connect(self: Arc<Self>) -> io::Result<Near> {
        let counted = Counted::new(&self.books);
        let millis = u64::try_from(self.connect_timeout.as_millis()).expect("it is short");
        let delay = if self.happens(self.plan.late) {
            self.dice().millis(0..3 * millis / 2)
        } else {
            self.dice().millis(0..20)
        };
        sleep(delay).await;
        if self.happens(self.plan.never) {
            std::future::pending::<()>().await;
        }
        if self.happens(self.plan.refused) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = duplex(16 * 1024);
        let far = self.faulty(far);
        let is_reset = far.is_reset();
        let origin = Arc::clone(&self);
        lock(&self.tasks).spawn(async move { origin.serve(far).await });
        Ok(Near {
            io: near,
            is_reset,
            _counted: counted,
        })
    }

    fn faulty(&self, io: tokio::io::DuplexStream) -> Far {
        let end = if self.happens(self.plan.frozen) {
            Some(End::Freeze)
        } else if self.happens(self.plan.cut) {
            Some(self.dice().pick(&[End::Close, End::Reset]))
        } else {
            None
        };
        let mut dice = self.dice();
        let (bytes, moment) = match end {
            None => (usize::MAX, Duration::from_secs(1_000_000)),
            // Mute, in the middle of a head, or of a body.
            Some(_) if dice.percent(50) => {
                let most = dice.pick(&[1, 200, 20_000]);
                (dice.below(0..most) as usize, Duration::from_secs(1_000_000))
            }
            // While it rests, or at any other moment.
            Some(_) => (usize::MAX, dice.millis(0..3000)),
        };
        drop(dice);
        let end = end.unwrap_or(End::Close);
        let frost = Arc::clone(&lock(&self.frost));
        Far::new(io, end, bytes, sleep(moment), &frost, &self.graveyard)
    }

    async fn serve(self: Arc<Self>, io: Far) {
        let leaves_after = if self.happens(self.plan.leaving) {
            self.dice().below(1..10) as usize
        } else {
            usize::MAX
        };
        let connection = Arc::new(Connection {
            is_sound: io.is_sound(),
            requests_left: AtomicUsize::new(leaves_after),
            leave: Notify::new(),
            stop: Notify::new(),
        });
        let stop = Arc::clone(&connection);
        tokio::select! {
                biased;
            () = self.speak(io, connection) => {}
            () = stop.stop.notified() => stop.is_sound.store(false, Ordering::Relaxed),
        }
    }

    async fn speak(self: Arc<Self>, io: Far, connection: Arc<Connection>) {
        match self.speaks.clone() {
            Speaks::Plain(protocol) => self.serve_on(io, protocol, connection).await,
            Speaks::Upgrade => self.serve_upgrade(io, connection).await,
            Speaks::Tls(offers) => {
                let index = self.dice().below(0..offers.len() as u64) as usize;
                let (protocol, acceptor) = &offers[index];
                if let Ok(io) = acceptor.accept(io).await {
                    self.serve_on(io, *protocol, connection).await;
                }
            }
        }
    }

    async fn serve_on<IO>(self: Arc<Self>, io: IO, protocol: Protocol, connection: Arc<Connection>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (origin, here) = (self, Arc::clone(&connection));
        match protocol {
            Protocol::Spdy(version) => origin.serve_spdy(io, version, connection).await,
            Protocol::Http2 => {
                let service = service_fn(move |request| {
                    let (origin, here) = (Arc::clone(&origin), Arc::clone(&here));
                    async move { Ok::<_, Infallible>(origin.answer(request, &here).await) }
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
                tokio::select! {
                biased;
                    _ = &mut serving => return,
                    () = connection.leave.notified() => serving.as_mut().graceful_shutdown(),
                }
                _ = serving.await;
            }
            Protocol::Http1 => {
                let service = service_fn(move |request| {
                    let (origin, here) = (Arc::clone(&origin), Arc::clone(&here));
                    async move { Ok::<_, Infallible>(origin.answer(request, &here).await) }
                });
                // Without a timer it closes no connection that rests.
                let builder = http1::Builder::new();
                let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
                tokio::select! {
                biased;
                    _ = &mut serving => return,
                    () = connection.leave.notified() => serving.as_mut().graceful_shutdown(),
                }
                _ = serving.await;
            }
        }
    }

    async fn serve_spdy<IO>(self: Arc<Self>, io: IO, version: Version, connection: Arc<Connection>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let here = Arc::clone(&connection);
        let mut config = Config::default();
        config.limits.max_streams = self.plan.streams;
        let service = tower::service_fn(move |request| {
            let (origin, here) = (Arc::clone(&self), Arc::clone(&here));
            async move { Ok::<_, Infallible>(origin.answer(request, &here).await) }
        });
        let builder = Builder::new().config(config);
        let mut serving = pin!(builder.serve_connection(io, version, service));
        tokio::select! {
                biased;
            _ = &mut serving => return,
            () = connection.leave.notified() => serving.as_mut().graceful_shutdown(),
        }
        _ = serving.await;
    }

    async fn serve_upgrade(self: Arc<Self>, io: Far, connection: Arc<Connection>) {
        let upgraded = Arc::new(Mutex::new(None));
        let found = Arc::clone(&upgraded);
        let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
            let response = match upgrade::accept(&mut request) {
                Ok((response, upgraded)) => {
                    *lock(&found) = Some(upgraded);
                    response.map(|_| Full::default())
                }
                Err(_) => {
                    let mut response = Response::new(Full::<Bytes>::default());
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    response
                }
            };
            async move { Ok::<_, Infallible>(response) }
        });
        let serving = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        _ = serving.with_upgrades().await;
        let upgraded = lock(&upgraded).take();
        if let Some(upgraded) = upgraded
            && let Ok(io) = upgraded.await
        {
            self.serve_spdy(io, Version::V3_1, connection).await;
        }
    }

    async fn answer<B>(&self, request: Request<B>, connection: &Arc<Connection>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let Some(id) = id(&request) else {
            // The question whether it upgrades.
            let mut response =
                Response::new(Full::default().map_err(|e| match e {}).boxed_unsync());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        self.books.came(id);
        if connection.requests_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            connection.leave.notify_one();
        }
        if self.happens(self.plan.unanswered) {
            std::future::pending::<()>().await;
        }
        if self.happens(self.plan.poison) {
            connection.stop.notify_one();
            std::future::pending::<()>().await;
        }
        let body = request.into_body();
        let read = if self.happens(20) {
            None
        } else {
            read(body).await
        };
        if self.happens(self.plan.slow) {
            let pause = self.dice().millis(0..1500);
            sleep(pause).await;
        } else if self.happens(50) {
            let pause = self.dice().millis(0..30);
            sleep(pause).await;
        }
        if connection.is_sound.load(Ordering::Relaxed) {
            self.books.answered(id, &connection.is_sound);
        }
        self.response(id, read, connection)
    }

    fn response(&self, id: u64, read: Option<usize>, connection: &Arc<Connection>) -> Answer {
        let length = self.dice().below(0..3000) as usize;
        let cut = self.happens(self.plan.partial).then_some(length / 2);
        let mut response = Response::builder().header("x-length", length);
        if let Some(read) = read {
            response = response.header("x-read", read);
        }
        let whole = content(id, length);
        let body = match cut {
            None if self.dice().percent(50) => {
                Full::new(whole).map_err(|e| match e {}).boxed_unsync()
            }
            cut => pieces(whole, cut, Arc::clone(connection)).boxed_unsync(),
        };
        response.body(body).expect("its parts are valid")
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// One connection, as its requests see it.
struct Connection {
    is_sound: Arc<AtomicBool>,
    requests_left: AtomicUsize,
    /// It ends in order.
    leave: Notify,
    /// It ends at once.
    stop: Notify,
}

/// The id of a request, which is its path.
fn id<B>(request: &Request<B>) -> Option<u64> {
    request.uri().path().strip_prefix('/')?.parse().ok()
}

/// What the body of the response to a request must be.
pub(crate) fn content(id: u64, length: usize) -> Bytes {
    let first = id.to_le_bytes()[0];
    (0..length)
        .map(|index| first.wrapping_add(index.to_le_bytes()[0]))
        .collect()
}

/// How many bytes a body has, if it comes to its end.
async fn read<B: Body<Data = Bytes>>(body: B) -> Option<usize> {
    let body = body.collect().await.ok()?;
    Some(body.to_bytes().len())
}

/// A body in pieces with pauses between them, which stops half-way with its connection if it is
/// cut.
fn pieces(
    whole: Bytes,
    cut: Option<usize>,
    connection: Arc<Connection>,
) -> impl Body<Data = Bytes, Error = io::Error> + Send + 'static {
    let until = cut.unwrap_or(whole.len());
    let state = (whole.slice(..until), cut.is_some(), connection);
    let pieces = futures_util::stream::unfold(state, |(mut rest, is_cut, connection)| async move {
        sleep(Duration::from_millis(1)).await;
        if rest.is_empty() {
            if is_cut {
                connection.stop.notify_one();
                std::future::pending::<()>().await;
            }
            return None;
        }
        let piece = rest.split_to(rest.len().min(700));
        Some((Ok(Frame::data(piece)), (rest, is_cut, connection)))
    });
    StreamBody::new(pieces)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
