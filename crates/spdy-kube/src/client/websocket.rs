//! Exec and attach over WebSocket, as the side that asks.

use std::{convert::Infallible, future::pending, pin::pin, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use spdy_tower::upgrade::{ConnectError, Upgraded, connect_to};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, duplex},
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, frame::coding::CloseCode},
    },
};

use super::{
    ClientError, Input, Output, Remote, Resizer,
    remote::{Alive, Held, Severed},
    spdy::SHORTEST,
};
use crate::{
    Streams,
    config::after,
    negotiate::{first_of, names},
    websocket::{
        CLOSE, ERROR, MAX_MESSAGE, PIECE, QUEUE, Queue, RESIZE, STDERR, STDIN, STDOUT, Subprotocol,
        queue, socket,
    },
};

/// A connection to a server.
pub(super) type Socket = WebSocketStream<Upgraded>;

/// A connection that a server has upgraded to WebSocket.
pub(super) struct Upgrade {
    response: Response<()>,
    transport: Upgraded,
    /// The answer to the key of the request.
    accept: String,
}

/// Asks for WebSocket with one of the sub-protocols. Fails only if there is no upgrade.
pub(super) async fn connect<IO>(
    transport: IO,
    request: &Request<()>,
    offer: &[Subprotocol],
) -> Result<Upgrade, ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = request.clone();
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    let key = generate_key();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    for protocol in offer {
        let name = HeaderValue::from_static(protocol.name());
        headers.append(SEC_WEBSOCKET_PROTOCOL, name);
    }
    let accept = derive_accept_key(key.as_bytes());
    let key = HeaderValue::try_from(key).expect("a key is base64");
    headers.insert(SEC_WEBSOCKET_KEY, key);
    let (response, transport) = connect_to(transport, request, is_websocket).await?;
    Ok(Upgrade {
        response,
        transport,
        accept,
    })
}

impl Upgrade {
    /// Returns the connection, and the sub-protocol that the server has chosen among those that
    /// were offered.
    pub(super) async fn agree(
        self,
        offer: &[Subprotocol],
    ) -> Result<(Socket, Subprotocol), ClientError> {
        let headers = self.response.headers();
        if names(headers, &SEC_WEBSOCKET_ACCEPT) != [self.accept] {
            return Err(ClientError::Protocol);
        }
        let named = names(headers, &SEC_WEBSOCKET_PROTOCOL);
        let chosen = first_of(&named, offer, Subprotocol::name).ok_or(ClientError::Protocol)?;
        let socket = socket(self.transport, Role::Client, MAX_MESSAGE).await;
        Ok((socket, chosen))
    }
}

/// Returns whether the headers of a response switch to WebSocket.
fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        let is_it = |found: &&str| found.eq_ignore_ascii_case(token);
        names(headers, &name).iter().any(is_it)
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// Starts the session of a command, and a task that drives it.
pub(super) fn exec(
    socket: Socket,
    subprotocol: Subprotocol,
    streams: Streams,
    ping: Option<Duration>,
) -> Remote {
    let (alive, mut held) = mpsc::channel::<Infallible>(1);
    let (outputs, stdout, stderr, error) = Outputs::new(streams, &alive);
    let severed = Severed::default();
    let (inputs, stdin, resize) = Inputs::new(subprotocol, streams, &alive, severed.clone());
    let session = run(socket, inputs, outputs, ping);
    tokio::spawn(async move {
        tokio::select! {
            () = session => {}
            // The last handle was dropped, so no more bytes can pass.
            _ = held.recv() => {}
        }
    });
    Remote {
        protocol: subprotocol.protocol(),
        stdin,
        stdout,
        stderr,
        resize,
        error,
        session: Held::WebSocket {
            _alive: alive,
            severed,
        },
    }
}

/// Reads and writes until the server has ended. Reading and writing do not wait for each other.
async fn run(socket: Socket, inputs: Inputs, outputs: Outputs, ping: Option<Duration>) {
    let (sink, stream) = socket.split();
    let writing = async {
        let Err(error) = write(sink, inputs, ping).await;
        tracing::debug!(target: "spdy", %error, "server takes no more of a WebSocket");
        // The outcome may still arrive.
        pending::<Infallible>().await
    };
    let (mut reading, mut writing) = (pin!(read(stream, outputs)), pin!(writing));
    tokio::select! {
        () = &mut reading => {}
        never = &mut writing => match never {},
    }
}

/// Where messages of the server go.
#[derive(Debug)]
struct Outputs {
    stdout: Queue,
    stderr: Queue,
    error: Queue,
    is_told: bool,
}

impl Outputs {
    fn new(streams: Streams, alive: &Alive) -> (Self, Option<Output>, Option<Output>, Output) {
        let open = || {
            let (queue, pieces) = queue();
            (queue, Output::channel(pieces, alive.clone()))
        };
        let (stdout, from_stdout) = streams.stdout.then(open).unzip();
        let (stderr, from_stderr) = streams.has_stderr().then(open).unzip();
        let (error, from_error) = open();
        let outputs = Self {
            stdout: stdout.unwrap_or_default(),
            stderr: stderr.unwrap_or_default(),
            error,
            is_told: false,
        };
        (outputs, from_stdout, from_stderr, from_error)
    }

