//! Port-forward.

use std::{convert::Infallible, future::ready, net::SocketAddr, time::Duration};

use axum::{Router, extract::Request, routing::any};
use bytes::Bytes;
use futures_util::SinkExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spdy_kube::{
    BoxError, Exit, Ports, Relay, Server,
    client::{self, Transport},
};
use spdy_tests::vacant::Vacant;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{
    COMMAND, Client, FORWARD, open,
    support::{
        SOON, echo_port, exec_server, forward_server, forward_with, serve,
        wires::{Wires, in_memory},
    },
};

#[tokio::test]
async fn a_port_is_forwarded_over_each_sub_protocol() {
    let (address, target) = (forward_server(Server::new()).await, echo_port().await);
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
    let (address, target) = (forward_server(Server::new()).await, echo_port().await);
    let vacant = Vacant::take();
    let closed = vacant.address().port();
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

/// A relay between clients of this test and a server, which it asks for one transport.
async fn relay_to(server: SocketAddr, transport: Transport) -> SocketAddr {
    let connect = move || async move {
        Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect(server).await?))
    };
    let relay = Relay::new(
        Server::new(),
        client::Client::new(connect).transport(transport),
    );
    let answer = move |mut request: Request| {
        let relay = relay.clone();
        async move {
            let onward = client::request(&"http://pod/forward".parse().unwrap());
            relay.port_forward(&mut request, onward, ()).await
        }
    };
    serve(Router::new().fallback(any(answer))).await
}

#[tokio::test]
async fn ports_are_forwarded_through_a_relay_to_spdy() {
    let (server, target) = (forward_server(Server::new()).await, echo_port().await);
    let vacant = Vacant::take();
    let closed = vacant.address().port();
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let relay = relay_to(server, transport).await;
        for form in FORWARD {
            let path = format!("/forward?ports={closed},{target}");
            let mut client = open(relay, &path, form).await;
            client.announced(&[closed, target]).await;
            let (channel, text) = client.next().await.unwrap();
            let text = String::from_utf8(text).unwrap();
            // The text of the server, once.
            let expected = format!("error forwarding port {closed} to pod demo: ");
            assert!(text.starts_with(&expected), "{text}");
            assert_eq!((channel, text.matches("error forwarding").count()), (1, 1));
            let much: Vec<u8> = (0..300_000).map(|at| (at / 7) as u8).collect();
            client.send(2, &much).await;
            let mut received = Vec::new();
            while received.len() < much.len() {
                let (channel, payload) = client.next().await.unwrap();
                assert_eq!(channel, 2);
                received.extend(payload);
            }
            assert!(received == much, "{form:?}");
            if form.name == Some("v5.channel.k8s.io") {
                client.send(255, &[2]).await;
                let (channels, end) = client.read().await;
                assert_eq!((&*channels[2], end), (&b""[..], CloseCode::Normal));
            }
        }
    }
}

