//! One port-forward session: pairs of streams, each of which is a connection to a port.

mod pairs;

use std::{
    collections::HashMap,
    fmt,
    future::pending,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use spdy_session::{
    HeaderBlock, PendingStream, Received, RecvStream, RstStatus, SendStream, Session as Spdy,
    Shutdown, Stream, StreamError, Version,
};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::{self, JoinError, JoinSet},
    time::timeout,
};

use self::pairs::{Half, Key, Pair, Pairs};
use super::{
    command::Guard,
    counted::{Count, Counted},
    session::Session,
    settings::Settings,
    spdy::say,
    taken::{LEFT, Taken},
};
use crate::{
    BoxError,
    client::Forward,
    drive::{CLOSE, drive_noting},
    status::shorten,
};

/// A target of a forwarded connection.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Transport for IO {}

/// A target whose bytes are counted as those of its session.
pub(super) type Target = Counted<Box<dyn Transport>, Meter>;

/// Counts the bytes of a target.
#[derive(Debug)]
pub(super) struct Meter {
    session: Session,
    taken: Taken,
}

impl Count for Meter {
    fn read(&self, bytes: usize) {
        self.session.sent(bytes);
    }

    fn written(&self, bytes: usize) {
        self.taken.add();
        self.session.received(bytes);
    }
}

/// Connects to a port.
pub(super) type Connect = Box<dyn Fn(u16) -> Connecting + Send + Sync>;

pub(super) type Connecting =
    Pin<Box<dyn Future<Output = Result<Box<dyn Transport>, BoxError>> + Send>>;

/// Serves one session, until it ends.
pub(crate) async fn serve<IO>(transport: IO, settings: &Settings, forwarder: Forwarder)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (session, mut incoming, driver) =
        spdy_session::server(transport, Version::V3_1, settings.config.clone());
    let noted = settings.session.clone();
    let driver = drive_noting(driver, CLOSE, move |is_held| noted.held(is_held));
    let mut driver = Guard::spawn(driver);
    let mut connections = Connections::new(settings.gather, forwarder, session.clone());
    loop {
        tokio::select! {
            stream = incoming.accept() => match stream {
                Some(stream) => connections.take(stream),
                None => break,
            },
            Some(ended) = connections.tasks.join_next_with_id() => connections.ended(ended),
            (error, data) = connections.pairs.expired() => drop(tokio::spawn(give_up(error, data))),
            why = settings.session.over() => {
                settings.session.outcome(why);
                // Each connection ends, and its client gets the reason.
                while connections.tasks.join_next().await.is_some() {}
                break;
            }
        }
    }
    session.shutdown(Shutdown::Now);
    _ = driver.end().await;
    // Without its client a connection ends, unless the client has finished its input.
    let rest = async { while connections.tasks.join_next().await.is_some() {} };
    if timeout(LEFT, rest).await.is_err() {
        tracing::debug!(target: "spdy", "targets take too long, and are dropped");
    }
}

/// The connections of a session.
struct Connections {
    session: Spdy,
    forwarder: Arc<Forwarder>,
    /// The streams of connections that are not complete.
    pairs: Pairs,
    tasks: JoinSet<()>,
    /// The keys of the running connections, by their tasks.
    running: HashMap<task::Id, Key>,
}

impl Connections {
    fn new(gather: Duration, forwarder: Forwarder, session: Spdy) -> Self {
        Self {
            session,
            forwarder: Arc::new(forwarder),
            pairs: Pairs::new(gather),
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Adds a stream. If it completes a pair, starts the connection.
    fn take(&mut self, stream: PendingStream) {
        let Some((key, pair)) = pair(&mut self.pairs, stream) else {
            return;
        };
        let forwarder = Arc::clone(&self.forwarder);
        let session = self.session.clone();
        let task = self
            .tasks
            .spawn(async move { forwarder.forward(pair, &session).await });
        self.running.insert(task.id(), key);
    }

    fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let task = match ended {
            Ok((task, ())) => task,
            Err(error) => {
                tracing::warn!(target: "spdy", %error, "a forwarded connection panicked");
                error.id()
            }
        };
        if let Some(key) = self.running.remove(&task) {
            self.pairs.ended(&key);
        }
    }
}

/// Adds a stream to its pair. Returns the pair if it is complete.
fn pair(pairs: &mut Pairs, stream: PendingStream) -> Option<(Key, Pair)> {
    let Some(place) = Half::of(stream.headers(), stream.id()).filter(|half| pairs.has_place(half))
    else {
        tracing::debug!(target: "spdy", stream = %stream.id(), "stream is no half of a connection");
        stream.reset(RstStatus::PROTOCOL_ERROR);
        return None;
    };
    // The client waits for the reply before it opens the next stream.
    let stream = stream.send_reply(HeaderBlock::new()).ok()?;
    pairs.add(place, stream)
}

/// Reports that the other stream of a pair did not arrive.
async fn give_up(error: Option<Stream>, data: Option<Stream>) {
    tracing::debug!(target: "spdy", "the other stream of a connection did not come");
    if let Some(error) = error {
        let (_, mut error) = error.split();
        let told = say(&mut error, "timed out waiting for streams".to_owned());
        _ = timeout(Duration::from_secs(1), told).await;
    }
    drop(data);
}

/// Connects to the ports of a pod.
pub(super) struct Forwarder {
    /// The name of the pod in error messages. `None` means that the errors are the messages.
    pod: Option<String>,
    connect: Connect,
    session: Session,
}

impl Forwarder {
    pub(super) const fn new(pod: String, connect: Connect, session: Session) -> Self {
        Self {
            pod: Some(pod),
            connect,
            session,
        }
    }

