//! One exec or attach over SPDY: gathers the streams, runs the command, and reports the outcome.

use std::time::Duration;

use http::StatusCode;
use spdy_session::{
    HeaderBlock, Incoming, PendingStream, RstStatus, SendStream, Shutdown, Stream, StreamError,
    Version,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    time::{error::Elapsed, timeout},
};

use super::{
    command::{Guard, Kind, Leave, Run, supervise},
    session::Session,
    settings::Settings,
};
use crate::{
    Io, Protocol, Status, Streams,
    drive::{CLOSE, drive_noting},
    stdio::{Client, Resize, Stdin, Stdout},
    stream_type::StreamType,
};

/// Serves one session, until it ends.
pub(super) async fn serve<IO>(
    transport: IO,
    settings: &Settings,
    kind: Kind,
    protocol: Protocol,
    streams: Streams,
    run: Run,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (session, incoming, driver) =
        spdy_session::server(transport, Version::V3_1, settings.config.clone());
    let noted = settings.session.clone();
    let driver = drive_noting(driver, CLOSE, move |is_held| noted.held(is_held));
    let mut driver = Guard::spawn(driver);
    let mut gathered = Gathered::new(protocol, streams, session.clone());
    let is_complete = tokio::select! {
        is_complete = timeout(settings.gather, gathered.gather(incoming)) => {
            is_complete.map_err(|_| missing())
        }
        why = settings.session.over() => Err(why),
    };
    match is_complete {
        Ok(true) => {
            if attend(gathered, kind, settings, run).await.is_err() {
                // It would not read GOAWAY either.
                return;
            }
        }
        Ok(false) => {}
        Err(why) => {
            tracing::debug!(target: "spdy", ?kind, %why, "client has not opened its streams");
            gathered
                .give_up(settings.session.outcome(why), &settings.session)
                .await;
        }
    }
    // GOAWAY is the last frame. It ends streams that are still open.
    session.shutdown(Shutdown::Now);
    _ = driver.end().await;
}

/// Runs the command with the streams, and reports the outcome. Fails if the client does not take
/// the outcome in time.
async fn attend(
    gathered: Gathered,
    kind: Kind,
    settings: &Settings,
    run: Run,
) -> Result<(), Elapsed> {
    let protocol = gathered.protocol;
    let (mut error, io, mut outputs, gone) = gathered.into_io(settings);
    let lost = async {
        error.stream.closed().await;
        Leave::Lost
    };
    let Some(command) = supervise(run, io, kind, settings, gone, lost).await else {
        return Ok(());
    };
    let outcome = command.status.to_stream(protocol);
    let told = match command.wait {
        Some(time) => tell_in(&mut error, &mut outputs, outcome, time).await?,
        None => tell(&mut error, &mut outputs, outcome).await,
    };
    match told {
        Ok(()) => settings.session.told(),
        Err(reason) => {
            tracing::debug!(target: "spdy", error = %reason, "outcome was not told");
        }
    }
    Ok(())
}

/// Sends the outcome after the ends of the outputs, because a client may stop at the outcome, and
/// the outputs are the most important. Waits until everything is written.
async fn tell(
    error: &mut ErrorStream,
    outputs: &mut Outputs,
    outcome: String,
) -> Result<(), StreamError> {
    outputs.written(error).await?;
    error.say(outcome).await
}

/// Sends the outcome after the ends of the outputs, or when the client has not taken these for this
/// time. Clients take an error stream without an outcome for a success, so a client that has paused
/// has [`CLOSE`] for the outcome alone.
async fn tell_in(
    error: &mut ErrorStream,
    outputs: &mut Outputs,
    outcome: String,
    time: Duration,
) -> Result<Result<(), StreamError>, Elapsed> {
    if let Ok(Err(why)) = timeout(time, outputs.written(error)).await {
        return Ok(Err(why));
    }
    let told = timeout(CLOSE, error.say(outcome)).await;
    told.inspect_err(|_| tracing::debug!(target: "spdy", "client does not take the outcome"))
}

/// The sending half of the error stream.
///
/// Dropped while the session goes on, it would be reset. Clients take that for its end, and an
/// error stream that ends without an outcome for a success. So dropping this ends the session
/// first.
#[derive(Debug)]
struct ErrorStream {
    // The first field is dropped first.
    _ending: Ending,
    stream: SendStream,
}

impl ErrorStream {
    fn new(ending: Ending, stream: Stream) -> Self {
        // What the client sends on it is thrown away.
        let (_, stream) = stream.split();
        Self {
            _ending: ending,
            stream,
        }
    }

    /// Sends the outcome with FIN, and waits until it is written.
    async fn say(&mut self, outcome: String) -> Result<(), StreamError> {
        say(&mut self.stream, outcome).await
    }
}

/// Ends a session when it is dropped.
#[derive(Debug)]
struct Ending(spdy_session::Session);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.shutdown(Shutdown::Now);
    }
}

