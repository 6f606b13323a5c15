//! The relay, with clients and servers over SPDY and WebSocket.

mod support;

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use spdy_kube::{
    BoxError, CommandTap, Exit, Io, Options, Passing, Relay, Server, Size, Status, Streams,
    client::{self, Client, ClientError, Remote, Transport},
};
use spdy_session::{HeaderBlock, RstStatus, Version};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use self::support::{
    ALL, PAIRS, SOON, TERMINAL,
    wires::{Connecting, Wires, in_memory, websocket_server},
};

/// Many more bytes than can be under way.
const MUCH: usize = 8 << 20;

/// A tap that records what passes, and when the session ended.
#[derive(Clone)]
struct Seen {
    input: Arc<Mutex<Vec<u8>>>,
    output: Arc<Mutex<Vec<u8>>>,
    others: Arc<Mutex<Vec<String>>>,
    /// Stops bytes that contain this.
    refused: &'static [u8],
    /// Ends the session after this time.
    limit: Duration,
    ended: mpsc::UnboundedSender<Option<Status>>,
}

impl CommandTap for Seen {
    fn passes(&self, what: Passing<'_>) -> Result<(), BoxError> {
        let other = |text: String| self.others.lock().unwrap().push(text);
        let bytes = match what {
            Passing::Stdin(bytes) => {
                self.input.lock().unwrap().extend_from_slice(bytes);
                bytes
            }
            Passing::Stdout(bytes) => {
                self.output.lock().unwrap().extend_from_slice(bytes);
                bytes
            }
            Passing::Stderr(bytes) => {
                other(format!("stderr {}", String::from_utf8_lossy(bytes)));
                bytes
            }
            Passing::StdinEnd => {
                other("end".to_owned());
                b""
            }
            Passing::Resize(size) => {
                other(format!("{}x{}", size.width, size.height));
                b""
            }
            _ => b"",
        };
        let refused = !self.refused.is_empty()
            && bytes
                .windows(self.refused.len())
                .any(|window| window == self.refused);
        match refused {
            true => Err("this is forbidden".into()),
            false => Ok(()),
        }
    }

    async fn over(&self) -> BoxError {
        sleep(self.limit).await;
        "time is over".into()
    }

    fn ended(&self, outcome: Option<&Status>) {
        _ = self.ended.send(outcome.cloned());
    }
}

/// A client, a relay and a server.
struct Chain {
    client: Wires,
    server: Wires,
    seen: Seen,
    ended: mpsc::UnboundedReceiver<Option<Status>>,
    pair: (Transport, Transport),
}

impl Chain {
    fn new(pair: (Transport, Transport)) -> Self {
        let (sender, ended) = mpsc::unbounded_channel();
        Self {
            client: Wires::default(),
            server: Wires::default(),
            seen: Seen {
                input: Arc::default(),
                output: Arc::default(),
                others: Arc::default(),
                refused: b"",
                limit: Duration::MAX,
                ended: sender,
            },
            ended,
            pair,
        }
    }

    /// Returns the connections to a relay in front of a server whose command is `run`.
    fn way<F, R>(
        &self,
        streams: Streams,
        run: F,
    ) -> impl Fn() -> Connecting + Clone + Send + use<F, R>
    where
        F: Fn(Io) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Exit, BoxError>> + Send + 'static,
    {
        let server = in_memory(&self.server, move |mut request| {
            let run = run.clone();
            async move {
                let options = Options::from_query(request.uri().query().unwrap()).unwrap();
                Server::new().exec(&mut request, options.streams, run)
            }
        });
        let relay = Relay::new(Server::new(), Client::new(server).transport(self.pair.1));
        let seen = self.seen.clone();
        in_memory(&self.client, move |mut request| {
            let (relay, seen) = (relay.clone(), seen.clone());
            async move {
                let onward = client::request(request.uri());
                relay.exec(&mut request, onward, streams, seen).await
            }
        })
    }

    async fn exec<F, R>(&self, streams: Streams, run: F) -> Remote
    where
        F: Fn(Io) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Exit, BoxError>> + Send + 'static,
    {
        let client = Client::new(self.way(streams, run)).transport(self.pair.0);
        let asked = client.exec(request(streams), streams);
        timeout(SOON, asked).await.expect("it begins").unwrap()
    }