    /// Connects over SPDY, to a server that sends the error messages.
    pub(super) fn over_spdy(forward: Forward, session: Session) -> Self {
        let forward = Arc::new(forward);
        let connect: Connect = Box::new(move |port| {
            let forward = Arc::clone(&forward);
            Box::pin(async move {
                let connection = forward.open(port).await?;
                Ok::<Box<dyn Transport>, _>(Box::new(connection))
            })
        });
        Self {
            pod: None,
            connect,
            session,
        }
    }

    /// Connects to a port. What the target takes is added to `taken`.
    pub(super) async fn connect(&self, port: u16, taken: &Taken) -> Result<Target, BoxError> {
        let target = (self.connect)(port).await?;
        let meter = Meter {
            session: self.session.clone(),
            taken: taken.clone(),
        };
        Ok(Target::new(target, meter))
    }

    /// Waits for a connection, unless the session has to end. Returns the text for the client, and
    /// whether it is that of the end. A panic is a failure: without a text the client would take it
    /// for the end of the target.
    pub(super) async fn text(
        &self,
        port: u16,
        connection: impl Future<Output = Result<(), BoxError>>,
    ) -> (String, bool) {
        let connection = AssertUnwindSafe(connection).catch_unwind();
        let (result, is_over) = tokio::select! {
            result = connection => (result.unwrap_or_else(|_| Err("it panicked".into())), false),
            why = self.session.over() => {
                let why = self.session.outcome(why);
                (Err(why.to_string().into()), true)
            }
        };
        let mut text = result.map_or_else(|why| self.failure(port, &why), |()| String::new());
        shorten(&mut text);
        (text, is_over)
    }

    /// Returns the error message for a port that cannot be connected to, or whose connection
    /// failed.
    fn failure(&self, port: u16, why: &BoxError) -> String {
        let Some(pod) = &self.pod else {
            return why.to_string();
        };
        tracing::debug!(target: "spdy", %pod, port, error = %why, "forwarding fails");
        format!("error forwarding port {port} to pod {pod}: {why}")
    }

    /// Connects, and copies until both sides have ended. The error stream is finished in every
    /// case, because the client keeps its connection open until then.
    async fn forward(&self, pair: Pair, session: &Spdy) {
        let Pair { port, error, data } = pair;
        let (_, mut error) = error.split();
        let (from, mut to) = data.split();
        let passing = self.pass(port, from, &mut to, &mut error, session);
        let (text, is_over) = self.text(port, passing).await;
        // The text is sent before the end of the data, because the client may look for it then.
        if say(&mut error, text).await.is_ok() {
            if is_over {
                self.session.told();
            }
            to.reset(RstStatus::CANCEL);
        }
    }

