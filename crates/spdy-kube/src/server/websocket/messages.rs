//! The two directions of a WebSocket whose messages carry channels.

use std::{future::pending, io, time::Duration};

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncReadExt,
    sync::watch,
    time::{Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::{
    config::after,
    server::{
        command::Leave,
        heard::{Client, Heard},
        session::Session,
        settings::Settings,
    },
    websocket::{Encoding, PIECE, Subprotocol, Tally, WebSocketCount, socket},
};

pub(super) type Socket = WebSocketStream<Heard<TokioIo<Upgraded>>>;

/// Waits for the transport. `session` hears every byte of the client.
pub(super) async fn begin(
    upgraded: OnUpgrade,
    settings: &Settings,
    session: &Session,
) -> io::Result<Socket> {
    let transport = TokioIo::new(upgraded.await.map_err(io::Error::other)?);
    let client = Client::over_websocket(session, &settings.tally);
    let transport = Heard::new(transport, client);
    Ok(socket(transport, Role::Server, settings.max_message).await)
}

/// Waits for the transport, and returns its two directions.
pub(super) async fn split(
    upgraded: OnUpgrade,
    settings: &Settings,
    subprotocol: Subprotocol,
) -> io::Result<(Sender, Receiver)> {
    // The client answers the PINGs of this side, so the session hears messages and not bytes.
    let socket = begin(upgraded, settings, &Session::default()).await?;
    let (sink, stream) = socket.split();
    let encoding = subprotocol.encoding();
    let write = settings.config.timeouts.write.unwrap_or(Duration::MAX);
    let sender = Sender {
        sink,
        encoding,
        write,
        tally: settings.tally.clone(),
    };
    let receiver = Receiver {
        stream,
        encoding,
        tally: settings.tally.clone(),
        session: settings.session.clone(),
    };
    Ok((sender, receiver))
}

/// Sends messages. `write` limits how long the client may take for each.
#[derive(Debug)]
pub(super) struct Sender {
    sink: SplitSink<Socket, Message>,
    encoding: Encoding,
    write: Duration,
    tally: Tally,
}

impl Sender {
    /// Sends a message, whose first byte is its channel.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<(), Error> {
        self.put(self.encoding.encode(message)).await?;
        self.tally.add(WebSocketCount::MessagesSent, 1);
        Ok(())
    }

    /// Sends a PING. The client need not answer, but sending fails if the client is gone.
    pub(super) async fn ping(&mut self) -> Result<(), Error> {
        self.put(Message::Ping(Bytes::new())).await
    }

    /// Sends a Close frame with a status code. Nothing more is sent after it.
    pub(super) async fn close(&mut self, code: CloseCode) -> Result<(), Error> {
        let close = CloseFrame {
            code,
            reason: "".into(),
        };
        self.put(Message::Close(Some(close))).await
    }

    /// Sends a Close frame that says why the client is refused. It may have much to read before.
    pub(super) async fn refuse(&mut self, code: CloseCode) -> Result<(), Error> {
        self.write = self.write.min(READ);
        self.close(code).await
    }

    /// Sends a message. A client that does not take it in time counts as lost.
    async fn put(&mut self, message: Message) -> Result<(), Error> {
        let sent = timeout(self.write, self.sink.send(message)).await;
        sent.unwrap_or_else(|_| {
            self.tally.add(WebSocketCount::TimedOut, 1);
            Err(Error::Io(io::ErrorKind::TimedOut.into()))
        })
    }
}

/// Receives messages.
#[derive(Debug)]
pub(super) struct Receiver {
    stream: SplitStream<Socket>,
    encoding: Encoding,
    tally: Tally,
    session: Session,
}

