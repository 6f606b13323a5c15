//! Exec and attach over WebSocket: the streams are channels, told apart by the first octet of each message.

use std::{future::pending, io, pin::pin, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::{Notify, mpsc, watch},
    time::{Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::socket::{Socket, socket};
use crate::{
    Io, Protocol, Status, Streams,
    config::after,
    server::{
        command::{Kind, Leave, Run, supervise},
        settings::Settings,
    },
    stdio::{Client, Piece, Resize, Stdin, Stdout},
};

/// Where messages go, and how long the client may take for one of them.
#[derive(Debug)]
struct Sender {
    sink: SplitSink<Socket, Message>,
    write: Duration,
}

impl Sender {
    /// Sends a message. A client that has not taken it in time is lost.
    async fn send(&mut self, message: Message) -> Result<(), Error> {
        let sent = timeout(self.write, self.sink.send(message)).await;
        sent.unwrap_or_else(|_| Err(Error::Io(io::ErrorKind::TimedOut.into())))
    }
}

type Receiver = SplitStream<Socket>;

/// Serves one session, to its end.
pub(in crate::server) async fn serve(
    upgraded: OnUpgrade,
    settings: &Settings,
    kind: Kind,
    protocol: Protocol,
    streams: Streams,
    run: Run,
) -> io::Result<()> {
    let (sink, mut receiver) = socket(upgraded, settings.max_message).await?.split();
    let write = settings.config.timeouts.write.unwrap_or(Duration::MAX);
    let mut sender = Sender { sink, write };
    let (mut inputs, stdin, resize) = Inputs::new(protocol, streams);
    let (mut outputs, stdout, stderr) = Outputs::new(streams);
    let (gone, client) = Client::new();
    let io = Io {
        stdin,
        stdout,
        stderr,
        resize,
        tty: streams.tty,
        client,
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
            // The answer to a Close frame is written while the connection is read on; nothing waits for that.
            End::Closed => _ = tokio::join!(inputs.finish(), exhaust(&mut receiver)),
            // The inputs break off.
            End::TooLong | End::Lost => drop(inputs),
        }
    };
    let serving = async {
        let client = async { left(presence.clone()).await.leave() };
        let command = supervise(run, io, kind, settings.grace, gone, client);
        let copying = async {
            let copied = tokio::select! {
                copied = outputs.copy(&mut sender, ended.notified(), settings.config.timeouts.probe) => Ok(copied?),
                end = left(presence.clone()) => Err(end),
            };
            match copied {
                Ok(()) | Err(End::Lost) => Ok(()),
                Err(End::TooLong) => close(&mut sender, CloseCode::Size).await,
                // The client hears nothing more, but that does not hold the command up.
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
            Some(outcome) => conclude(&mut sender, outcome.to_stream(protocol)).await,
            None => Ok(()),
        }
    };
    read_and_serve(reading, serving).await;
    if *presence.borrow() == Some(End::TooLong)
        && let Ok(socket) = sender.sink.reunite(receiver)
    {
        // What was not read would make the system reset the connection, and the reason could be lost.
        _ = timeout(LINGER, discard_input(socket)).await;
    }
    Ok(())
}

/// How reading the client has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client has closed the WebSocket: the end of its input, for clients that have no other.
    Closed,
    /// A message was longer than [`Server::max_message`](crate::Server::max_message).
    TooLong,
    /// The connection is gone.
    Lost,
}

impl End {
    const fn leave(self) -> Leave {
        match self {
            Self::Closed => Leave::Closed,
            Self::TooLong | Self::Lost => Leave::Lost,
        }
    }
}

/// Waits until the client is not read any more.
async fn left(mut presence: watch::Receiver<Option<End>>) -> End {
    let end = presence.wait_for(Option::is_some).await;
    end.ok().and_then(|end| *end).unwrap_or(End::Lost)
}

/// Reads and throws away.
async fn discard_input(socket: Socket) {
    let mut transport = socket.into_inner();
    let mut bytes = vec![0; PIECE];
    while let Ok(1..) = transport.read(&mut bytes).await {}
}

/// Waits for the command and the copying of its outputs, and returns the outcome, if there is anybody to tell it to.
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
            // Nobody may be reading who would see it.
            lost.notify_one();
        }
        copied
    };
    let (outcome, copied) = tokio::join!(command, copying);
    copied.map(|()| outcome)
}

/// Does both until all is served: reading and writing do not wait for each other.
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
        // What was not read would make the system reset the connection, and the outcome could be lost.
        _ = timeout(LINGER, reading).await;
    }
}

/// Reads until the client has closed or is gone.
async fn read(receiver: &mut Receiver, inputs: &mut Inputs) -> End {
    loop {
        // Text is data as well: that is how scripts send it. The library answers PINGs while reading goes on.
        match receiver.next().await {
            Some(Ok(Message::Binary(message))) => inputs.take(message).await,
            Some(Ok(Message::Text(message))) => inputs.take(message.into()).await,
            Some(Ok(Message::Close(_))) => return End::Closed,
            Some(Ok(_)) => {}
            Some(Err(Error::Capacity(_))) => return End::TooLong,
            Some(Err(_)) | None => return End::Lost,
        }
    }
}

/// Reads to the end of the connection.
async fn exhaust(receiver: &mut Receiver) {
    while let Some(Ok(_)) = receiver.next().await {}
}

