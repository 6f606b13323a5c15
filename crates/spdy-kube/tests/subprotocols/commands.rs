//! Exec and attach.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{Router, extract::Request, routing::any};
use futures_util::SinkExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spdy_kube::{Exit, Options, Server, Status};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::{
    COMMAND, Client, open,
    support::{SOON, exec_server, serve},
};

/// A server whose command returns five bytes of input in upper case, writes an error, and ends with
/// a code.
pub(crate) async fn five_bytes(code: u8) -> SocketAddr {
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

pub(crate) const ALL: &str = "/exec?command=x&stdin=true&stdout=true&stderr=true";

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
    assert!(channels[3].is_empty(), "no outcome is sent");
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

/// Over TCP a message to a connection that is gone would reset it, and what the client has not read
/// would be lost.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_can_send_until_it_has_the_outcome() {
    let (near, far) = duplex(4096);
    let service = service_fn(|mut request: http::Request<Incoming>| async move {
        let query = request.uri().query().unwrap_or_default();
        let streams = Options::from_query(query).unwrap().streams;
        let run = |_| async { Ok(Exit::SUCCESS) };
        Ok::<_, Infallible>(Server::new().exec(&mut request, streams, run))
    });
    let server = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(server.with_upgrades());
    let mut client = Client::open(near, ALL, COMMAND[5]).await;
    for _ in 0..4 {
        sleep(Duration::from_secs(5)).await;
        let ping = Message::Ping(Vec::new().into());
        client.socket.send(ping).await.unwrap();
    }
    assert_eq!(client.read().await.1, CloseCode::Normal);
}
