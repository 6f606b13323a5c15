//! Records commands as asciicast.

mod cast;
mod text;

use std::{
    future::pending,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{Notify, watch},
    task::JoinHandle,
};

use self::cast::Cast;
use crate::{BoxError, CommandTap, Passing, Size, Status};

/// Records what a [`Relay`](crate::Relay) passes of a command as
/// [asciicast v2](https://docs.asciinema.org/manual/asciicast/v2/), which asciinema and other
/// players show.
///
/// The recording has the outputs, the sizes of the terminal, if wanted the input, and a marker with
/// the outcome. Bytes that are not UTF-8 are recorded as U+FFFD, unless [`exact`](Self::exact) is
/// set. Whatever a command or a client sends is escaped, so it cannot end a line of the recording
/// or begin another.
///
/// Nothing passes before it was recorded, but for up to three bytes that begin a character: they
/// are recorded with the rest of it, or at the end. So a slow writer makes the session slow. The
/// text that waits for the writer has at most 3.5 MiB, and mostly far less.
///
/// ```no_run
/// use http::{Request, Response};
/// use hyper_util::rt::TokioIo;
/// use spdy_kube::{Asciicast, Options, Relay, Server, Status, client};
/// use tokio::{fs::File, net::TcpStream};
///
/// async fn exec<B>(mut request: Request<B>, onward: Request<()>) -> Response<String> {
///     let Ok(options) = Options::from_query(onward.uri().query().unwrap_or_default()) else {
///         return Status::bad_request("no streams are asked for").into_response();
///     };
///     let file = match File::create_new("session.cast").await {
///         Ok(file) => file,
///         Err(error) => return Status::internal(error).into_response(),
///     };
///     let (tap, _written) = Asciicast::new().fail_closed(true).record(file);
///     let client = client::Client::new(|| async {
///         std::io::Result::Ok(TokioIo::new(TcpStream::connect("10.0.0.7:10250").await?))
///     });
///     let relay = Relay::new(Server::new(), client);
///     relay.exec(&mut request, onward, options.streams, tap).await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Asciicast {
    size: Size,
    title: Option<String>,
    has_input: bool,
    is_closed: bool,
    is_exact: bool,
}

impl Asciicast {
    /// Creates a recorder of outputs and sizes, for a terminal of 80 columns and 24 rows unless the
    /// client sends another size at the start.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: SIZE,
            title: None,
            has_input: false,
            is_closed: false,
            is_exact: false,
        }
    }

    /// Sets the size of a terminal whose client sends none at the start.
    #[must_use]
    pub const fn size(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// Sets the title of the recording.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets whether the input is recorded. It contains passwords that are not shown when they are
    /// typed.
    #[must_use]
    pub const fn input(mut self, is_recorded: bool) -> Self {
        self.has_input = is_recorded;
        self
    }

    /// Sets whether the outputs, and the input if it is recorded, can be rebuilt from the
    /// recording, byte for byte. It is meant for sessions without a terminal, such as those of
    /// `kubectl cp`. The default is `false`.
    ///
    /// With `true`, a piece that is not UTF-8, or begins with control characters, becomes an event
    /// of the code `b` if it was output, and `B` if it was input, with its bytes in base64, behind
    /// a marker if it was output and the output before it was text. Such an event is a third longer
    /// than its bytes, which as text would be up to six times as long. An event of the code `s`
    /// stands before outputs of another stream than those before it, with `stderr` or `stdout`.
    /// Players pass over events of these codes. The head has `exact`, which is `true`.
    #[must_use]
    pub const fn exact(mut self, is_exact: bool) -> Self {
        self.is_exact = is_exact;
        self
    }

    /// Sets what happens when the writer fails, for example because a disk is full. With `true` the
    /// session ends, and the client gets a failure with the error of the writer. With `false`,
    /// which is the default, the session goes on without a recording.
    #[must_use]
    pub const fn fail_closed(mut self, is_closed: bool) -> Self {
        self.is_closed = is_closed;
        self
    }

    /// Starts a recording. Each event is written and flushed; at the end, `to` is shut down.
    ///
    /// The handle returns when the recording is complete or has failed, which only the handle tells
    /// of the marker with the outcome. It need not be kept.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn record<W>(self, to: W) -> (Recording, JoinHandle<io::Result<()>>)
    where
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (progress, seen) = watch::channel(Progress::default());
        let is_closed = self.is_closed;
        let shared = Arc::new(Shared {
            cast: Mutex::new(Cast::new(self)),
            news: Notify::new(),
        });
        let writing = write(Arc::clone(&shared), to, progress);
        let recording = Recording {
            shared,
            progress: seen,
            is_closed,
        };
        (recording, tokio::spawn(writing))
    }
}

