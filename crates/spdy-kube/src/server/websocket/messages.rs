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
    server::{command::Leave, settings::Settings},
    websocket::{Encoding, PIECE, Subprotocol, socket},
};

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Waits for the transport. A message of the client may have `max_message` bytes.
pub(super) async fn begin(upgraded: OnUpgrade, max_message: usize) -> io::Result<Socket> {
    let transport = upgraded.await.map_err(io::Error::other)?;
    Ok(socket(TokioIo::new(transport), Role::Server, max_message).await)
}

/// Waits for the transport, and returns its two directions.
pub(super) async fn split(
    upgraded: OnUpgrade,
    settings: &Settings,
    subprotocol: Subprotocol,
) -> io::Result<(Sender, Receiver)> {
    let (sink, stream) = begin(upgraded, settings.max_message).await?.split();
    let encoding = subprotocol.encoding();
    let write = settings.config.timeouts.write.unwrap_or(Duration::MAX);
    let sender = Sender {
        sink,
        encoding,
        write,
    };
    Ok((sender, Receiver { stream, encoding }))
}

/// Where messages go, and how long the client may take for one of them.
#[derive(Debug)]
pub(super) struct Sender {
    sink: SplitSink<Socket, Message>,
    encoding: Encoding,
    write: Duration,
}

impl Sender {
    /// Sends a message, whose first byte is its channel.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<(), Error> {
        self.put(self.encoding.encode(message)).await
    }

    /// Sends a PING, to which the client need not answer: it fails when the client is gone.
    pub(super) async fn ping(&mut self) -> Result<(), Error> {
        self.put(Message::Ping(Bytes::new())).await
    }

    /// Says that nothing more is sent, and why.
    pub(super) async fn close(&mut self, code: CloseCode) -> Result<(), Error> {
        let close = CloseFrame {
            code,
            reason: "".into(),
        };
        self.put(Message::Close(Some(close))).await
    }

    /// A client that has not taken a message in time is lost.
    async fn put(&mut self, message: Message) -> Result<(), Error> {
        let sent = timeout(self.write, self.sink.send(message)).await;
        sent.unwrap_or_else(|_| Err(Error::Io(io::ErrorKind::TimedOut.into())))
    }
}

/// Where messages come from.
#[derive(Debug)]
pub(super) struct Receiver {
    stream: SplitStream<Socket>,
    encoding: Encoding,
}

impl Receiver {
    /// Waits for the next message with a channel, which is its first byte, or the end. The library answers PINGs while
    /// this is waited for. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Bytes, End> {
        loop {
            // Text is data as well: that is how scripts send it.
            let message = match self.stream.next().await {
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

/// How reading the client has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client has closed the WebSocket: the end of its inputs, for clients that have no other.
    Closed,
    /// A message was wrong, such as longer than [`Server::max_message`](crate::Server::max_message): the client is told so.
    Refused(CloseCode),
    /// The connection is gone, or the client has closed it for a failure of its own.
    Lost,
}

impl End {
    /// A client that closes because something went wrong, perhaps in the middle of a message, has not ended its inputs.
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

/// Reads the transport of a client that was refused: else the system would reset the connection, and the reason could be
/// lost.
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

/// The moments at which the client is looked after, the first of them after one period.
#[derive(Debug)]
pub(super) struct Ticks(Option<Interval>);

impl Ticks {
    /// `None` for never.
    pub(super) fn new(period: Option<Duration>) -> Self {
        Self(period.map(|period| {
            let period = period.max(SHORTEST);
            let mut ticks = interval_at(after(period), period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Waits for the next of them. Cancel safe.
    pub(super) async fn tick(&mut self) {
        match &mut self.0 {
            Some(ticks) => _ = ticks.tick().await,
            None => pending().await,
        }
    }
}

/// A client is not looked after more often.
const SHORTEST: Duration = Duration::from_millis(10);

/// How long the client is read after the end.
pub(super) const LINGER: Duration = Duration::from_secs(1);
