//! Connections that switch.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use spdy_server::{AccessLog, Config, Timeouts, app::proxy, auto};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    SWITCHED, WEBSOCKET, application, ask, before,
    common::server::{LONG, http1, plain, until_it_drains},
    front, head,
};

/// Switches, and returns each piece that comes.
async fn echo(_: String, mut io: TcpStream) {
    io.write_all(SWITCHED.as_bytes()).await.unwrap();
    let (mut reads, mut writes) = io.split();
    tokio::io::copy(&mut reads, &mut writes).await.unwrap();
    writes.shutdown().await.unwrap();
}

/// Sends a piece, and reads it back.
async fn exchange(io: &mut TcpStream, piece: &[u8]) {
    io.write_all(piece).await.unwrap();
    let mut back = vec![0; piece.len()];
    timeout(LONG, io.read_exact(&mut back))
        .await
        .expect("the piece did not come back")
        .unwrap();
    assert_eq!(back, piece);
}

#[tokio::test]
async fn a_websocket_passes_with_the_bytes_beside_the_heads_and_after_the_end_of_one_side() {
    let address = application(async |seen: String, mut io: TcpStream| {
        for line in [
            "GET /chat HTTP/1.1\r\n",
            "\r\nconnection: upgrade\r\n",
            "\r\nupgrade: WebSocket\r\n",
            "\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "\r\nhost: a.test\r\n",
            "\r\nx-forwarded-for: 127.0.0.1\r\n",
        ] {
            assert!(seen.contains(line), "{line} is not in {seen}");
        }
        let with_the_head = format!("{SWITCHED}hello");
        io.write_all(with_the_head.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        io.read_to_end(&mut all).await.unwrap();
        io.write_all(&[&b"end of "[..], &all].concat())
            .await
            .unwrap();
    })
    .await;
    let front = before(address).await;
    let lines = format!("{WEBSOCKET}\r\nat once");
    let mut io = TcpStream::connect(front.address).await.unwrap();
    let request = format!("GET /chat HTTP/1.1\r\nhost: a.test\r\n{lines}");
    io.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut io).await.unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    for line in [
        "upgrade: WebSocket",
        "connection: upgrade",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line} is not in {head}"
        );
    }
    io.write_all(b" and later").await.unwrap();
    io.shutdown().await.unwrap();
    let mut all = String::new();
    timeout(LONG, io.read_to_string(&mut all))
        .await
        .expect("no end came")
        .unwrap();
    assert_eq!(all, "helloend of at once and later");
}

#[tokio::test]
async fn long_messages_pass_both_ways_at_once() {
    let front = before(application(echo).await).await;
    let (io, _) = ask(&front, WEBSOCKET).await;
    let (mut reads, mut writes) = io.into_split();
    let sent: Vec<u8> = (0..5_000_000_u32).map(|it| (it / 7) as u8).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        writes.write_all(&sent).await.unwrap();
        writes.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    timeout(LONG, reads.read_to_end(&mut back))
        .await
        .expect("no end came")
        .unwrap();
    writing.await.unwrap();
    assert!(back == expected, "{} bytes", back.len());
}