/// The streams of the client, in the order in which they arrive.
#[derive(Debug)]
struct Gathered {
    // Dropped before the error stream.
    ending: Ending,
    protocol: Protocol,
    wanted: Streams,
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Gathered {
    fn new(protocol: Protocol, wanted: Streams, session: spdy_session::Session) -> Self {
        Self {
            ending: Ending(session),
            protocol,
            wanted,
            error: None,
            stdin: None,
            stdout: None,
            stderr: None,
            resize: None,
        }
    }

    /// Accepts streams until all have arrived. Replies to each immediately, because the client
    /// waits for the reply before it opens the next one. Returns `false` if the session ended.
    async fn gather(&mut self, mut incoming: Incoming) -> bool {
        while !self.is_complete() {
            match incoming.accept().await {
                Some(stream) => self.take(stream),
                None => return false,
            }
        }
        // No one accepts further streams, so the session refuses them.
        true
    }

    fn take(&mut self, stream: PendingStream) {
        let Some(place @ None) = self.place(stream.headers()) else {
            tracing::debug!(target: "spdy", stream = %stream.id(), "stream is of no type that is wanted");
            return stream.reset(RstStatus::PROTOCOL_ERROR);
        };
        // A stream that has ended already counts as missing.
        *place = stream.send_reply(HeaderBlock::new()).ok();
    }

    /// Returns the place of a stream, or `None` if its type is unknown or was not asked for.
    fn place(&mut self, headers: &HeaderBlock) -> Option<&mut Option<Stream>> {
        let wanted = self.wanted;
        match StreamType::of(headers)? {
            StreamType::Error => Some(&mut self.error),
            StreamType::Stdin if wanted.stdin => Some(&mut self.stdin),
            StreamType::Stdout if wanted.stdout => Some(&mut self.stdout),
            StreamType::Stderr if wanted.has_stderr() => Some(&mut self.stderr),
            StreamType::Resize if self.has_resize() => Some(&mut self.resize),
            _ => None,
        }
    }

    fn is_complete(&self) -> bool {
        self.error.is_some()
            && self.stdin.is_some() == self.wanted.stdin
            && self.stdout.is_some() == self.wanted.stdout
            && self.stderr.is_some() == self.wanted.has_stderr()
            && self.resize.is_some() == self.has_resize()
    }

    fn has_resize(&self) -> bool {
        self.wanted.tty && self.protocol.has_resize()
    }

    /// Reports why nothing is run, if there is an error stream.
    async fn give_up(self, why: Status, session: &Session) {
        let Some(error) = self.error else {
            return;
        };
        let mut error = ErrorStream::new(self.ending, error);
        let text = why.to_stream(self.protocol);
        if let Ok(Ok(())) = timeout(Duration::from_secs(1), error.say(text)).await {
            session.told();
        }
    }

    /// Returns the error stream and the rest, once all have arrived.
    fn into_io(self, settings: &Settings) -> (ErrorStream, Io, Outputs, watch::Sender<bool>) {
        let error = self.error.expect("streams are complete");
        let error = ErrorStream::new(self.ending, error);
        let mut open = Vec::new();
        let stdin = self.stdin.map(|stream| {
            let (recv, mut send) = stream.split();
            if self.protocol == Protocol::V1 {
                // Clients of this version wait for it.
                _ = send.finish();
            }
            open.push(send);
            Stdin::spdy(recv).counted(&settings.session)
        });
        let resize = self.resize.map(|stream| {
            let (recv, send) = stream.split();
            open.push(send);
            Resize::new(Stdin::spdy(recv))
        });
        let (back, ended) = mpsc::unbounded_channel();
        // What the client sends on the streams of outputs is thrown away.
        let output = |stream: Stream| {
            Stdout::spdy(stream.split().1, back.clone()).counted(&settings.session)
        };
        let (gone, client) = Client::new();
        let io = Io {
            stdin,
            stdout: self.stdout.map(output),
            stderr: self.stderr.map(output),
            resize,
            tty: self.wanted.tty,
            client,
            drain: settings.drain,
        };
        (error, io, Outputs { ended, open }, gone)
    }
}

/// Returns the failure for a client that does not open its streams in time.
fn missing() -> Status {
    let message = "timed out waiting for client to create streams";
    Status::failure(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
}

/// Sends a text with FIN, and waits until it is written.
pub(super) async fn say(stream: &mut SendStream, text: String) -> Result<(), StreamError> {
    stream.send_data(text.into(), true)?;
    stream.written().await
}

/// The part of the streams that stays with this side while the command runs.
#[derive(Debug)]
struct Outputs {
    /// Outputs that the command has dropped, which finished them.
    ended: mpsc::UnboundedReceiver<SendStream>,
    /// Halves that send nothing. Dropping them resets them, so they are dropped after the outcome.
    #[expect(dead_code, reason = "kept until it is dropped")]
    open: Vec<SendStream>,
}

impl Outputs {
    /// Waits until the command has dropped all outputs, and they are written.
    async fn written(&mut self, error: &mut ErrorStream) -> Result<(), StreamError> {
        loop {
            tokio::select! {
                output = self.ended.recv() => match output {
                    Some(mut output) => _ = output.written().await,
                    None => return Ok(()),
                },
                why = error.stream.closed() => return Err(why),
            }
        }
    }
}