    async fn pass(
        &self,
        port: u16,
        from: RecvStream,
        to: &mut SendStream,
        error: &mut SendStream,
        session: &Spdy,
    ) -> Result<(), BoxError> {
        let taken = Taken::default();
        let target = tokio::select! {
            target = self.connect(port, &taken) => target?,
            _ = to.closed() => return Ok(()),
        };
        let mut from = Some(from);
        let is_done = copy(&mut from, to, error, target, &taken, session).await?;
        if let Some(from) = from.filter(|_| !is_done) {
            // What the client still sends is not taken, which it has to know.
            from.reset(RstStatus::CANCEL);
        }
        Ok(())
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("pod", &self.pod)
            .finish_non_exhaustive()
    }
}

/// Copies in both directions. Returns only errors that the client should see, and `false` if the
/// target has ended and then takes nothing.
async fn copy(
    from: &mut Option<RecvStream>,
    to: &mut SendStream,
    error: &mut SendStream,
    target: Target,
    taken: &Taken,
    session: &Spdy,
) -> Result<bool, BoxError> {
    let (mut target_from, target_to) = io::split(target);
    let mut up = pin!(upload(from, target_to, session));
    let mut is_sending = true;
    let ended = {
        let mut down = pin!(download(&mut target_from, to));
        loop {
            tokio::select! {
                up = &mut up, if is_sending => match up {
                    Upload::Done => is_sending = false,
                    Upload::Gone => return Ok(true),
                },
                down = &mut down => break down?,
            }
        }
    };
    match ended {
        // At the end of the error stream kubectl closes its connection. Others may go on.
        Download::Done => _ = say(error, String::new()).await,
        Download::Left => {
            if is_sending {
                taken.rest(unheard(up, target_from)).await;
            }
            return Ok(true);
        }
        Download::Gone => return Ok(true),
    }
    Ok(!is_sending || taken.rest(up).await.is_some())
}

/// Waits for the rest of an input whose client has left. The output is thrown away meanwhile: a
/// target may take no more before it is rid of it.
async fn unheard(up: impl Future<Output = Upload>, mut target: impl AsyncRead + Unpin) {
    let discard = async {
        _ = io::copy(&mut target, &mut io::sink()).await;
        pending::<()>().await;
    };
    tokio::select! {
        _ = up => {}
        () = discard => {}
    }
}

/// How copying to the target has ended.
#[derive(Debug)]
enum Upload {
    /// The client has finished, or the target reads no more. The target may still send.
    Done,
    /// The client has reset the connection, or is gone.
    Gone,
}

/// Copies to the target. Takes the stream when it is done with it, which throws away what the
/// client still sends.
async fn upload(
    from: &mut Option<RecvStream>,
    mut to: impl AsyncWrite + Unpin,
    session: &Spdy,
) -> Upload {
    while let Some(stream) = from {
        match stream.next().await {
            Some(Ok(Received::Data(piece))) => {
                match pass_on(piece, stream, &mut to, session).await {
                    Some(Ok(())) => {}
                    Some(Err(_)) => *from = None,
                    None => return Upload::Gone,
                }
            }
            Some(Ok(Received::Headers(_))) => {}
            Some(Err(_)) => return Upload::Gone,
            None => {
                _ = to.shutdown().await;
                *from = None;
            }
        }
    }
    Upload::Done
}

/// Writes a piece to a target. If the session ends meanwhile, writes everything that has arrived,
/// or returns `None` at once if the client has not finished its input.
async fn pass_on(
    piece: Bytes,
    from: &mut RecvStream,
    to: &mut (impl AsyncWrite + Unpin),
    session: &Spdy,
) -> Option<io::Result<()>> {
    let rest = {
        let mut taken = pin!(put(to, vec![piece]));
        tokio::select! {
            taken = &mut taken => return Some(taken),
            rest = rest(from, session) => {
                let rest = rest?;
                if let Err(error) = taken.await {
                    return Some(Err(error));
                }
                rest
            }
        }
    };
    Some(put(to, rest).await)
}

/// Writes pieces to a target.
async fn put(to: &mut (impl AsyncWrite + Unpin), pieces: Vec<Bytes>) -> io::Result<()> {
    for piece in pieces {
        to.write_all(&piece).await?;
    }
    to.flush().await
}

/// Waits for the end of the session. Returns what has arrived of an input by then, or `None` if its
/// client has not finished it.
async fn rest(from: &mut RecvStream, session: &Spdy) -> Option<Vec<Bytes>> {
    _ = session.closed().await;
    let mut pieces = Vec::new();
    while let Some(received) = from.next().await {
        if let Received::Data(piece) = received.ok()? {
            pieces.push(piece);
        }
    }
    Some(pieces)
}

/// How copying from the target has ended.
#[derive(Debug)]
enum Download {
    /// The target has finished. It may still read.
    Done,
    /// The target or the client has reset the connection.
    Gone,
    /// The session has ended. What the client has sent and finished before has arrived.
    Left,
}

impl Download {
    const fn failed(why: &StreamError) -> Self {
        match why {
            StreamError::Session(_) => Self::Left,
            _ => Self::Gone,
        }
    }
}

async fn download(
    mut from: impl AsyncRead + Unpin,
    to: &mut SendStream,
) -> Result<Download, BoxError> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            why = to.closed() => return Ok(Download::failed(&why)),
        };
        match read {
            Ok(0) => break,
            Ok(_) => {}
            // A target that closes with unread input ends with a reset. Reporting that would end
            // the client's whole session.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Download::Gone);
            }
            Err(error) => return Err(error.into()),
        }
        let sent = match to.ready().await {
            Ok(()) => to.send_data(buffer.split().freeze(), false),
            gone => gone,
        };
        if let Err(why) = sent {
            return Ok(Download::failed(&why));
        }
    }
    Ok(match finish(to).await {
        Ok(()) => Download::Done,
        Err(why) => Download::failed(&why),
    })
}

async fn finish(stream: &mut SendStream) -> Result<(), StreamError> {
    stream.finish()?;
    stream.written().await
}

/// How many bytes are read from a target at once.
pub(super) const PIECE: usize = 32 * 1024;