#[tokio::test]
async fn any_other_status_is_an_ordinary_response_and_its_connections_go_on() {
    let address = application(async |_, mut io: TcpStream| {
        let refusal = "HTTP/1.1 426 Upgrade Required\r\nsec-websocket-version: 13\r\n\
             upgrade: websocket\r\ncontent-length: 2\r\n\r\nno";
        io.write_all(refusal.as_bytes()).await.unwrap();
        while head(&mut io).await.is_some() {
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nagain";
            io.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let front = before(address).await;
    let (mut io, seen) = ask(&front, WEBSOCKET).await;
    assert!(seen.starts_with("HTTP/1.1 426 "), "{seen}");
    assert!(seen.contains("\r\nsec-websocket-version: 13\r\n"), "{seen}");
    let mut body = [0; 2];
    io.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"no");
    let answer = http1(io, "/").await;
    assert!(answer.ends_with("again"), "{answer}");
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_on_both_sides() {
    let front = front(
        &format!("http://{}", application(echo).await),
        Config {
            max_connections: 2,
            ..plain(Timeouts::default())
        },
        |proxy| {
            proxy.max_connections = 1;
            proxy.connect_timeout = Duration::from_millis(200);
        },
    )
    .await;
    let (mut first, _) = ask(&front, WEBSOCKET).await;
    exchange(&mut first, b"one").await;
    let (mut second, seen) = ask(&front, WEBSOCKET).await;
    assert!(seen.starts_with("HTTP/1.1 503 "), "{seen}");
    // It is not idle for long enough to give way, as it would after a second.
    let mut third = TcpStream::connect(front.address).await.unwrap();
    second
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n")
        .await
        .unwrap();
    third
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(
        timeout(Duration::from_secs(2), third.read_u8())
            .await
            .is_err()
    );
    drop(first);
    let mut answer = String::new();
    timeout(LONG, third.read_to_string(&mut answer))
        .await
        .expect("no place became free")
        .unwrap();
    // The application switches although it was not asked to.
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn a_drain_waits_for_a_tunnel_and_cuts_it_at_the_deadline() {
    for drain in [LONG, Duration::from_millis(500)] {
        let front = front(
            &format!("http://{}", application(echo).await),
            plain(Timeouts {
                drain,
                ..Timeouts::default()
            }),
            |_| {},
        )
        .await;
        let (mut io, _) = ask(&front, WEBSOCKET).await;
        exchange(&mut io, b"before").await;
        front.shutdown.send(()).unwrap();
        until_it_drains(front.address).await;
        if drain == LONG {
            exchange(&mut io, b"while it drains").await;
            io.shutdown().await.unwrap();
        }
        let drained = timeout(LONG, front.task).await.expect("no end").unwrap();
        assert_eq!(drained.cut, usize::from(drain != LONG));
        let mut rest = Vec::new();
        let end = timeout(LONG, io.read_to_end(&mut rest)).await;
        let end = end.expect("no end came").map_err(|error| error.kind());
        assert_eq!(rest, b"");
        let expected = match drain == LONG {
            true => Ok(0),
            false => Err(io::ErrorKind::ConnectionReset),
        };
        assert_eq!(end, expected);
    }
}

#[tokio::test]
async fn the_line_of_a_tunnel_comes_at_its_end_with_its_bytes() {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxy-upgrade.log");
    _ = fs::remove_file(&log);
    let config = Config {
        access_log: Some(AccessLog::File(log.clone())),
        ..plain(Timeouts::default())
    };
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let address = application(move |_, mut io: TcpStream| {
        let held = Arc::clone(&held);
        async move {
            io.write_all(SWITCHED.as_bytes()).await.unwrap();
            io.write_all(b"twelve bytes").await.unwrap();
            io.read_exact(&mut [0; 7]).await.unwrap();
            held.notified().await;
        }
    })
    .await;
    let front = front(&format!("http://{address}"), config, |_| {}).await;
    let (mut io, _) = ask(&front, WEBSOCKET).await;
    io.write_all(b"seven b").await.unwrap();
    io.read_exact(&mut [0; 12]).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
    release.notify_one();
    assert_eq!(io.read(&mut [0; 1]).await.unwrap(), 0);
    drop(io);
    let line = async {
        loop {
            let text = fs::read_to_string(&log).unwrap();
            if text.ends_with('\n') {
                break text;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let line = timeout(LONG, line).await.expect("there is no line");
    assert!(line.contains("\"GET /chat HTTP/1.1\" 101 12 "), "{line}");
    assert!(line.contains(" HTTP/1.1 - 0."), "{line}");
    assert!(line.ends_with(" 7 -\n"), "{line}");
    let fields: Vec<_> = line.split_whitespace().collect();
    let seconds: f64 = fields[fields.len() - 3].parse().unwrap();
    assert!(seconds >= 0.1, "{line}");
}

/// The timeouts of ordinary connections are much shorter: 180 s without a byte, and 30 s for a
/// client that reads nothing, or 60 s for an application.
#[tokio::test(start_paused = true)]
async fn a_tunnel_may_rest_for_an_hour_and_wait_for_a_reader() {
    let (near, mut application) = duplex(1000);
    let near = std::sync::Mutex::new(Some(near));
    let options =
        spdy_server::app::Proxy::new("http://a.test".parse().unwrap()).connector(move || {
            let near = near
                .lock()
                .unwrap()
                .take()
                .expect("there is one connection");
            async move { Ok(near) }
        });
    let (mut client, server) = duplex(1000);
    let builder = auto::Builder::new();
    let serving =
        tokio::spawn(async move { builder.serve_connection(server, proxy(options)).await });
    let request = format!("GET /chat HTTP/1.1\r\nhost: a.test\r\n{WEBSOCKET}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    head(&mut application).await.unwrap();
    application.write_all(SWITCHED.as_bytes()).await.unwrap();
    head(&mut client).await.unwrap();
    sleep(Duration::from_secs(59 * 60)).await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(application.read_u8().await.unwrap(), b'x');
    // Each side waits until the other one reads.
    for is_up in [true, false] {
        let (from, to) = match is_up {
            true => (&mut client, &mut application),
            false => (&mut application, &mut client),
        };
        let mut sent = 0;
        while let Ok(written) = timeout(Duration::from_secs(50), from.write(&[7; 500])).await {
            sent += written.unwrap();
        }
        sleep(Duration::from_secs(30 * 60)).await;
        for _ in 0..sent {
            assert_eq!(to.read_u8().await.unwrap(), 7);
        }
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(begun.elapsed().as_secs(), 60 * 60);
    serving.await.unwrap().unwrap();
}