    /// Waits until the relay reports the end to the tap, which happens once.
    async fn ended(mut self) -> Option<Status> {
        let ended = timeout(SOON, self.ended.recv())
            .await
            .expect("the end is reported");
        // The tap is dropped after that.
        self.seen.ended = mpsc::unbounded_channel().0;
        let again = timeout(SOON, self.ended.recv()).await;
        assert_eq!(
            again.expect("the tap is dropped"),
            None,
            "the end is reported once"
        );
        ended.unwrap()
    }
}

fn request(streams: Streams) -> Request<()> {
    let mut options = Options::default();
    options.command = vec!["x".to_owned()];
    options.streams = streams;
    let uri = format!("http://pod/exec?{}", options.to_query());
    client::request(&uri.parse().unwrap())
}

async fn outcome(remote: Remote) -> Result<Status, ClientError> {
    timeout(SOON, remote.outcome()).await.expect("it ends")
}

async fn read(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(SOON, from.read_to_end(&mut bytes)).await;
    read.expect("it ends").unwrap();
    bytes
}

/// Echoes its input, writes an error, and ends with 7.
async fn echo(mut io: Io) -> Result<Exit, BoxError> {
    let (mut stdin, mut stdout) = (io.stdin.take().unwrap(), io.stdout.take().unwrap());
    tokio::io::copy(&mut stdin, &mut stdout).await?;
    drop(stdout);
    io.stderr.take().unwrap().write_all(b"oops").await?;
    Ok(Exit::code(7))
}

fn pattern() -> Vec<u8> {
    (0..MUCH).map(|at| (at / 11) as u8).collect()
}

#[tokio::test]
async fn streams_and_outcome_pass_between_any_two() {
    for pair in PAIRS {
        let chain = Chain::new(pair);
        let mut remote = chain.exec(ALL, echo).await;
        let mut stdin = remote.stdin.take().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        let mut stdout = remote.stdout.take().unwrap();
        let mut first = [0; 5];
        timeout(SOON, stdout.read_exact(&mut first))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&first, b"hello", "before the end of the input");
        stdin.write_all(b" again").await.unwrap();
        stdin.shutdown().await.unwrap();
        assert_eq!(read(&mut stdout).await, b" again");
        assert_eq!(read(remote.stderr.as_mut().unwrap()).await, b"oops");
        let code = Status::Exit(Exit::code(7));
        assert_eq!(outcome(remote).await.unwrap(), code, "{pair:?}");
        assert_eq!(*chain.seen.input.lock().unwrap(), b"hello again");
        assert_eq!(*chain.seen.output.lock().unwrap(), b"hello again");
        assert_eq!(*chain.seen.others.lock().unwrap(), ["end", "stderr oops"]);
        assert_eq!(chain.ended().await, Some(code), "{pair:?}");
    }
}

#[tokio::test]
async fn every_outcome_passes() {
    for pair in PAIRS {
        for ends in [
            Ok(Exit::SUCCESS),
            Ok(Exit::signal(9)),
            Err("no such command"),
        ] {
            let chain = Chain::new(pair);
            let remote = chain
                .exec(ALL, move |_| ready(ends.map_err(Into::into)))
                .await;
            let expected = ends.map_or_else(
                |why| {
                    let what = "error executing command in container";
                    Status::internal(format!("{what}: {why}"))
                },
                Status::from,
            );
            assert_eq!(outcome(remote).await.unwrap(), expected, "{pair:?}");
            assert_eq!(chain.ended().await, Some(expected), "{pair:?}");
        }
    }
}

#[tokio::test]
async fn sizes_of_the_terminal_pass() {
    for pair in PAIRS {
        let chain = Chain::new(pair);
        let mut remote = chain
            .exec(TERMINAL, |mut io| async move {
                let mut resize = io.resize.take().unwrap();
                let mut stdout = io.stdout.take().unwrap();
                for _ in 0..2 {
                    let size = resize.next().await.unwrap();
                    stdout.write_all(size.to_json().as_bytes()).await?;
                }
                Ok(Exit::SUCCESS)
            })
            .await;
        let sizes = [(100, 30), (80, 24)].map(|(width, height)| Size { width, height });
        for size in sizes {
            remote.resize.as_mut().unwrap().resize(size).await.unwrap();
        }
        let told = read(remote.stdout.as_mut().unwrap()).await;
        let expected = sizes.map(Size::to_json).concat();
        assert_eq!(String::from_utf8(told).unwrap(), expected, "{pair:?}");
        assert_eq!(outcome(remote).await.unwrap(), Status::Success);
        assert_eq!(*chain.seen.others.lock().unwrap(), ["100x30", "80x24"]);
    }
}

