//! Exec and attach over WebSocket. The streams are channels, and the first byte of each message is
//! its channel.

use std::{future::pending, io, pin::pin, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::{Notify, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::{Error, protocol::frame::coding::CloseCode};

use super::messages::{End, READ, Receiver, Sender, Ticks, left, linger, split};
use crate::{
    Io, Status, Streams,
    server::{
        command::{Kind, Run, supervise},
        settings::Settings,
    },
    stdio::{Client, Resize, Stdin, Stdout},
    websocket::{CLOSE, ERROR, PIECE, Queue, RESIZE, STDERR, STDIN, STDOUT, Subprotocol, queue},
};

/// Serves one session, until it ends.
pub(in crate::server) async fn serve(
    upgraded: OnUpgrade,
    settings: &Settings,
    kind: Kind,
    subprotocol: Subprotocol,
    streams: Streams,
    run: Run,
) -> io::Result<()> {
    let (mut sender, mut receiver) = split(upgraded, settings, subprotocol).await?;
    let (mut inputs, stdin, resize) = Inputs::new(subprotocol, streams);
    let (mut outputs, stdout, stderr) = Outputs::new(streams);
    let (gone, client) = Client::new();
    let io = Io {
        stdin: stdin.map(|stdin| stdin.counted(&settings.session)),
        stdout: stdout.map(|stdout| stdout.counted(&settings.session)),
        stderr: stderr.map(|stderr| stderr.counted(&settings.session)),
        resize,
        tty: streams.tty,
        client,
        drain: settings.drain,
    };
    let (arrived, presence) = watch::channel(None);
    let (ended, lost) = (Notify::new(), Notify::new());
    let reading = async {
        let end = tokio::select! {
            end = read(&mut receiver, &mut inputs) => end,
            () = lost.notified() => End::Lost,
        };
        arrived.send_replace(Some(end));
        match end {
            // The answer to a Close frame is written while the connection is read. The command does
            // not wait for that.
            End::Closed => _ = tokio::join!(inputs.finish(), receiver.exhaust()),
            // The inputs break off.
            End::Refused(_) | End::Lost => drop(inputs),
        }
    };
    let (limit, limited) = oneshot::channel();
    let serving = async {
        let client = async { left(presence.clone()).await.leave() };
        let command = async {
            let done = supervise(run, io, kind, settings, gone, client).await?;
            if let Some(wait) = done.wait {
                _ = limit.send(wait);
            }
            Some(done.status)
        };
        let copying = async {
            let copied = tokio::select! {
                copied = outputs.copy(&mut sender, ended.notified(), settings.config.timeouts.probe) => Ok(copied?),
                end = left(presence.clone()) => Err(end),
            };
            match copied {
                Ok(()) | Err(End::Lost) => Ok(()),
                Err(End::Refused(code)) => sender.refuse(code).await,
                // The client reads no more, but that does not stop the command.
                Err(End::Closed) => {
                    tokio::select! {
                        () = outputs.discard() => {}
                        () = ended.notified() => {}
                    }
                    Ok(())
                }
            }
        };
        match attend(command, copying, &ended, &lost).await? {
            Some(outcome) => {
                conclude(&mut sender, outcome.to_stream(subprotocol.protocol())).await?;
                settings.session.told();
                Ok(())
            }
            None => Ok(()),
        }
    };
    let serving = async {
        tokio::select! {
            served = serving => served,
            () = late(limited) => Err(Error::Io(io::ErrorKind::TimedOut.into())),
        }
    };
    read_and_serve(reading, serving).await;
    let end = *presence.borrow();
    if let Some(End::Refused(_)) = end {
        linger(sender, receiver).await;
    }
    Ok(())
}

/// Waits for the command and the copying of its outputs. Returns the outcome if a client can
/// receive it.
async fn attend(
    command: impl Future<Output = Option<Status>>,
    copying: impl Future<Output = Result<(), Error>>,
    ended: &Notify,
    lost: &Notify,
) -> Result<Option<Status>, Error> {
    let command = async {
        let outcome = command.await;
        ended.notify_one();
        outcome
    };
    let copying = async {
        let copied = copying.await;
        if copied.is_err() {
            // The side that reads might be waiting, and would not notice the loss.
            lost.notify_one();
        }
        copied
    };
    let (outcome, copied) = tokio::join!(command, copying);
    copied.map(|()| outcome)
}

/// Waits until the client has had the time that it gets for the outcome, if that is limited.
async fn late(limited: oneshot::Receiver<Duration>) {
    match limited.await {
        Ok(time) => sleep(time).await,
        Err(_) => pending().await,
    }
}

/// Reads and serves until serving is done. Reading and writing do not wait for each other.
async fn read_and_serve(
    reading: impl Future<Output = ()>,
    serving: impl Future<Output = Result<(), Error>>,
) {
    let (mut reading, mut serving) = (pin!(reading), pin!(serving));
    let mut is_reading = true;
    let told = loop {
        tokio::select! {
            () = &mut reading, if is_reading => is_reading = false,
            told = &mut serving => break told,
        }
    };
    if let Err(error) = told {
        tracing::debug!(target: "spdy", %error, "outcome was not told");
    } else if is_reading {
        // If bytes arrived later the system would reset the connection, and what the client has not
        // read yet could be lost. A client that has read everything answers or is gone.
        _ = timeout(READ, reading).await;
    }
}

/// Reads until the client has closed or is gone.
async fn read(receiver: &mut Receiver, inputs: &mut Inputs) -> End {
    loop {
        match receiver.next().await {
            Ok(message) => inputs.take(message).await,
            Err(end) => return end,
        }
    }
}

/// The outputs of the command.
#[derive(Debug)]
struct Outputs {
    stdout: Option<DuplexStream>,
    stderr: Option<DuplexStream>,
}

impl Outputs {
    fn new(streams: Streams) -> (Self, Option<Stdout>, Option<Stdout>) {
        let output = |is_wanted: bool| {
            let pipe = || {
                let (near, far) = duplex(PIPE);
                (far, Stdout::pipe(near))
            };
            is_wanted.then(pipe).unzip()
        };
        let (from_stdout, stdout) = output(streams.stdout);
        let (from_stderr, stderr) = output(streams.has_stderr());
        let outputs = Self {
            stdout: from_stdout,
            stderr: from_stderr,
        };
        (outputs, stdout, stderr)
    }

    /// Copies the outputs until they and the command have ended.
    ///
    /// The first message is empty: the servers of Kubernetes show the client in this way that it is
    /// connected. While the client is not read, this side cannot see its end. So it is sent an
    /// empty message from time to time, which fails if the client is gone.
    async fn copy(
        &mut self,
        sender: &mut Sender,
        ended: impl Future<Output = ()>,
        probe: Option<Duration>,
    ) -> Result<(), Error> {
        let mut ended = pin!(ended);
        let mut ticks = Ticks::new(probe);
        let lowest = self.lowest();
        greet(sender, lowest).await?;
        loop {
            let has_outputs = self.stdout.is_some() || self.stderr.is_some();
            let message = tokio::select! {
                message = next(STDOUT, &mut self.stdout) => message,
                message = next(STDERR, &mut self.stderr) => message,
                () = ticks.tick() => {
                    greet(sender, lowest).await?;
                    continue;
                }
                () = &mut ended, if !has_outputs => return Ok(()),
            };
            if let Some(message) = message {
                sender.send(message).await?;
            }
        }
    }

    /// Returns the lowest channel to which the server writes, except for that of the outcome.
    const fn lowest(&self) -> Option<u8> {
        match (&self.stdout, &self.stderr) {
            (Some(_), _) => Some(STDOUT),
            (None, Some(_)) => Some(STDERR),
            (None, None) => None,
        }
    }

    /// Reads both outputs to their ends, and throws them away.
    async fn discard(&mut self) {
        while self.stdout.is_some() || self.stderr.is_some() {
            tokio::select! {
                _ = next(STDOUT, &mut self.stdout) => {}
                _ = next(STDERR, &mut self.stderr) => {}
            }
        }
    }
}

/// Sends an empty message on a channel. A PONG would not do: a kubectl whose own write has timed
/// out, as it does when nothing is read for a minute, would wait for ever while PONGs arrive.
///
/// Without an output a PING has to do, because some clients take any message on the error channel
/// for an outcome.
async fn greet(sender: &mut Sender, channel: Option<u8>) -> Result<(), Error> {
    match channel {
        Some(channel) => sender.send(Bytes::copy_from_slice(&[channel])).await,
        None => sender.ping().await,
    }
}

/// Waits for the next piece of an output. Returns `None` at its end. Cancel safe.
async fn next(channel: u8, output: &mut Option<DuplexStream>) -> Option<Bytes> {
    let Some(pipe) = output else {
        return pending().await;
    };
    let mut message = BytesMut::with_capacity(1 + PIECE);
    message.put_u8(channel);
    match pipe.read_buf(&mut message).await {
        Ok(1..) => Some(message.freeze()),
        _ => {
            *output = None;
            None
        }
    }
}

/// Sends the outcome and closes. In the first version nothing is sent for success.
async fn conclude(sender: &mut Sender, outcome: String) -> Result<(), Error> {
    if !outcome.is_empty() {
        let mut message = BytesMut::with_capacity(1 + outcome.len());
        message.put_u8(ERROR);
        message.put_slice(outcome.as_bytes());
        sender.send(message.freeze()).await?;
    }
    sender.close(CloseCode::Normal).await
}

/// The channels on which the client sends.
#[derive(Debug)]
struct Inputs {
    stdin: Queue,
    resize: Queue,
    /// Whether the protocol can express the end of an input.
    has_close: bool,
}

impl Inputs {
    fn new(subprotocol: Subprotocol, streams: Streams) -> (Self, Option<Stdin>, Option<Resize>) {
        let channel = |is_wanted: bool| {
            let open = || {
                let (input, pieces) = queue();
                (input, Stdin::channel(pieces))
            };
            is_wanted.then(open).unzip()
        };
        let (to_stdin, stdin) = channel(streams.stdin);
        let (to_resize, resize) = channel(streams.tty);
        let inputs = Self {
            stdin: to_stdin.unwrap_or_default(),
            resize: to_resize.unwrap_or_default(),
            has_close: subprotocol.has_close(),
        };
        (inputs, stdin, resize.map(Resize::new))
    }

    /// Passes a message to its channel. Waits while the channel is full, which stops the client.
    async fn take(&mut self, mut message: Bytes) {
        let channel = message.get_u8();
        match message.first() {
            Some(&ended) if channel == CLOSE && self.has_close => {
                if let Some(input) = self.input(ended) {
                    input.finish().await;
                }
            }
            Some(_) => {
                if let Some(input) = self.input(channel) {
                    input.data(message).await;
                }
            }
            None => {}
        }
    }

    const fn input(&mut self, channel: u8) -> Option<&mut Queue> {
        match channel {
            STDIN => Some(&mut self.stdin),
            RESIZE => Some(&mut self.resize),
            _ => None,
        }
    }

    /// Ends both inputs, after everything that is queued. Waits while a queue is full.
    async fn finish(mut self) {
        self.stdin.finish().await;
        self.resize.finish().await;
    }
}

/// How many bytes of an output can wait for the client.
const PIPE: usize = 64 * 1024;