#[tokio::test]
async fn a_relay_refuses_a_request_without_ports() {
    let server = forward_server(Server::new()).await;
    let relay = relay_to(server, Transport::Spdy).await;
    let transport = TcpStream::connect(relay).await.unwrap();
    let Err(Error::Http(refusal)) = client_async("ws://a/forward", transport).await else {
        panic!("it is not refused");
    };
    let body = String::from_utf8_lossy(refusal.body().as_deref().unwrap()).into_owned();
    assert_eq!(refusal.status(), 400, "{body}");
    assert!(
        body.contains(r#"query parameter \"ports\" is required"#),
        "{body}"
    );
}

#[tokio::test]
async fn as_many_ports_as_there_may_be_are_forwarded_at_once() {
    let address = forward_server(Server::new()).await;
    let mut ports = Vec::new();
    for _ in 0..Ports::MAX {
        ports.push(echo_port().await);
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
    let (address, target) = (forward_server(Server::new()).await, echo_port().await);
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
    let connect = move |_| {
        let (near, far) = duplex(1024);
        made.send(near).unwrap();
        ready(Ok::<_, BoxError>(far))
    };
    (forward_with(server, connect).await, targets)
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

/// Otherwise the client would take the bytes for complete.
#[tokio::test]
async fn a_target_that_resets_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = forward_server(Server::new()).await;
    let (spdy, websocket) = (
        relay_to(server, Transport::Spdy).await,
        relay_to(server, Transport::WebSocket).await,
    );
    for (address, form) in [server, spdy, websocket]
        .into_iter()
        .flat_map(|address| FORWARD.map(|form| (address, form)))
    {
        let mut client = open(address, &format!("/forward?ports={port}"), form).await;
        let (mut target, _) = listener.accept().await.unwrap();
        client.announced(&[port]).await;
        target.write_all(b"some").await.unwrap();
        assert_eq!(client.next().await, Ok((0, b"some".to_vec())));
        target.set_zero_linger().unwrap();
        drop(target);
        let (channels, end) = client.read().await;
        let text = String::from_utf8_lossy(&channels[1]).into_owned();
        assert!(text.contains("reset"), "{form:?}: {text}");
        assert_eq!(end, CloseCode::Normal);
    }
}

/// A client that is refused has not ended its inputs, and its targets do not wait for it.
#[tokio::test(start_paused = true)]
async fn the_targets_of_a_refused_client_break_off() {
    for reads in [true, false] {
        let (mut client, mut targets) = held_client().await;
        let (from, mut to) = tokio::io::split(targets.recv().await.unwrap());
        // More than is under way to the client.
        let flooding = tokio::spawn(async move { while to.write_all(&[7; 1000]).await.is_ok() {} });
        sleep(Duration::from_secs(1)).await;
        client
            .socket
            .send(Message::text("0no base64"))
            .await
            .unwrap();
        let begin = Instant::now();
        if reads {
            let (_, end) = client.read().await;
            assert_eq!(end, CloseCode::Invalid);
        }
        let mut from = from;
        timeout(SOON, from.read_to_end(&mut Vec::new()))
            .await
            .expect("it ends")
            .ok();
        flooding.await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1), "{reads}");
        // A client that does not read the reason is not waited for.
        let pongs = async {
            let pong = || Message::Pong(Bytes::new());
            while client.socket.send(pong()).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        timeout(SOON, pongs).await.expect("the connection ends");
    }
}

/// A client of a relay to a server, all of them in memory, and its target.
async fn relayed_client(
    server: Server,
) -> (Client<DuplexStream>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (made, targets) = mpsc::unbounded_channel();
    let way = in_memory(&Wires::default(), move |mut request| {
        let made = made.clone();
        let connect = move |_| {
            let (near, far) = duplex(1024);
            made.send(near).unwrap();
            ready(Ok::<_, BoxError>(far))
        };
        ready(server.port_forward(&mut request, "demo", connect))
    });
    let client = client::Client::new(way).transport(Transport::Spdy);
    let relay = Relay::new(Server::new(), client);
    let way = in_memory(&Wires::default(), move |mut request| {
        let relay = relay.clone();
        async move {
            let onward = client::request(&"http://pod/forward".parse().unwrap());
            relay.port_forward(&mut request, onward, ()).await
        }
    });
    let transport = way().await.unwrap().into_inner();
    let client = Client::open(transport, "/forward?ports=1", FORWARD[1]).await;
    (client, targets)
}

/// Sends much to a port behind a relay and closes. Returns what the port gets, which takes 50,000
/// bytes each time that `pause` has passed.
async fn taken_slowly(pause: Duration, ends_first: bool) -> usize {
    let (mut client, mut targets) = relayed_client(Server::new()).await;
    let mut target = targets.recv().await.unwrap();
    if ends_first {
        target.shutdown().await.unwrap();
    }
    let sending = async {
        for _ in 0..20 {
            client.send(0, &[7; 50_000]).await;
        }
        client.socket.close(None).await.unwrap();
    };
    let reading = async {
        let (mut piece, mut read) = (vec![0; 50_000], 0);
        while target.read_exact(&mut piece).await.is_ok() {
            read += piece.len();
            sleep(pause).await;
        }
        read
    };
    let ((), read) = tokio::join!(sending, reading);
    read
}

/// Between the client and the port are several buffers, and the input is not lost in them. What the
/// server behind the relay holds is not seen.
#[tokio::test(start_paused = true)]
async fn a_relay_passes_the_input_of_a_client_that_closes_to_a_slow_port() {
    for seconds in [1, 8, 12, 45, 400] {
        let read = taken_slowly(Duration::from_secs(seconds), false).await;
        assert_eq!(read, 1_000_000, "{seconds} s");
    }
}

/// Its output keeps no session open then.
#[tokio::test(start_paused = true)]
async fn a_relay_passes_the_input_to_a_slow_port_that_has_ended_its_output() {
    for seconds in [1, 8, 20] {
        let read = taken_slowly(Duration::from_secs(seconds), true).await;
        assert_eq!(read, 1_000_000, "{seconds} s");
    }
}

/// A server that is held up probes its client. If the relay has closed its connection by then, the
/// system resets it, and the server loses what it has not read.
#[tokio::test]
async fn a_relay_closes_when_a_slow_server_has_read_everything() {
    const MUCH: usize = 1_500_000;
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let (made, mut targets) = mpsc::unbounded_channel();
        let connect = move |_| {
            let (near, far) = duplex(1024);
            made.send(near).unwrap();
            ready(Ok::<_, BoxError>(far))
        };
        let server = Server::new().watch(Duration::from_millis(100));
        let relay = relay_to(forward_with(server, connect).await, transport).await;
        let mut client = open(relay, "/forward?ports=1", FORWARD[1]).await;
        let mut target = timeout(SOON, targets.recv()).await.unwrap().unwrap();
        target.shutdown().await.unwrap();
        let sending = async {
            for _ in 0..MUCH / 50_000 {
                client.send(0, &[7; 50_000]).await;
            }
            client.socket.close(None).await.unwrap();
        };
        let reading = async {
            let (mut piece, mut read) = (vec![0; 50_000], 0);
            while target.read_exact(&mut piece).await.is_ok() {
                read += piece.len();
                sleep(Duration::from_millis(200)).await;
            }
            read
        };
        let ((), read) = timeout(SOON, async { tokio::join!(sending, reading) })
            .await
            .expect("it ends");
        assert_eq!(read, MUCH, "{transport:?}");
    }
}

