//! The client of this crate, which asks for WebSocket first and then for SPDY.

mod support;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::Request, response::IntoResponse, routing::any};
use futures_util::{SinkExt, StreamExt};
use http::{
    HeaderValue, Response, StatusCode,
    header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use hyper_util::rt::TokioIo;
use spdy_kube::{
    BoxError, Exit, Options, Protocol, Relay, Server, Size, Status, Streams,
    client::{self, Client, ClientError, Transport},
};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::derive_accept_key,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use self::support::{
    ALL, SOON, echo_port, exec_server, forward_server, serve, shouting, told, unread,
    wires::{Connecting, Socket, Wires, in_memory, websocket_server},
};

const OUTPUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: false,
    tty: false,
};

/// The connections of a client.
type Connect = Box<
    dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>
        + Send
        + Sync,
>;

fn client_of(address: SocketAddr) -> Client<Connect> {
    Client::new(Box::new(move || {
        Box::pin(async move { Ok(TokioIo::new(TcpStream::connect(address).await?)) })
    }))
}

fn request(address: SocketAddr, streams: Streams) -> http::Request<()> {
    let mut options = Options::default();
    options.command = vec!["x".to_owned()];
    options.streams = streams;
    let uri = format!("http://{address}/exec?{}", options.to_query());
    client::request(&uri.parse().unwrap())
}

/// A server in front of one that refuses WebSocket with a status. It records the requests.
async fn refusing(server: SocketAddr, code: Option<StatusCode>) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let kept = asked.clone();
    let handler = move |mut request: Request| {
        let kept = kept.clone();
        async move {
            let offered: Vec<_> = request
                .headers()
                .get_all(SEC_WEBSOCKET_PROTOCOL)
                .iter()
                .map(|name| name.to_str().unwrap())
                .collect();
            let is_websocket = request.headers()[UPGRADE] == "websocket";
            let line = format!("{} {}", request.method(), offered.join(" "));
            kept.0.lock().unwrap().push(line.trim().to_owned());
            match code {
                Some(code) if is_websocket => (code, "not here").into_response(),
                _ => {
                    let target = request.uri().path_and_query().unwrap();
                    let uri = format!("http://{server}{target}").parse().unwrap();
                    let transport = TcpStream::connect(server).await.unwrap();
                    let onward = client::request(&uri);
                    spdy_kube::relay(&mut request, onward, transport, ())
                        .await
                        .into_response()
                }
            }
        }
    };
    (serve(Router::new().fallback(any(handler))).await, asked)
}

#[derive(Clone, Debug, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Exchanges data with a [`shouting`] server.
async fn shout(client: &Client<Connect>, address: SocketAddr, protocol: Protocol) {
    let remote = client.exec(request(address, ALL), ALL).await.unwrap();
    support::shout(remote, protocol).await;
}

#[tokio::test]
async fn a_command_is_run_over_what_the_server_has() {
    let server = shouting().await;
    let client = client_of(server);
    shout(&client, server, Protocol::V5).await;
    let spdy = client_of(server).transport(Transport::Spdy);
    shout(&spdy, server, Protocol::V4).await;
    // Any response in place of an upgrade.
    for code in [200, 400, 403, 404, 426, 500, 502] {
        let code = StatusCode::from_u16(code).unwrap();
        let (address, asked) = refusing(server, Some(code)).await;
        shout(&client_of(address), address, Protocol::V4).await;
        assert_eq!(asked.take(), ["GET v5.channel.k8s.io", "POST"], "{code}");
    }
}

/// A server in front of one that refuses SPDY. It records the requests.
async fn websocket_alone(server: SocketAddr) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let kept = asked.clone();
    let handler = move |mut request: Request| {
        let kept = kept.clone();
        async move {
            kept.0.lock().unwrap().push(request.method().to_string());
            let transport = Transport::of(&request);
            if transport == Transport::SpdyFirst {
                return Status::bad_request("not here").into_response();
            }
            let target = request.uri().path_and_query().unwrap();
            let uri = format!("http://{server}{target}").parse().unwrap();
            let onward = client::request(&uri);
            let relay = Relay::new(Server::new(), client_of(server).transport(transport));
            match request.uri().path() {
                "/forward" => relay.port_forward(&mut request, onward, ()).await,
                _ => relay.exec(&mut request, onward, ALL, ()).await,
            }
        }
    };
    (serve(Router::new().fallback(any(handler))).await, asked)
}

