//! Exec, attach and port-forward over each sub-protocol of WebSocket, with raw messages, and
//! requests that are refused.

mod support;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{Router, extract::Request, routing::any};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spdy_kube::{BoxError, Exit, Options, Ports, Server, Status};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use self::support::{SOON, exec_server, forward_server, serve};

/// The parts of a conversation that depend on the sub-protocol.
#[derive(Clone, Copy, Debug)]
struct Form {
    /// `None` if the client names no sub-protocol.
    name: Option<&'static str>,
    is_base64: bool,
    /// Whether the outcome is JSON.
    is_json: bool,
}

const COMMAND: [Form; 6] = [
    form(None, false, false),
    form(Some("channel.k8s.io"), false, false),
    form(Some("base64.channel.k8s.io"), true, false),
    form(Some("v4.channel.k8s.io"), false, true),
    form(Some("v4.base64.channel.k8s.io"), true, true),
    form(Some("v5.channel.k8s.io"), false, true),
];

const FORWARD: [Form; 4] = [
    form(None, false, false),
    form(Some("v4.channel.k8s.io"), false, false),
    form(Some("v4.base64.channel.k8s.io"), true, false),
    form(Some("v5.channel.k8s.io"), false, false),
];

const fn form(name: Option<&'static str>, is_base64: bool, is_json: bool) -> Form {
    Form {
        name,
        is_base64,
        is_json,
    }
}

/// A client that sends and receives messages.
struct Client<IO> {
    socket: WebSocketStream<IO>,
    form: Form,
}