/// Both directions are full before the other side reads, and nothing is lost.
#[tokio::test]
async fn much_passes_both_ways_though_a_reader_is_slow() {
    for pair in PAIRS {
        let chain = Chain::new(pair);
        let (go, gate) = oneshot::channel::<()>();
        let gate = Arc::new(tokio::sync::Mutex::new(Some(gate)));
        let mut remote = chain
            .exec(ALL, move |mut io| {
                let gate = Arc::clone(&gate);
                async move {
                    let mut stdin = io.stdin.take().unwrap();
                    let mut stdout = io.stdout.take().unwrap();
                    let upload = async {
                        gate.lock().await.take().unwrap().await.unwrap();
                        let mut bytes = Vec::new();
                        stdin.read_to_end(&mut bytes).await?;
                        Ok::<_, BoxError>(bytes == pattern())
                    };
                    let download = async {
                        stdout.write_all(&pattern()).await?;
                        drop(stdout);
                        Ok(())
                    };
                    let (is_whole, ()) = tokio::try_join!(upload, download)?;
                    Ok(Exit::code(if is_whole { 0 } else { 1 }))
                }
            })
            .await;
        let mut stdin = remote.stdin.take().unwrap();
        let upload = tokio::spawn(async move {
            stdin.write_all(&pattern()).await.unwrap();
            stdin.shutdown().await.unwrap();
        });
        // Long enough to fill all buffers.
        sleep(Duration::from_millis(300)).await;
        let held = chain.seen.output.lock().unwrap().len();
        assert!(held < 2 << 20, "{pair:?}: {held} bytes are under way");
        let held = chain.seen.input.lock().unwrap().len();
        assert!(held < 2 << 20, "{pair:?}: {held} bytes are under way");
        go.send(()).unwrap();
        let received = read(remote.stdout.as_mut().unwrap()).await;
        assert!(received == pattern(), "{pair:?}");
        timeout(SOON, upload).await.unwrap().unwrap();
        assert_eq!(outcome(remote).await.unwrap(), Status::Success, "{pair:?}");
        assert!(*chain.seen.input.lock().unwrap() == pattern());
    }
}

/// The bytes that were sent before arrive, and then a failure.
#[tokio::test]
async fn a_server_that_is_lost_is_a_failure() {
    for pair in PAIRS {
        let chain = Chain::new(pair);
        let mut remote = chain
            .exec(ALL, |mut io| async move {
                io.stdout.as_mut().unwrap().write_all(b"so far").await?;
                io.client.gone().await;
                Ok(Exit::SUCCESS)
            })
            .await;
        let mut stdout = remote.stdout.take().unwrap();
        let mut first = [0; 6];
        timeout(SOON, stdout.read_exact(&mut first))
            .await
            .unwrap()
            .unwrap();
        chain.server.cut();
        assert_eq!(read(&mut stdout).await, b"");
        let told = outcome(remote).await.unwrap();
        let Status::Failure { message, .. } = &told else {
            panic!("{pair:?}: {told}");
        };
        assert!(message.contains("session with the server"), "{message}");
        assert_eq!(chain.ended().await, Some(told), "{pair:?}");
    }
}