#[tokio::test]
async fn websocket_is_asked_for_if_spdy_is_refused() {
    let server = shouting().await;
    let client = client_of(server).transport(Transport::SpdyFirst);
    shout(&client, server, Protocol::V4).await;
    let (address, asked) = websocket_alone(server).await;
    let client = client_of(address).transport(Transport::SpdyFirst);
    shout(&client, address, Protocol::V5).await;
    assert_eq!(asked.take(), ["POST", "GET"]);
    let only = client_of(address).transport(Transport::Spdy);
    let refused = only.exec(request(address, ALL), ALL).await.unwrap_err();
    assert_eq!(refused.http_status(), Some(StatusCode::BAD_REQUEST));
    assert_eq!(asked.take(), ["POST"], "WebSocket is not asked for");
}

/// v4 cannot express the end of an input.
#[tokio::test]
async fn v4_is_offered_where_it_is_enough() {
    let server = shouting().await;
    let (address, asked) = refusing(server, Some(StatusCode::FORBIDDEN)).await;
    let only = client_of(address).transport(Transport::WebSocket);
    for streams in [OUTPUT, ALL] {
        let refused = only
            .exec(request(address, streams), streams)
            .await
            .unwrap_err();
        assert_eq!(refused.http_status(), Some(StatusCode::FORBIDDEN));
        assert_eq!(refused.refusal(), None);
        let v5_and_v4 = "GET v5.channel.k8s.io v4.channel.k8s.io";
        assert_eq!(asked.take(), [v5_and_v4], "SPDY is not asked for");
    }
    _ = client_of(address)
        .exec(request(address, OUTPUT), OUTPUT)
        .await;
    assert_eq!(
        asked.take(),
        ["GET v5.channel.k8s.io v4.channel.k8s.io", "POST"]
    );
}

#[tokio::test]
async fn a_refusal_tells_what_the_server_says() {
    let handler = || async { Status::not_found("pods \"x\" not found").into_response() };
    let address = serve(Router::new().fallback(any(handler))).await;
    for transport in [
        Transport::WebSocketFirst,
        Transport::WebSocket,
        Transport::Spdy,
    ] {
        let client = client_of(address).transport(transport);
        let refused = client
            .exec(request(address, OUTPUT), OUTPUT)
            .await
            .unwrap_err();
        assert_eq!(refused.http_status(), Some(StatusCode::NOT_FOUND));
        let status = Status::not_found("pods \"x\" not found");
        assert_eq!(refused.refusal(), Some(status));
        let text = refused.to_string();
        assert_eq!(
            text,
            "server does not upgrade: 404 Not Found: pods \"x\" not found"
        );
        let refused = client.forward(request(address, OUTPUT)).await.unwrap_err();
        assert_eq!(refused.http_status(), Some(StatusCode::NOT_FOUND));
    }
}

/// What a server does that is asked for the second transport.
#[derive(Clone, Copy, Debug)]
enum Second {
    Refuses,
    Vanishes,
    IsSilent,
    HasNoProtocol,
    OpensNoStreams,
}

/// A server that refuses the transport that is asked for first, and does this for the other one.
fn two_faced(first: Transport, second: Second) -> impl Fn() -> Connecting + Clone + Send + Sync {
    let wires = Wires::default();
    let cut = wires.clone();
    in_memory(&wires, move |mut request| {
        let cut = cut.clone();
        async move {
            if Transport::of(&request) == first {
                return Status::not_found("pods \"x\" not found").into_response();
            }
            match second {
                Second::Refuses => Status::bad_request("not here").into_response(),
                Second::Vanishes => {
                    cut.cut();
                    std::future::pending().await
                }
                Second::IsSilent => std::future::pending().await,
                Second::HasNoProtocol | Second::OpensNoStreams if first == Transport::SpdyFirst => {
                    let key = request.headers()["sec-websocket-key"].as_bytes();
                    let mut response = Response::new(String::new());
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    let headers = response.headers_mut();
                    headers.insert("connection", HeaderValue::from_static("upgrade"));
                    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                    let accept = derive_accept_key(key).parse().unwrap();
                    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
                    response
                }
                Second::HasNoProtocol => {
                    let (mut response, _) = upgrade::accept(&mut request).unwrap();
                    let name = HeaderValue::from_static("v9.channel.k8s.io");
                    let headers = response.headers_mut();
                    headers.insert("x-stream-protocol-version", name);
                    response
                }
                Second::OpensNoStreams => {
                    let (response, upgraded) = upgrade::accept(&mut request).unwrap();
                    tokio::spawn(async move {
                        let _silent = upgraded.await;
                        std::future::pending::<()>().await
                    });
                    response
                }
            }
        }
    })
}