    /// Passes a message to its channel. Waits while the channel is full, which stops the server.
    async fn take(&mut self, mut message: Bytes) {
        if !message.has_remaining() {
            return;
        }
        match (message.get_u8(), message.first()) {
            (CLOSE, Some(&STDOUT)) => self.stdout.finish().await,
            (CLOSE, Some(&STDERR)) => self.stderr.finish().await,
            (STDOUT, Some(_)) => self.stdout.data(message).await,
            (STDERR, Some(_)) => self.stderr.data(message).await,
            (ERROR, Some(_)) => {
                self.is_told = true;
                self.error.data(message).await;
            }
            _ => {}
        }
    }

    /// Ends the outputs, because the server has ended in order. An outcome that did not arrive
    /// breaks off.
    async fn finish(&mut self) {
        self.stdout.finish().await;
        self.stderr.finish().await;
        if self.is_told {
            self.error.finish().await;
        }
    }
}

/// Reads until the server has ended. If it does not end in order, the outputs break off.
async fn read(mut stream: SplitStream<Socket>, mut outputs: Outputs) {
    loop {
        let message = match stream.next().await {
            Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => message.into_data(),
            Some(Ok(Message::Close(frame))) => {
                if frame.is_none_or(|frame| frame.code == CloseCode::Normal) {
                    outputs.finish().await;
                }
                // The answer to the Close frame is written meanwhile.
                let rest = async { while let Some(Ok(_)) = stream.next().await {} };
                _ = timeout(LINGER, rest).await;
                return;
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => {
                tracing::debug!(target: "spdy", %error, "server of a WebSocket is gone");
                return;
            }
            None => return,
        };
        outputs.take(message).await;
    }
}

/// What is sent to the server.
#[derive(Debug)]
struct Inputs {
    stdin: Option<DuplexStream>,
    sizes: Option<mpsc::Receiver<Bytes>>,
    /// Whether the protocol can express the end of an input.
    has_close: bool,
    severed: Severed,
}

impl Inputs {
    fn new(
        subprotocol: Subprotocol,
        streams: Streams,
        alive: &Alive,
        severed: Severed,
    ) -> (Self, Option<Input>, Option<Resizer>) {
        let has_close = subprotocol.has_close();
        let input = || {
            let (near, far) = duplex(2 * PIECE);
            (far, Input::channel(near, has_close, alive.clone()))
        };
        let (stdin, to_stdin) = streams.stdin.then(input).unzip();
        let resizer = || {
            let (sender, receiver) = mpsc::channel(QUEUE);
            (receiver, Resizer::channel(sender, alive.clone()))
        };
        let (sizes, to_sizes) = streams.tty.then(resizer).unzip();
        let inputs = Self {
            stdin,
            sizes,
            has_close,
            severed,
        };
        (inputs, to_stdin, to_sizes)
    }

    /// Waits for the next message. Cancel safe.
    async fn next(&mut self) -> Bytes {
        loop {
            tokio::select! {
                piece = next_piece(&mut self.stdin) => match piece {
                    Some(piece) => return piece,
                    None if self.has_close && !self.severed.is_set() => return Bytes::from_static(&[CLOSE, STDIN]),
                    None => {}
                },
                size = next_size(&mut self.sizes) => return size,
            }
        }
    }
}

/// Waits for the next piece of an input. Returns `None` once, at its end. Cancel safe.
async fn next_piece(input: &mut Option<DuplexStream>) -> Option<Bytes> {
    let Some(pipe) = input else {
        return pending().await;
    };
    let mut message = BytesMut::with_capacity(1 + PIECE);
    message.put_u8(STDIN);
    match pipe.read_buf(&mut message).await {
        Ok(1..) => Some(message.freeze()),
        _ => {
            *input = None;
            None
        }
    }
}

/// Waits for the next size. Cancel safe.
async fn next_size(sizes: &mut Option<mpsc::Receiver<Bytes>>) -> Bytes {
    let size = match sizes {
        Some(sizes) => sizes.recv().await,
        None => None,
    };
    match size {
        Some(json) => {
            let mut message = BytesMut::with_capacity(1 + json.len());
            message.put_u8(RESIZE);
            message.put(json);
            message.freeze()
        }
        None => pending().await,
    }
}

/// Writes until the server accepts no more. There is no timeout, because a command may leave its
/// input unread for hours.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut inputs: Inputs,
    ping: Option<Duration>,
) -> Result<Infallible, Error> {
    let mut pings = ping.map(ticks);
    loop {
        let message = tokio::select! {
            message = inputs.next() => Message::Binary(message),
            () = tick(&mut pings) => Message::Ping(Bytes::new()),
        };
        sink.send(message).await?;
    }
}

fn ticks(period: Duration) -> Interval {
    let period = period.max(SHORTEST);
    let mut ticks = interval_at(after(period), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => _ = ticks.tick().await,
        None => pending().await,
    }
}

/// How long a server that has ended may take to close the connection.
const LINGER: Duration = Duration::from_secs(1);