/// The command learns that its client is gone, and that its input has not ended in order.
#[tokio::test]
async fn a_client_that_is_lost_ends_the_command() {
    for pair in PAIRS {
        let chain = Chain::new(pair);
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut remote = chain
            .exec(ALL, move |mut io| {
                let tell = tell.clone();
                async move {
                    let mut input = Vec::new();
                    let end = io.stdin.take().unwrap().read_to_end(&mut input).await;
                    io.client.gone().await;
                    tell.send((input, end.is_ok()))?;
                    Ok(Exit::SUCCESS)
                }
            })
            .await;
        let mut stdin = remote.stdin.take().unwrap();
        stdin.write_all(b"half of it").await.unwrap();
        while chain.seen.input.lock().unwrap().len() < 10 {
            sleep(Duration::from_millis(1)).await;
        }
        chain.client.cut();
        let (input, has_ended) = timeout(SOON, told.recv()).await.unwrap().unwrap();
        assert!(b"half of it".starts_with(&input));
        assert!(!has_ended, "{pair:?}: the end of the input is made up");
        assert_eq!(chain.ended().await, None, "{pair:?}");
    }
}

#[tokio::test]
async fn a_tap_ends_the_session_with_a_message() {
    for pair in PAIRS {
        for limit in [Duration::MAX, Duration::from_millis(50)] {
            let mut chain = Chain::new(pair);
            chain.seen.limit = limit;
            chain.seen.refused = b"secret";
            let (tell, mut told) = mpsc::unbounded_channel();
            let mut remote = chain
                .exec(ALL, move |mut io| {
                    let tell = tell.clone();
                    async move {
                        let mut input = Vec::new();
                        let end = io.stdin.take().unwrap().read_to_end(&mut input).await;
                        tell.send((input, end.is_ok()))?;
                        Ok(Exit::SUCCESS)
                    }
                })
                .await;
            if limit == Duration::MAX {
                let stdin = remote.stdin.as_mut().unwrap();
                stdin.write_all(b"secret").await.unwrap();
            }
            let message = match limit {
                Duration::MAX => "this is forbidden",
                _ => "time is over",
            };
            let mut stdin = remote.stdin.take();
            let status = outcome(remote).await.unwrap();
            assert_eq!(status.to_string(), message, "{pair:?}");
            let command = timeout(SOON, told.recv()).await.unwrap().unwrap();
            assert_eq!(command, (vec![], false), "{pair:?}");
            drop(stdin.take());
            assert_eq!(chain.ended().await, Some(status));
        }
    }
}

#[tokio::test]
async fn a_refusal_passes_and_the_tap_is_told() {
    for pair in PAIRS {
        let chain = Chain::new(pair);
        let status = Status::not_found("pods \"x\" not found");
        let refusing = in_memory(&chain.server, |_| {
            ready(Status::not_found("pods \"x\" not found").into_response())
        });
        let relay = Relay::new(Server::new(), Client::new(refusing).transport(pair.1));
        let seen = chain.seen.clone();
        let way = in_memory(&chain.client, move |mut request| {
            let (relay, seen) = (relay.clone(), seen.clone());
            async move {
                let onward = client::request(request.uri());
                relay.attach(&mut request, onward, ALL, seen).await
            }
        });
        let client = Client::new(way).transport(pair.0);
        let refused = client.attach(request(ALL), ALL).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(status.clone()), "{pair:?}");
        let code = refused.http_status().map(|code| code.as_u16());
        assert_eq!(code, Some(404), "{pair:?}");
        drop(client);
        assert_eq!(chain.ended().await, Some(status));
    }
}

type Messages = WebSocketStream<DuplexStream>;

/// A client over v4 of WebSocket.
async fn v4(way: impl Fn() -> Connecting) -> Messages {
    let uri = "ws://pod/exec?command=x&stdin=true&stdout=true&stderr=true";
    let mut request = uri.into_client_request().unwrap();
    let name = HeaderValue::from_static("v4.channel.k8s.io");
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    let Ok(transport) = way().into_inner();
    client_async(request, transport.into_inner())
        .await
        .unwrap()
        .0
}