const ORDERS: [Transport; 2] = [Transport::WebSocketFirst, Transport::SpdyFirst];

#[tokio::test(start_paused = true)]
async fn the_first_refusal_counts_if_the_other_transport_is_not_accepted_either() {
    let reason = Status::not_found("pods \"x\" not found");
    for first in ORDERS {
        for second in [Second::Refuses, Second::Vanishes, Second::IsSilent] {
            let server = two_faced(first, second);
            let client = Client::new(server.clone()).transport(first);
            let refused = client.exec(any_request(OUTPUT), OUTPUT).await.unwrap_err();
            assert_eq!(refused.refusal(), Some(reason.clone()), "{second:?}");
            let refused = client.forward(any_request(OUTPUT)).await.unwrap_err();
            assert_eq!(refused.refusal(), Some(reason.clone()), "{second:?}");

            let relay = Relay::new(Server::new(), Client::new(server).transport(first));
            let relay = in_memory(&Wires::default(), move |mut request| {
                let relay = relay.clone();
                async move {
                    let onward = any_request(OUTPUT);
                    relay.exec(&mut request, onward, OUTPUT, ()).await
                }
            });
            let client = Client::new(relay).transport(Transport::Spdy).timeout(None);
            let refused = client.exec(any_request(OUTPUT), OUTPUT).await.unwrap_err();
            assert_eq!(refused.refusal(), Some(reason.clone()), "{second:?}");
        }
    }
}

/// Such a command may have run, which no refusal says.
#[tokio::test(start_paused = true)]
async fn what_fails_after_the_upgrade_to_the_other_transport_is_no_refusal() {
    for first in ORDERS {
        for second in [Second::HasNoProtocol, Second::OpensNoStreams] {
            let client = Client::new(two_faced(first, second)).transport(first);
            let failed = client.exec(any_request(OUTPUT), OUTPUT).await.unwrap_err();
            assert!(
                matches!(failed, ClientError::Protocol | ClientError::NoAnswer),
                "{first:?}, {second:?}: {failed:?}"
            );
        }
        let client = Client::new(two_faced(first, Second::HasNoProtocol)).transport(first);
        let failed = client.forward(any_request(OUTPUT)).await.unwrap_err();
        assert!(matches!(failed, ClientError::Protocol), "{failed:?}");
    }
}

#[tokio::test]
async fn much_comes_back_whole() {
    const LENGTH: usize = 16 << 20;
    let server = exec_server(Server::new(), |mut io| async move {
        let (mut stdin, mut stdout) = (io.stdin.take().unwrap(), io.stdout.take().unwrap());
        tokio::io::copy(&mut stdin, &mut stdout).await?;
        Ok(Exit::SUCCESS)
    })
    .await;
    for transport in [Transport::WebSocket, Transport::Spdy] {
        let client = client_of(server).transport(transport);
        let streams = Streams {
            stdin: true,
            ..OUTPUT
        };
        let mut remote = client
            .exec(request(server, streams), streams)
            .await
            .unwrap();
        let sent: Vec<u8> = (0..LENGTH).map(|at| (at / 11) as u8).collect();
        let mut stdin = remote.stdin.take().unwrap();
        let mut stdout = remote.stdout.take().unwrap();
        let upload = async {
            stdin.write_all(&sent).await.unwrap();
            stdin.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let download = timeout(SOON, stdout.read_to_end(&mut received));
        let ((), read) = tokio::join!(upload, download);
        read.expect("it ends").unwrap();
        assert!(received == sent);
        assert_eq!(remote.outcome().await.unwrap(), Status::Success);
    }
}

/// An output or an input that was not taken does not delay the outcome.
#[tokio::test]
async fn the_outcome_comes_though_nothing_is_read() {
    let server = exec_server(Server::new(), |mut io| async move {
        let mut input = Vec::new();
        io.stdin.take().unwrap().read_to_end(&mut input).await?;
        // The command may notice that its output is not wanted.
        _ = io.stdout.take().unwrap().write_all(&vec![0; 8 << 20]).await;
        Ok(Exit::code(3))
    })
    .await;
    for transport in [Transport::WebSocket, Transport::Spdy] {
        let client = client_of(server).transport(transport);
        let remote = client.exec(request(server, ALL), ALL).await.unwrap();
        let outcome = timeout(SOON, remote.outcome()).await.expect("it ends");
        let code = Status::Exit(Exit::code(3));
        assert_eq!(outcome.unwrap(), code, "{transport:?}");
    }
}

#[tokio::test]
async fn the_size_of_the_terminal_is_told() {
    let server = exec_server(Server::new(), |mut io| async move {
        let size = io.resize.take().unwrap().next().await.unwrap();
        let mut stdout = io.stdout.take().unwrap();
        stdout.write_all(size.to_json().as_bytes()).await?;
        Ok(Exit::SUCCESS)
    })
    .await;
    let streams = Streams {
        tty: true,
        ..OUTPUT
    };
    let client = client_of(server);
    let mut remote = client
        .attach(request(server, streams), streams)
        .await
        .unwrap();
    let size = Size {
        width: 100,
        height: 30,
    };
    remote.resize.as_mut().unwrap().resize(size).await.unwrap();
    let mut told = String::new();
    let stdout = remote.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, size.to_json());
    assert_eq!(remote.outcome().await.unwrap(), Status::Success);
}