impl Default for Asciicast {
    fn default() -> Self {
        Self::new()
    }
}

/// A recording that [`Asciicast::record`] has started: the tap of one session. Dropping it ends the
/// recording.
#[derive(Debug)]
pub struct Recording {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    is_closed: bool,
}

/// What the tap and the writer share.
#[derive(Debug)]
struct Shared {
    cast: Mutex<Cast>,
    /// Told when there is something to write.
    news: Notify,
}

/// What the writer has done.
#[derive(Debug, Default)]
struct Progress {
    /// The number of events that are written.
    written: u64,
    failure: Option<String>,
}

impl Shared {
    fn cast(&self) -> MutexGuard<'_, Cast> {
        self.cast.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, add: impl FnOnce(&mut Cast)) {
        add(&mut self.cast());
        self.news.notify_one();
    }
}

impl Recording {
    /// Waits until the writer has failed, or has written a number of events. Cancel safe.
    async fn written(&self, events: u64) -> Result<(), BoxError> {
        let mut progress = self.progress.clone();
        let is_done =
            |progress: &Progress| progress.failure.is_some() || progress.written >= events;
        let failure = match progress.wait_for(is_done).await {
            Ok(progress) => progress.failure.clone(),
            Err(_) => Some("it panicked".to_owned()),
        };
        match failure {
            Some(why) => Err(format!("session is not recorded any more: {why}").into()),
            None => Ok(()),
        }
    }
}

impl CommandTap for Recording {
    fn passes(&self, what: Passing<'_>) -> Result<(), BoxError> {
        self.shared.add(|cast| cast.pass(what));
        Ok(())
    }

    fn settled(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        let events = self.shared.cast().events();
        async move {
            match self.written(events).await {
                Err(error) if self.is_closed => Err(error),
                _ => Ok(()),
            }
        }
    }

    async fn over(&self) -> BoxError {
        match self.written(u64::MAX).await {
            Err(error) if self.is_closed => error,
            _ => pending().await,
        }
    }

    fn ended(&self, outcome: Option<&Status>) {
        self.shared.add(|cast| cast.mark(outcome));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.shared.add(Cast::end);
    }
}

/// Writes what is recorded, until the recording has ended.
async fn write(
    shared: Arc<Shared>,
    mut to: impl AsyncWrite + Unpin,
    progress: watch::Sender<Progress>,
) -> io::Result<()> {
    loop {
        shared.news.notified().await;
        let (text, events, is_over) = shared.cast().take();
        let writing = async {
            to.write_all(&text).await?;
            to.flush().await?;
            if is_over {
                to.shutdown().await?;
            }
            io::Result::Ok(())
        };
        if let Err(error) = writing.await {
            tracing::warn!(target: "spdy", %error, "session is not recorded any more");
            shared.cast().stop();
            progress.send_modify(|progress| progress.failure = Some(error.to_string()));
            return Err(error);
        }
        progress.send_modify(|progress| progress.written = events);
        if is_over {
            return Ok(());
        }
    }
}

const SIZE: Size = Size {
    width: 80,
    height: 24,
};