impl Receiver {
    /// Waits for the next message with a channel, which is its first byte, or for the end.
    /// Meanwhile the library answers PINGs. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Bytes, End> {
        let next = self.next_message().await;
        match &next {
            Ok(_) => self.tally.add(WebSocketCount::MessagesReceived, 1),
            Err(End::Refused(_)) => self.tally.add(WebSocketCount::Refused, 1),
            Err(End::Closed | End::Lost) => {}
        }
        next
    }

    async fn next_message(&mut self) -> Result<Bytes, End> {
        loop {
            let next = self.stream.next().await;
            if !matches!(next, Some(Ok(Message::Pong(_)))) {
                self.session.heard();
            }
            // Text counts as data too, because scripts send it.
            let message = match next {
                Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => message.into_data(),
                Some(Ok(Message::Close(frame))) => return Err(End::of_close(frame.as_ref())),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(End::of(&error)),
                None => return Err(End::Lost),
            };
            let message = self.encoding.decode(message).map_err(|malformed| {
                tracing::debug!(target: "spdy", %malformed, "client of a WebSocket is refused");
                End::Refused(CloseCode::Invalid)
            })?;
            if !message.is_empty() {
                return Ok(message);
            }
        }
    }

    /// Reads to the end of the connection. The answer to a Close frame is written meanwhile.
    pub(super) async fn exhaust(&mut self) {
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}

/// How reading from the client has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client has closed the WebSocket. For clients that cannot express it otherwise, this is
    /// the end of their inputs.
    Closed,
    /// A message was invalid, for example longer than
    /// [`Server::max_message`](crate::Server::max_message). The client gets this code.
    Refused(CloseCode),
    /// The connection is gone, or the client has closed it because of its own failure.
    Lost,
}

impl End {
    /// Returns the end for a Close frame. A client that closes because of a failure, perhaps in the
    /// middle of a message, has not ended its inputs.
    fn of_close(frame: Option<&CloseFrame>) -> Self {
        match frame.map(|frame| frame.code) {
            None | Some(CloseCode::Normal | CloseCode::Away | CloseCode::Status) => Self::Closed,
            Some(_) => Self::Lost,
        }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::Refused(CloseCode::Size),
            Error::Utf8(_) => Self::Refused(CloseCode::Invalid),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Lost,
            Error::Protocol(_) => Self::Refused(CloseCode::Protocol),
            _ => Self::Lost,
        }
    }

    pub(super) const fn leave(self) -> Leave {
        match self {
            Self::Closed => Leave::Closed,
            Self::Refused(_) | Self::Lost => Leave::Lost,
        }
    }
}

/// How reading has ended, once it has.
pub(super) type Presence = watch::Receiver<Option<End>>;

/// Waits until the client is not read any more.
pub(super) async fn left(mut presence: Presence) -> End {
    let end = presence.wait_for(Option::is_some).await;
    end.ok().and_then(|end| *end).unwrap_or(End::Lost)
}

/// Reads the transport of a refused client for a while. Otherwise the system would reset the
/// connection, and the client might not receive the reason.
pub(super) async fn linger(sender: Sender, receiver: Receiver) {
    let Ok(socket) = sender.sink.reunite(receiver.stream) else {
        return;
    };
    let mut transport = socket.into_inner();
    let discard = async {
        let mut bytes = vec![0; PIECE];
        while let Ok(1..) = transport.read(&mut bytes).await {}
    };
    _ = timeout(LINGER, discard).await;
}

/// The times at which the client is probed. The first one is after one period.
#[derive(Debug)]
pub(super) struct Ticks(Option<Interval>);

impl Ticks {
    /// Creates the ticks; `None` means never.
    pub(super) fn new(period: Option<Duration>) -> Self {
        Self(period.map(|period| {
            let period = period.max(SHORTEST);
            let mut ticks = interval_at(after(period), period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Waits for the next tick. Cancel safe.
    pub(super) async fn tick(&mut self) {
        match &mut self.0 {
            Some(ticks) => _ = ticks.tick().await,
            None => pending().await,
        }
    }
}

/// The shortest period of probes.
const SHORTEST: Duration = Duration::from_millis(10);

/// How long the client is read after the end.
const LINGER: Duration = Duration::from_secs(1);

/// How long a client may take to read the last message, with everything before it.
pub(super) const READ: Duration = Duration::from_secs(30);