#[tokio::test]
async fn a_client_that_is_dropped_ends_the_command() {
    let (server, news) = unread(Server::new()).await;
    let mut remote = client_of(server)
        .exec(request(server, ALL), ALL)
        .await
        .unwrap();
    // One handle is enough to keep the session.
    let stdout = remote.stdout.take();
    drop(remote);
    sleep(Duration::from_millis(200)).await;
    assert!(news.is_empty());
    drop(stdout);
    told(news).await;
}

#[tokio::test]
async fn ports_are_forwarded_in_a_tunnel_or_without() {
    let server = forward_server(Server::new()).await;
    let (refusing, asked) = refusing(server, Some(StatusCode::BAD_REQUEST)).await;
    let (alone, asked_alone) = websocket_alone(server).await;
    let port = echo_port().await;
    for (address, transport) in [
        (server, Transport::WebSocket),
        (server, Transport::Spdy),
        (refusing, Transport::WebSocketFirst),
        (alone, Transport::SpdyFirst),
    ] {
        let client = client_of(address).transport(transport);
        let uri = format!("http://{address}/forward").parse().unwrap();
        let forward = client.forward(client::request(&uri)).await.unwrap();
        let all = (0..20).map(|number| {
            let forward = &forward;
            async move {
                let mut connection = forward.open(port).await.unwrap();
                let sent = vec![number; 100_000];
                let (mut from, mut to) = tokio::io::split(&mut connection);
                let upload = async {
                    to.write_all(&sent).await.unwrap();
                    to.shutdown().await.unwrap();
                };
                let mut received = Vec::new();
                let ((), read) = tokio::join!(upload, from.read_to_end(&mut received));
                read.unwrap();
                assert!(received == sent);
            }
        });
        let all = timeout(SOON, futures_util::future::join_all(all));
        all.await.expect("they end");
    }
    let tunnel = "GET SPDY/3.1+portforward.k8s.io";
    assert_eq!(asked.take(), [tunnel, "POST"]);
    assert_eq!(asked_alone.take(), ["POST", "GET"]);
}

/// A server that upgrades to v5 of WebSocket, and runs `talk`.
fn v5_server<F>(talk: fn(Socket) -> F) -> impl Fn() -> Connecting
where
    F: Future<Output = ()> + Send + 'static,
{
    websocket_server(&Wires::default(), "v5.channel.k8s.io", talk)
}