/// A session that is not read does not see the end of the other side.
#[tokio::test(start_paused = true)]
async fn a_relay_ends_though_the_input_of_the_client_that_vanishes_is_held_up() {
    let (mut client, mut targets) = relayed_client(Server::new()).await;
    let mut target = targets.recv().await.unwrap();
    let filling = async {
        loop {
            client.send(0, &[7; 50_000]).await;
        }
    };
    let filled = timeout(Duration::from_secs(1), filling).await;
    filled.expect_err("the port takes nothing");
    drop(client);
    sleep(Duration::from_secs(60)).await;
    // The input breaks off after what is in the pipe.
    let mut input = Vec::new();
    let read = timeout(Duration::from_secs(1), target.read_to_end(&mut input)).await;
    read.expect("the target is let go").unwrap();
    assert!(input.len() <= 1024, "{}", input.len());
}

/// A client in memory, which expects base64, and its target.
async fn held_client() -> (Client<DuplexStream>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (made, targets) = mpsc::unbounded_channel();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        let made = made.clone();
        let connect = move |_| {
            let (near, far) = duplex(1024);
            made.send(near).unwrap();
            ready(Ok::<_, BoxError>(far))
        };
        let response = Server::new().port_forward(&mut request, "demo", connect);
        ready(Ok::<_, Infallible>(response))
    });
    let (near, far) = duplex(1024);
    let server = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(server.with_upgrades());
    let client = Client::open(near, "/forward?ports=1", FORWARD[2]).await;
    (client, targets)
}

/// A message of any length would exceed what a WebSocket writes at once.
#[tokio::test]
async fn a_long_error_is_cut_and_other_ports_go_on() {
    let target = echo_port().await;
    let connect = move |port| async move {
        match port {
            1 => Err(BoxError::from("x".repeat(3 << 20))),
            _ => Ok(TcpStream::connect(("127.0.0.1", port)).await?),
        }
    };
    let address = forward_with(Server::new(), connect).await;
    for form in FORWARD {
        let mut client = open(address, &format!("/forward?ports=1,{target}"), form).await;
        client.announced(&[1, target]).await;
        let (channel, text) = client.next().await.unwrap();
        assert_eq!((channel, text.len()), (1, 65_536), "{form:?}");
        client.send(2, b"still here").await;
        assert_eq!(client.next().await, Ok((2, b"still here".to_vec())));
    }
}

/// Otherwise the client would take it for the end of the target.
#[tokio::test]
async fn a_connection_that_panics_is_told() {
    let connect = |_| async { panic!("on purpose") };
    let address = forward_with::<_, _, DuplexStream>(Server::new(), connect).await;
    for form in FORWARD {
        let mut client = open(address, "/forward?ports=1", form).await;
        client.announced(&[1]).await;
        let text = b"error forwarding port 1 to pod demo: it panicked";
        assert_eq!(client.next().await, Ok((1, text.to_vec())), "{form:?}");
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
    let target = echo_port().await;
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