async fn open(address: SocketAddr, path: &str, form: Form) -> Client<TcpStream> {
    let transport = TcpStream::connect(address).await.unwrap();
    Client::open(transport, path, form).await
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Client<IO> {
    async fn open(transport: IO, path: &str, form: Form) -> Self {
        let mut request = format!("ws://a{path}").into_client_request().unwrap();
        if let Some(name) = form.name {
            let name = HeaderValue::from_static(name);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
        }
        let (socket, response) = client_async(request, transport).await.unwrap();
        let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
        let chosen = chosen.map(|name| name.to_str().unwrap());
        assert_eq!(chosen, form.name, "the first one is taken");
        Self { socket, form }
    }

    async fn send(&mut self, channel: u8, payload: &[u8]) {
        let message = match self.form.is_base64 {
            true => Message::text(format!("{}{}", char::from(b'0' + channel), base64(payload))),
            false => Message::binary([&[channel], payload].concat()),
        };
        self.socket.send(message).await.unwrap();
    }

    /// Returns the channel and the payload of the next message, or how the server has closed.
    async fn next(&mut self) -> Result<(u8, Vec<u8>), CloseCode> {
        loop {
            let message = timeout(SOON, self.socket.next()).await;
            match message
                .expect("something comes soon")
                .expect("there is an end")
            {
                Ok(Message::Text(text)) if self.form.is_base64 => {
                    let bytes = text.as_bytes();
                    return Ok((bytes[0] - b'0', unbase64(&bytes[1..])));
                }
                Ok(Message::Binary(bytes)) if !self.form.is_base64 => {
                    return Ok((bytes[0], bytes[1..].to_vec()));
                }
                Ok(Message::Close(frame)) => return Err(frame.expect("there is a code").code),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns everything until the end, by channel, and how the server has closed.
    async fn read(&mut self) -> (Vec<Vec<u8>>, CloseCode) {
        let mut channels = vec![Vec::new(); 64];
        loop {
            match self.next().await {
                Ok((channel, payload)) => channels[usize::from(channel)].extend(payload),
                Err(code) => return (channels, code),
            }
        }
    }

    /// Takes the messages with port numbers, which come first.
    async fn announced(&mut self, ports: &[u16]) {
        for (place, port) in ports.iter().enumerate() {
            for channel in [2 * place, 2 * place + 1] {
                let expected = (channel as u8, port.to_le_bytes().to_vec());
                assert_eq!(self.next().await, Ok(expected));
            }
        }
    }
}

/// An implementation that is independent of the tested code.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let is_padding = place > chunk.len() as u32;
            text.push(if is_padding {
                '='
            } else {
                char::from(DIGITS[digit as usize])
            });
        }
    }
    text
}

fn unbase64(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for group in text.chunks(4) {
        let padding = group.iter().filter(|&&digit| digit == b'=').count();
        let bits = group.iter().fold(0, |bits, digit| {
            let value = DIGITS.iter().position(|found| found == digit).unwrap_or(0);
            (bits << 6) | value as u32
        });
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    bytes
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A server whose command returns five bytes of input in upper case, writes an error, and ends with
/// a code.
async fn five_bytes(code: u8) -> SocketAddr {
    exec_server(Server::new(), move |mut io| async move {
        let mut input = [0; 5];
        io.stdin.take().unwrap().read_exact(&mut input).await?;
        let mut stdout = io.stdout.take().unwrap();
        stdout.write_all(&input.to_ascii_uppercase()).await?;
        io.stderr.take().unwrap().write_all(b"oops").await?;
        Ok(Exit::code(code))
    })
    .await
}

const ALL: &str = "/exec?command=x&stdin=true&stdout=true&stderr=true";

#[tokio::test]
async fn a_command_runs_over_each_sub_protocol() {
    for form in COMMAND {
        for code in [0, 7] {
            let mut client = open(five_bytes(code).await, ALL, form).await;
            let first = client.next().await;
            assert_eq!(first, Ok((1, Vec::new())), "{form:?}: it is connected");
            client.send(0, b"he").await;
            client.send(0, b"llo").await;
            let (channels, end) = client.read().await;
            assert_eq!(
                (&*channels[1], &*channels[2]),
                (&b"HELLO"[..], &b"oops"[..])
            );
            assert_eq!(end, CloseCode::Normal);
            let status = Status::from(Exit::code(code));
            let expected = match (form.is_json, code) {
                (true, _) => status.to_json(),
                (false, 0) => String::new(),
                (false, _) => status.to_string(),
            };
            assert_eq!(String::from_utf8_lossy(&channels[3]), expected, "{form:?}");
        }
    }
}

#[tokio::test]
async fn attach_joins_over_each_sub_protocol() {
    let join = async |mut request: Request| {
        let streams = Options::from_query(request.uri().query().unwrap())
            .unwrap()
            .streams;
        Server::new().attach(&mut request, streams, |mut io| async move {
            io.stdout.take().unwrap().write_all(b"joined").await?;
            Ok(())
        })
    };
    let address = serve(Router::new().route("/attach", any(join))).await;
    for form in COMMAND {
        let mut client = open(address, "/attach?stdout=1", form).await;
        let (channels, end) = client.read().await;
        assert_eq!((&*channels[1], end), (&b"joined"[..], CloseCode::Normal));
        let outcome = Status::from_json(&channels[3]);
        assert_eq!(outcome.is_ok(), form.is_json, "{form:?}: {outcome:?}");
    }
}

/// Some clients take an empty message on the error channel for an outcome.
#[tokio::test]
async fn without_an_output_nothing_but_the_outcome_is_sent() {
    let server = Server::new().watch(Duration::from_millis(1));
    let address = exec_server(server, |_io| async {
        sleep(Duration::from_millis(100)).await;
        Ok(Exit::SUCCESS)
    })
    .await;
    for form in COMMAND {
        let mut client = open(address, "/exec?command=x&stdin=true", form).await;
        if form.is_json {
            let outcome = Status::Success.to_json().into_bytes();
            assert_eq!(client.next().await, Ok((3, outcome)), "{form:?}");
        }
        assert_eq!(client.next().await, Err(CloseCode::Normal), "{form:?}");
    }
}

/// Without stdout the first message is on stderr. A terminal has sizes in each version.
#[tokio::test]
async fn what_is_asked_for_decides_the_channels() {
    let address = exec_server(Server::new(), |mut io| async move {
        let (mut stdout, mut resize) = (io.stdout.take(), io.resize.take());
        if let (Some(stdout), Some(resize)) = (&mut stdout, &mut resize) {
            let size = resize.next().await.unwrap().to_json();
            stdout.write_all(size.as_bytes()).await?;
        }
        Ok(Exit::SUCCESS)
    })
    .await;
    for form in COMMAND {
        let mut client = open(address, "/exec?command=x&stderr=true", form).await;
        assert_eq!(client.next().await, Ok((2, Vec::new())), "{form:?}");
        let path = "/exec?command=x&stdout=true&stderr=true&tty=true";
        let mut client = open(address, path, form).await;
        client.send(4, b"{\"Width\":80,\"Height\":24}").await;
        let (channels, _) = client.read().await;
        assert_eq!(channels[1], b"{\"Width\":80,\"Height\":24}\n", "{form:?}");
    }
}

#[tokio::test]
async fn what_is_no_base64_ends_the_connection() {
    let (told, mut news) = mpsc::unbounded_channel();
    let address = exec_server(Server::new(), move |mut io| {
        let told = told.clone();
        async move {
            let mut input = Vec::new();
            let end = io.stdin.take().unwrap().read_to_end(&mut input).await;
            told.send((input, end.is_ok())).unwrap();
            Ok(Exit::SUCCESS)
        }
    })
    .await;
    let path = "/exec?command=x&stdin=true&stdout=true";
    let mut client = open(address, path, COMMAND[4]).await;
    client.send(0, b"good").await;
    client.socket.send(Message::text("0b?d=")).await.unwrap();
    let (channels, end) = client.read().await;
    assert_eq!(end, CloseCode::Invalid);
    assert!(channels[3].is_empty(), "no outcome is told");
    let told = timeout(SOON, news.recv()).await.unwrap().unwrap();
    assert_eq!(
        told,
        (b"good".to_vec(), false),
        "the end of the input is not made up"
    );
}

#[tokio::test]
async fn what_breaks_the_rules_of_websocket_ends_the_connection() {
    let address = five_bytes(0).await;
    for (frame, expected) in [
        // A frame without a mask, text that is not UTF-8, and an unknown opcode.
        (&[0x82, 1, 0][..], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),
    ] {
        let mut client = open(address, ALL, COMMAND[5]).await;
        assert_eq!(client.next().await, Ok((1, Vec::new())));
        client.socket.get_mut().write_all(frame).await.unwrap();
        assert_eq!(client.next().await, Err(CloseCode::from(expected)));
    }
}

/// A message of a channel that does not exist is ignored, in either form, and takes no memory.
#[tokio::test]
async fn channels_that_nobody_has_do_no_harm() {
    for form in COMMAND {
        let mut client = open(five_bytes(0).await, ALL, form).await;
        for channel in [1, 2, 3, 5, 9, 63] {
            client.send(channel, &[7; 100_000]).await;
        }
        client
            .socket
            .send(Message::Binary(Bytes::new()))
            .await
            .unwrap();
        client.socket.send(Message::text("/")).await.unwrap();
        client.send(0, b"hello").await;
        let (channels, end) = client.read().await;
        assert_eq!(
            (&*channels[1], end),
            (&b"HELLO"[..], CloseCode::Normal),
            "{form:?}"
        );
    }
    let target = echo().await;
    for form in FORWARD {
        let path = format!("/forward?ports={target}");
        let mut client = open(forward_server(Server::new()).await, &path, form).await;
        client.announced(&[target]).await;
        for channel in [1, 2, 3, 63] {
            client.send(channel, b"unknown").await;
        }
        client.send(0, b"known").await;
        assert_eq!(client.next().await, Ok((0, b"known".to_vec())), "{form:?}");
    }
}

/// A port that echoes what it reads, and ends when its input has ended.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    port
}

async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_port_is_forwarded_over_each_sub_protocol() {
    let (address, target) = (forward_server(Server::new()).await, echo().await);
    for form in FORWARD {
        for path in [
            format!("/forward?ports={target}"),
            format!("/forward?port={target}"),
        ] {
            let mut client = open(address, &path, form).await;
            client.announced(&[target]).await;
            for text in ["one", "two"] {
                client.send(0, text.as_bytes()).await;
                let expected = (0, text.as_bytes().to_vec());
                assert_eq!(client.next().await, Ok(expected), "{form:?}");
            }
            // Text counts too.
            if !form.is_base64 {
                client.socket.send(Message::text("\0three")).await.unwrap();
                assert_eq!(client.next().await, Ok((0, b"three".to_vec())));
            }
        }
    }
}

#[tokio::test]
async fn the_end_of_the_target_is_that_of_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = forward_server(Server::new()).await;
    for form in FORWARD {
        let mut client = open(address, &format!("/forward?ports={port}"), form).await;
        let (mut target, _) = listener.accept().await.unwrap();
        client.send(0, b"question").await;
        target.read_exact(&mut [0; 8]).await.unwrap();
        target.write_all(b"answer").await.unwrap();
        target.shutdown().await.unwrap();
        client.announced(&[port]).await;
        let (channels, end) = client.read().await;
        assert_eq!((&*channels[0], end), (&b"answer"[..], CloseCode::Normal));
        assert!(channels[1].is_empty());
        drop(client);
        // If the client is lost without a Close frame, the target's input breaks off.
        timeout(SOON, target.read_to_end(&mut Vec::new()))
            .await
            .expect("it ends")
            .ok();
    }
}

#[tokio::test]
async fn a_port_that_is_closed_is_told_beside_one_that_is_not() {
    let (address, target) = (forward_server(Server::new()).await, echo().await);
    let closed = closed_port().await;
    for form in FORWARD {
        let path = format!("/forward?ports={closed}");
        let mut client = open(address, &path, form).await;
        client.announced(&[closed]).await;
        let (channels, end) = client.read().await;
        let text = String::from_utf8_lossy(&channels[1]).into_owned();
        assert!(text.starts_with(&format!("error forwarding port {closed} to pod demo: ")));
        assert_eq!(end, CloseCode::Normal, "the last port has ended");

        let path = format!("/forward?ports={closed},{target}");
        let mut client = open(address, &path, form).await;
        client.announced(&[closed, target]).await;
        let (channel, text) = client.next().await.unwrap();
        assert_eq!(channel, 1, "{}", String::from_utf8_lossy(&text));
        client.send(2, b"still here").await;
        assert_eq!(client.next().await, Ok((2, b"still here".to_vec())));
    }
}

#[tokio::test]
async fn as_many_ports_as_there_may_be_are_forwarded_at_once() {
    let address = forward_server(Server::new()).await;
    let mut ports = Vec::new();
    for _ in 0..Ports::MAX {
        ports.push(echo().await);
    }
    let query = Ports::new(ports.clone()).unwrap().to_query();
    let contents: Vec<Vec<u8>> = (0..Ports::MAX)
        .map(|place| (0..300_000).map(|at| (at / 7 + place) as u8).collect())
        .collect();
    for form in FORWARD {
        let mut client = open(address, &format!("/forward?{query}"), form).await;
        client.announced(&ports).await;
        let mut received = vec![Vec::new(); Ports::MAX];
        for start in (0..300_000).step_by(100_000) {
            let end = start + 100_000;
            for (channel, content) in (0..).step_by(2).zip(&contents) {
                client.send(channel, &content[start..end]).await;
            }
            while received.iter().any(|got| got.len() < end) {
                let (channel, payload) = client.next().await.unwrap();
                received[usize::from(channel / 2)].extend(payload);
            }
        }
        assert!(received == contents, "{form:?}");
    }
}

/// In v5 the client can end one input, and the connection goes on.
#[tokio::test]
async fn one_input_may_end_in_v5() {
    let (address, target) = (forward_server(Server::new()).await, echo().await);
    let path = format!("/forward?ports={target}&ports={target}");
    let mut client = open(address, &path, FORWARD[3]).await;
    client.announced(&[target, target]).await;
    client.send(0, b"first").await;
    for wrong in [&[][..], &[1], &[77]] {
        client.send(255, wrong).await;
    }
    client.send(255, &[0]).await;
    client.send(0, b"too late").await;
    assert_eq!(client.next().await, Ok((0, b"first".to_vec())));
    client.send(2, b"second").await;
    assert_eq!(client.next().await, Ok((2, b"second".to_vec())));
    client.send(255, &[2]).await;
    assert_eq!(
        client.next().await,
        Err(CloseCode::Normal),
        "both targets have ended"
    );
}

/// A target in memory, and its far end.
async fn held_target(server: Server) -> (SocketAddr, mpsc::UnboundedReceiver<DuplexStream>) {
    let (made, targets) = mpsc::unbounded_channel();
    let forward = move |mut request: Request| {
        let (server, made) = (server.clone(), made.clone());
        async move {
            let connect = move |_| {
                let (near, far) = duplex(1024);
                made.send(near).unwrap();
                async move { Ok::<_, BoxError>(far) }
            };
            server.port_forward(&mut request, "demo", connect)
        }
    };
    let address = serve(Router::new().route("/forward", any(forward))).await;
    (address, targets)
}

#[tokio::test]
async fn a_client_that_closes_has_ended_all_inputs() {
    let (address, mut targets) = held_target(Server::new()).await;
    for form in FORWARD {
        let mut client = open(address, "/forward?ports=1,2", form).await;
        let (mut first, mut second) =
            (targets.recv().await.unwrap(), targets.recv().await.unwrap());
        // More than the target's pipe and its queue hold, so bytes are under way when the client
        // closes.
        for _ in 0..3 {
            client.send(0, &[7; 50_000]).await;
            client.send(2, &[8; 10_000]).await;
        }
        client.socket.close(None).await.unwrap();
        let hear = async |target: &mut DuplexStream, expected: &[u8]| {
            let mut heard = Vec::new();
            let end = timeout(SOON, target.read_to_end(&mut heard)).await;
            end.expect("it ends soon").unwrap();
            assert!(heard == expected, "{form:?}: {}", heard.len());
            // The client no longer reads what the target sends now, but the connection is not
            // broken off.
            target.write_all(&[9; 100_000]).await.unwrap();
        };
        tokio::join!(
            hear(&mut first, &[7; 150_000]),
            hear(&mut second, &[8; 30_000])
        );
    }
}

/// A client that closes because of its own failure might do so in the middle of its data.
#[tokio::test]
async fn a_client_that_closes_for_a_failure_has_not_ended_its_input() {
    let (told, mut news) = mpsc::unbounded_channel();
    let address = exec_server(Server::new(), move |mut io| {
        let told = told.clone();
        async move {
            let mut input = Vec::new();
            let end = io.stdin.take().unwrap().read_to_end(&mut input).await;
            told.send((input, end.is_ok())).unwrap();
            Ok(Exit::SUCCESS)
        }
    })
    .await;
    for (code, is_end) in [
        (None, true),
        (Some(1000), true),
        (Some(1001), true),
        (Some(1009), false),
        (Some(1011), false),
    ] {
        let path = "/exec?command=x&stdin=true&stdout=true";
        let mut client = open(address, path, COMMAND[3]).await;
        client.send(0, b"some").await;
        // The first part of a message, for a client that leaves in the middle of it.
        if !is_end {
            let part = [2, 0x84, 0, 0, 0, 0, 0, b'm', b'o', b'r'];
            client.socket.get_mut().write_all(&part).await.unwrap();
        }
        let frame = code.map(|code| CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        });
        client.socket.close(frame).await.unwrap();
        let told = timeout(SOON, news.recv()).await.expect("it ends soon");
        assert_eq!(told, Some((b"some".to_vec(), is_end)), "{code:?}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_connections() {
    let (address, mut targets) = held_target(Server::new()).await;
    let client = open(address, "/forward?ports=1", FORWARD[1]).await;
    let mut target = targets.recv().await.unwrap();
    drop(client);
    let end = timeout(SOON, target.read(&mut [0]))
        .await
        .expect("it ends soon");
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn a_message_to_a_port_may_be_long_and_not_too_long() {
    let server = Server::new().max_message(1_000_000);
    let (address, mut targets) = held_target(server).await;
    let mut client = open(address, "/forward?ports=1,2", FORWARD[1]).await;
    let (mut first, _second) = (targets.recv().await.unwrap(), targets.recv().await.unwrap());
    client.announced(&[1, 2]).await;
    client.send(0, &[7; 999_999]).await;
    let mut heard = vec![0; 999_999];
    timeout(SOON, first.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert!(heard.iter().all(|byte| *byte == 7));
    client.send(0, &[7; 1_000_000]).await;
    assert_eq!(client.next().await, Err(CloseCode::Size));
}

/// The ports that were agreed on with a token count, not those of the query.
#[tokio::test]
async fn ports_may_be_told_before() {
    let target = echo().await;
    let address = forward_server(Server::new().ports(Ports::new([target]).unwrap())).await;
    for path in ["/forward", "/forward?ports=1", "/forward?ports=x"] {
        let mut client = open(address, path, FORWARD[1]).await;
        client.announced(&[target]).await;
    }
}

/// Serves a client that reads nothing. Returns how long the connection lasts.
async fn unread_port() -> Duration {
    let (near, far) = duplex(1024);
    let service = service_fn(|mut request: http::Request<Incoming>| async move {
        let connect = |_| async {
            let (mut near, far) = duplex(1024);
            tokio::spawn(async move { while near.write_all(&[0; 1024]).await.is_ok() {} });
            Ok::<_, BoxError>(far)
        };
        Ok::<_, Infallible>(Server::new().port_forward(&mut request, "demo", connect))
    });
    let server = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(server.with_upgrades());
    let mut client = Client::open(near, "/forward?ports=1", FORWARD[1]).await;
    let start = Instant::now();
    while client
        .socket
        .send(Message::Pong(Bytes::new()))
        .await
        .is_ok()
    {
        assert!(start.elapsed() < 10 * HOUR, "the connection goes on");
        sleep(Duration::from_secs(60)).await;
    }
    start.elapsed()
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_not_waited_for_without_a_bound() {
    let lasted = unread_port().await;
    let bound = 4 * HOUR..4 * HOUR + Duration::from_secs(120);
    assert!(bound.contains(&lasted), "{lasted:?}");
}

/// Sends the head of a request. Returns the head and the body of the response.
async fn ask(address: SocketAddr, path: &str, fields: &[&str]) -> (String, String) {
    let mut transport = TcpStream::connect(address).await.unwrap();
    let fields = fields.join("\r\n");
    let request =
        format!("{path} HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\n{fields}\r\n\r\n");
    transport.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap_or("0");
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                return (head.to_lowercase(), body.to_owned());
            }
        }
        let read = timeout(SOON, transport.read(&mut piece)).await.unwrap();
        answer.extend_from_slice(&piece[..read.unwrap()]);
    }
}

const UPGRADE: &str = "Upgrade: websocket";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const KEY: &str = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
const V4: &str = "Sec-WebSocket-Protocol: v4.channel.k8s.io";

#[tokio::test]
async fn each_refusal_has_its_code_and_a_status() {
    let exec = exec_server(Server::new(), |_| async { Ok(Exit::SUCCESS) }).await;
    let forward = forward_server(Server::new()).await;
    let (command, port) = ("GET /exec?command=x&stdout=1", "GET /forward?ports=1");
    let too_many = format!("GET /forward?ports={}", vec!["1"; Ports::MAX + 1].join(","));
    let cases: &[(u16, &str, &[&str])] = &[
        (101, command, &[UPGRADE, VERSION, KEY, V4]),
        (101, command, &[UPGRADE, VERSION, KEY]),
        (101, port, &[UPGRADE, VERSION, KEY, V4]),
        (
            426,
            command,
            &[UPGRADE, "Sec-WebSocket-Version: 8", KEY, V4],
        ),
        (426, port, &[UPGRADE, KEY, V4]),
        (
            403,
            command,
            &[
                UPGRADE,
                VERSION,
                KEY,
                "Sec-WebSocket-Protocol: v9.channel.k8s.io",
            ],
        ),
        (
            403,
            command,
            &[UPGRADE, VERSION, KEY, "Sec-WebSocket-Protocol: ,"],
        ),
        (
            403,
            command,
            &[
                UPGRADE,
                VERSION,
                KEY,
                "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io",
            ],
        ),
        (
            403,
            port,
            &[
                UPGRADE,
                VERSION,
                KEY,
                "Sec-WebSocket-Protocol: channel.k8s.io",
            ],
        ),
        (400, command, &[UPGRADE, VERSION, V4]),
        (
            400,
            command,
            &[UPGRADE, VERSION, "Sec-WebSocket-Key: AAAA", V4],
        ),
        (
            400,
            command,
            &[
                UPGRADE,
                VERSION,
                "Sec-WebSocket-Key: ????????????????????????",
                V4,
            ],
        ),
        (
            400,
            command,
            &[UPGRADE, VERSION, KEY, V4, "Content-Length: 1"],
        ),
        (
            400,
            command,
            &[UPGRADE, VERSION, KEY, V4, "Transfer-Encoding: chunked"],
        ),
        (
            400,
            "POST /exec?command=x&stdout=1",
            &[UPGRADE, VERSION, KEY, V4],
        ),
        (400, "GET /exec?command=x", &[UPGRADE, VERSION, KEY, V4]),
        (400, "GET /forward", &[UPGRADE, VERSION, KEY, V4]),
        (400, "GET /forward?ports=0", &[UPGRADE, VERSION, KEY, V4]),
        (
            400,
            "GET /forward?ports=65536",
            &[UPGRADE, VERSION, KEY, V4],
        ),
        (400, "GET /forward?ports=80,", &[UPGRADE, VERSION, KEY, V4]),
        (400, &too_many, &[UPGRADE, VERSION, KEY, V4]),
    ];
    for (code, path, fields) in cases {
        let address = if path.contains("/exec") {
            exec
        } else {
            forward
        };
        let (head, body) = ask(address, path, fields).await;
        assert!(
            head.starts_with(&format!("http/1.1 {code} ")),
            "{path} {fields:?}: {head}"
        );
        assert_eq!(
            head.contains("\r\nsec-websocket-version: 13"),
            *code == 426,
            "{head}"
        );
        assert_eq!(
            head.contains("\r\nsec-websocket-protocol:"),
            *code == 101 && fields.contains(&V4)
        );
        if *code != 101 {
            let status = Status::from_json(body.as_bytes());
            assert!(
                matches!(&status, Ok(Status::Failure { code: told, .. }) if told == code),
                "{path}: {body}"
            );
        }
    }
}