fn any_request(streams: Streams) -> http::Request<()> {
    request(([127, 0, 0, 1], 1).into(), streams)
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_sent_each_5_s_over_websocket() {
    async fn count(mut socket: Socket) {
        let start = Instant::now();
        let mut pings = 0;
        while let Some(Ok(message)) = socket.next().await {
            pings += u32::from(message.is_ping());
            if start.elapsed() >= Duration::from_secs(59) {
                break;
            }
        }
        let told = format!("\u{3}{{\"status\":\"Failure\",\"message\":\"{pings}\"}}");
        socket.send(Message::binary(told)).await.unwrap();
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    }
    for (period, expected) in [(None, "12"), (Some(20), "3")] {
        let mut client = Client::new(v5_server(count));
        if let Some(period) = period {
            client = client.ping(Some(Duration::from_secs(period)));
        }
        let remote = client.exec(any_request(OUTPUT), OUTPUT).await.unwrap();
        let Status::Failure { message, .. } = remote.outcome().await.unwrap() else {
            panic!("the server tells");
        };
        assert_eq!(message, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_sent_each_5_s_of_silence_over_spdy() {
    let connect = in_memory(&Wires::default(), |mut request| async move {
        let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
        let name = HeaderValue::from_static("portforward.k8s.io");
        response
            .headers_mut()
            .insert("x-stream-protocol-version", name);
        tokio::spawn(async move {
            let mut transport = upgraded.await.unwrap();
            let mut frame = [0; 12];
            for _ in 0..10 {
                transport.read_exact(&mut frame).await.unwrap();
                assert_eq!(frame[..8], [0x80, 3, 0, 6, 0, 0, 0, 4], "a PING");
                // spdystream can be delayed, and answers some of them late or never.
            }
            drop(transport);
        });
        response
    });
    let start = Instant::now();
    let client = Client::new(connect).transport(Transport::Spdy);
    let forward = client.forward(any_request(OUTPUT)).await.unwrap();
    forward.closed().await;
    let lasted = start.elapsed().as_secs();
    // PINGs without an answer are not repeated immediately.
    assert!(lasted >= 45, "{lasted}");
}

/// The ways in which a server can end, and the result of the client.
#[tokio::test]
async fn an_end_that_is_none_is_an_error() {
    async fn close(mut socket: Socket, code: CloseCode) {
        socket
            .send(Message::binary(&b"\x01output"[..]))
            .await
            .unwrap();
        let reason = "".into();
        _ = socket.close(Some(CloseFrame { code, reason })).await;
        while let Some(Ok(_)) = socket.next().await {}
    }
    async fn vanish(mut socket: Socket) {
        socket
            .send(Message::binary(&b"\x01output"[..]))
            .await
            .unwrap();
        socket.send(Message::binary(&b"\x03"[..])).await.unwrap();
    }
    async fn half(mut socket: Socket) {
        socket
            .send(Message::binary(&b"\x03{\"status\":"[..]))
            .await
            .unwrap();
        close(socket, CloseCode::Normal).await;
    }
    let in_order = v5_server(|socket| close(socket, CloseCode::Normal));
    let failed = v5_server(|socket| close(socket, CloseCode::Error));
    let vanished = v5_server(vanish);
    let halved = v5_server(half);
    let cases: [(&dyn Fn() -> _, _); 4] = [
        (&in_order, true),
        (&failed, false),
        (&vanished, false),
        (&halved, true),
    ];
    for (number, (connect, ends)) in cases.into_iter().enumerate() {
        let client = Client::new(connect);
        let mut remote = client.exec(any_request(OUTPUT), OUTPUT).await.unwrap();
        let mut output = Vec::new();
        let mut stdout = remote.stdout.take().unwrap();
        let end = stdout.read_to_end(&mut output).await;
        drop(stdout);
        assert_eq!((&*output, end.is_ok()), (&b"output"[..], ends), "{number}");
        let outcome = timeout(SOON, remote.outcome()).await.expect("it ends");
        assert!(
            matches!(
                outcome,
                Err(ClientError::Stream(_) | ClientError::Status(_))
            ),
            "{number}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn what_is_not_agreed_on_is_no_upgrade() {
    let wrong_key = in_memory(&Wires::default(), |_| async {
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, "AAAA")
            .header(SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io")
            .body(String::new())
            .unwrap()
    });
    let client = Client::new(wrong_key);
    let refused = client.exec(any_request(OUTPUT), OUTPUT).await;
    assert!(matches!(refused, Err(ClientError::Protocol)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up() {
    let silent = || {
        let (near, far) = duplex(4096);
        tokio::spawn(async move {
            let _far = far;
            std::future::pending::<()>().await
        });
        std::future::ready(Ok::<_, BoxError>(TokioIo::new(near)))
    };
    for transport in [Transport::WebSocketFirst, Transport::Spdy] {
        let start = Instant::now();
        let client = Client::new(silent).transport(transport);
        let refused = client.exec(any_request(ALL), ALL).await;
        assert!(matches!(refused, Err(ClientError::NoAnswer)), "{refused:?}");
        assert_eq!(start.elapsed().as_secs(), 30);
        let relay = Relay::new(Server::new(), client);
        let relay = in_memory(&Wires::default(), move |mut request| {
            let relay = relay.clone();
            async move { relay.exec(&mut request, any_request(ALL), ALL, ()).await }
        });
        let client = Client::new(relay).transport(Transport::Spdy).timeout(None);
        let refused = client.exec(any_request(ALL), ALL).await.unwrap_err();
        assert_eq!(refused.http_status(), Some(StatusCode::GATEWAY_TIMEOUT));
    }
    let unreachable =
        || std::future::ready(Err::<TokioIo<DuplexStream>, _>(io::Error::other("no")));
    let refused = Client::new(unreachable).forward(any_request(ALL)).await;
    assert!(
        matches!(refused, Err(ClientError::Connect(_))),
        "{refused:?}"
    );
}