/// Where the outputs of the command are read.
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

    /// Copies until they and the command have ended.
    ///
    /// A client that is held up is not read, and its end not seen: so it is sent an empty message from time to time,
    /// which fails when it is gone. Servers of Kubernetes send such messages, too, and on the same channel: some clients
    /// take all that comes on the channel of errors for an outcome. A PONG would not do: it would keep a
    /// kubectl waiting for ever which has given up its own writing, as it does when nothing is taken for a minute.
    async fn copy(
        &mut self,
        sender: &mut Sender,
        ended: impl Future<Output = ()>,
        probe: Option<Duration>,
    ) -> Result<(), Error> {
        let mut ended = pin!(ended);
        let mut ticks = probe.map(ticks);
        let lowest = self.lowest();
        loop {
            let has_outputs = self.stdout.is_some() || self.stderr.is_some();
            let message = tokio::select! {
                message = next(STDOUT, &mut self.stdout) => message,
                message = next(STDERR, &mut self.stderr) => message,
                () = tick(&mut ticks) => Some(Bytes::copy_from_slice(&[lowest])),
                () = &mut ended, if !has_outputs => return Ok(()),
            };
            if let Some(message) = message {
                sender.send(Message::Binary(message)).await?;
            }
        }
    }
}

impl Outputs {
    /// The lowest channel that the server writes to.
    const fn lowest(&self) -> u8 {
        match (&self.stdout, &self.stderr) {
            (Some(_), _) => STDOUT,
            (None, Some(_)) => STDERR,
            (None, None) => ERROR,
        }
    }

    /// Takes what comes until both have ended, and throws it away.
    async fn discard(&mut self) {
        while self.stdout.is_some() || self.stderr.is_some() {
            tokio::select! {
                _ = next(STDOUT, &mut self.stdout) => {}
                _ = next(STDERR, &mut self.stderr) => {}
            }
        }
    }
}

/// Waits for the next piece of an output; `None` at its end. Cancel safe.
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

/// The moments at which the client is looked after, the first of them after one period.
fn ticks(period: Duration) -> Interval {
    let period = period.max(SHORTEST);
    let mut ticks = interval_at(after(period), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next of them. Cancel safe.
async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => _ = ticks.tick().await,
        None => pending().await,
    }
}

/// Tells the outcome, and ends.
async fn conclude(sender: &mut Sender, outcome: String) -> Result<(), Error> {
    let mut message = BytesMut::with_capacity(1 + outcome.len());
    message.put_u8(ERROR);
    message.put_slice(outcome.as_bytes());
    sender.send(Message::Binary(message.freeze())).await?;
    close(sender, CloseCode::Normal).await
}

async fn close(sender: &mut Sender, code: CloseCode) -> Result<(), Error> {
    let close = CloseFrame {
        code,
        reason: "".into(),
    };
    sender.send(Message::Close(Some(close))).await
}

/// What the client sends.
#[derive(Debug)]
struct Inputs {
    stdin: Option<mpsc::Sender<Piece>>,
    resize: Option<mpsc::Sender<Piece>>,
    /// Whether the end of an input can be said.
    has_close: bool,
}

impl Inputs {
    fn new(protocol: Protocol, streams: Streams) -> (Self, Option<Stdin>, Option<Resize>) {
        let input = |is_wanted: bool| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            is_wanted
                .then(|| (sender, Stdin::channel(receiver)))
                .unzip()
        };
        let (to_stdin, stdin) = input(streams.stdin);
        let (to_resize, resize) = input(streams.tty);
        let inputs = Self {
            stdin: to_stdin,
            resize: to_resize,
            has_close: protocol >= Protocol::V5,
        };
        (inputs, stdin, resize.map(Resize::new))
    }

    /// Hands a message to its channel. Waits while that is full: the client is held up then.
    async fn take(&mut self, mut message: Bytes) {
        let Some(channel) = message.first().copied() else {
            return;
        };
        message.advance(1);
        let (channel, piece) = match (channel, message.first()) {
            (CLOSE, Some(&channel)) if self.has_close => (channel, Piece::End),
            (_, Some(_)) => (channel, Piece::Data(message)),
            (_, None) => return,
        };
        let place = match channel {
            STDIN => &mut self.stdin,
            RESIZE => &mut self.resize,
            _ => return,
        };
        if hand_over(place, piece).await.is_none() {
            *place = None;
        }
    }

    /// Ends both inputs, behind what is queued. Waits while a queue is full.
    async fn finish(self) {
        hand_over(&self.stdin, Piece::End).await;
        hand_over(&self.resize, Piece::End).await;
    }
}

/// Queues a piece. `None`: the input has ended with it, or the command has no use for more.
///
/// A long piece waits until the queue is empty, so that no more than one is queued, one is being read and one waits.
async fn hand_over(place: &Option<mpsc::Sender<Piece>>, piece: Piece) -> Option<()> {
    let sender = place.as_ref()?;
    let (slots, is_end) = match &piece {
        Piece::Data(bytes) if bytes.len() > PIECE => (QUEUE, false),
        Piece::Data(_) => (1, false),
        Piece::End => (1, true),
    };
    sender.reserve_many(slots).await.ok()?.next()?.send(piece);
    (!is_end).then_some(())
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// From v5 on: the channel named in the next octet has ended.
const CLOSE: u8 = 255;

/// So many messages of an input wait for the command.
const QUEUE: usize = 4;

/// How much of an output is sent at once, octets.
const PIECE: usize = 32 * 1024;

/// How much of an output waits for the client, octets.
const PIPE: usize = 64 * 1024;

/// How long the client is read after the end.
const LINGER: Duration = Duration::from_secs(1);

/// A client is not looked after more often.
const SHORTEST: Duration = Duration::from_millis(10);