#[tokio::test]
async fn a_client_over_v4_ends_its_input_by_closing() {
    for pair in &PAIRS[..2] {
        let chain = Chain::new(*pair);
        let (tell, mut told) = mpsc::unbounded_channel();
        let way = chain.way(ALL, move |mut io| {
            let tell = tell.clone();
            async move {
                let mut stdin = io.stdin.take().unwrap();
                let mut first = [0; 3];
                stdin.read_exact(&mut first).await?;
                io.stdout.as_mut().unwrap().write_all(&first).await?;
                let mut rest = Vec::new();
                stdin.read_to_end(&mut rest).await?;
                tell.send(rest)?;
                Ok(Exit::SUCCESS)
            }
        });
        let mut socket = v4(way).await;
        socket.send(Message::binary(&b"\0abc"[..])).await.unwrap();
        let mut output = Vec::new();
        while output.len() < 3 {
            let message = timeout(SOON, socket.next()).await.unwrap().unwrap();
            output.extend_from_slice(&message.unwrap().into_data()[1..]);
        }
        assert_eq!(output, b"abc");
        socket.send(Message::binary(&b"\0def"[..])).await.unwrap();
        socket.close(None).await.unwrap();
        let rest = timeout(SOON, told.recv()).await.unwrap();
        assert_eq!(rest, Some(b"def".to_vec()));
    }
}

/// Otherwise the command would wait for ever, or take something else for the end of its input.
#[tokio::test]
async fn a_server_over_v4_cannot_be_told_the_end() {
    async fn talk(mut socket: WebSocketStream<TokioIo<Upgraded>>) {
        while let Some(Ok(_)) = socket.next().await {}
    }
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let chain = Chain::new((transport, Transport::WebSocket));
        let server = Client::new(websocket_server(&chain.server, "v4.channel.k8s.io", talk))
            .transport(Transport::WebSocket);
        let relay = Relay::new(Server::new(), server);
        let seen = chain.seen.clone();
        let way = in_memory(&chain.client, move |mut request| {
            let (relay, seen) = (relay.clone(), seen.clone());
            async move {
                let onward = client::request(request.uri());
                relay.exec(&mut request, onward, ALL, seen).await
            }
        });
        let client = Client::new(way).transport(transport);
        let mut remote = client.exec(request(ALL), ALL).await.unwrap();
        remote.stdin.as_mut().unwrap().shutdown().await.unwrap();
        let mut stdin = remote.stdin.take();
        let status = outcome(remote).await.unwrap();
        assert!(status.to_string().contains("v4"), "{status}");
        drop(stdin.take());
        drop(client);
        assert_eq!(chain.ended().await, Some(status));
    }
}

/// A server does this if its session was idle for too long.
#[tokio::test]
async fn a_server_that_resets_all_streams_has_not_succeeded() {
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let chain = Chain::new((transport, Transport::Spdy));
        let server = in_memory(&chain.server, |mut request| async move {
            let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
            let name = HeaderValue::from_static("v4.channel.k8s.io");
            let headers = response.headers_mut();
            headers.insert("x-stream-protocol-version", name);
            tokio::spawn(async move {
                let transport = upgraded.await.unwrap();
                let (session, mut incoming, driver) =
                    spdy_session::server(transport, Version::V3_1, spdy_kube::config());
                tokio::spawn(driver);
                let mut streams = Vec::new();
                while streams.len() < 4 {
                    let stream = incoming.accept().await.unwrap();
                    streams.push(stream.send_reply(HeaderBlock::new()).unwrap());
                }
                // A reset would drop a reply that is not written.
                session.ping().await.unwrap();
                for stream in streams {
                    stream.split().1.reset(RstStatus::CANCEL);
                }
                while incoming.accept().await.is_some() {}
            });
            response
        });
        let relay = Relay::new(
            Server::new(),
            Client::new(server).transport(Transport::Spdy),
        );
        let way = in_memory(&chain.client, move |mut request| {
            let relay = relay.clone();
            async move {
                let onward = client::request(request.uri());
                relay.exec(&mut request, onward, ALL, ()).await
            }
        });
        let client = Client::new(way).transport(transport);
        let remote = client.exec(request(ALL), ALL).await.unwrap();
        let status = outcome(remote).await.unwrap();
        assert!(matches!(status, Status::Failure { .. }), "{status}");
    }
}

/// A query that the server would read differently is not passed on.
#[tokio::test]
async fn both_sides_have_the_same_streams() {
    let chain = Chain::new((Transport::Spdy, Transport::Spdy));
    let client = Client::new(chain.way(TERMINAL, echo)).transport(Transport::Spdy);
    let refused = client.exec(request(ALL), ALL).await.unwrap_err();
    assert_eq!(refused.http_status().map(|code| code.as_u16()), Some(500));
}
