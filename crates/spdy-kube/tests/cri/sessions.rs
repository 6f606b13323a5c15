//! Every route over every transport, and what is reported of each session.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use spdy_kube::{
    Exit, Status, Streams, WebSocketCount, WebSocketCounters,
    client::Transport,
    cri::{Attach, Over, Request},
};
use spdy_session::{Count, Counters};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::{ALL, BOTH, OUT, bench, exec, outcome, ports};

const fn over(transport: Transport) -> Over {
    match transport {
        Transport::Spdy => Over::Spdy,
        _ => Over::WebSocket,
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_runs_and_is_reported() {
    let mut bench = bench(|server| server);
    for transport in BOTH {
        let request = exec(&["cat"], ALL);
        let mut remote = bench.exec(transport, request.clone()).await;
        let mut stdin = remote.stdin.take().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        stdin.shutdown().await.unwrap();
        let (status, stdout, stderr) = outcome(remote).await;
        assert_eq!(status, Status::from(Exit::code(7)));
        assert_eq!((&*stdout, &*stderr), ("hello", "oops"));

        let (told, ended) = bench.ended().await;
        assert_eq!(told, Request::Exec(request));
        assert_eq!(ended.over, over(transport));
        assert_eq!(ended.outcome, Some(status));
        assert!(ended.is_told);
        assert_eq!((ended.received, ended.sent), (5, 9), "{transport:?}");
    }
    bench.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_run_is_a_failure() {
    let mut bench = bench(|server| server);
    for transport in BOTH {
        let remote = bench.exec(transport, exec(&["nothing"], OUT)).await;
        let (status, ..) = outcome(remote).await;
        let message =
            "Internal error occurred: error executing command in container: nothing: not found";
        assert_eq!(status.to_string(), message);
        assert_eq!(bench.ended().await.1.outcome, Some(status));
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_is_attached_to() {
    let mut bench = bench(|server| server);
    for transport in BOTH {
        let container = "c42".to_owned();
        let streams = OUT;
        let attach = Attach { container, streams };
        let url = bench.server.prepare_attach(attach.clone()).unwrap();
        let remote = bench.ask(transport, &url, OUT).await.unwrap();
        let (status, stdout, _) = outcome(remote).await;
        assert_eq!((status, &*stdout), (Status::Success, "c42"));
        let (told, ended) = bench.ended().await;
        assert_eq!(told, Request::Attach(attach));
        assert_eq!((ended.received, ended.sent), (0, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_has_no_stderr() {
    let bench = bench(|server| server);
    let streams = Streams {
        stderr: false,
        tty: true,
        ..ALL
    };
    let mut remote = bench
        .exec(Transport::WebSocket, exec(&["cat"], streams))
        .await;
    remote.stdin.take().unwrap().shutdown().await.unwrap();
    assert_eq!(outcome(remote).await.0, Status::from(Exit::code(7)));
}

#[tokio::test(start_paused = true)]
async fn ports_are_forwarded_and_reported() {
    let mut bench = bench(|server| server);
    for transport in BOTH {
        let forward = bench.forward(transport).await;
        let mut connection = forward.open(80).await.unwrap();
        connection.write_all(b"hello").await.unwrap();
        connection.shutdown().await.unwrap();
        let mut echo = String::new();
        connection.read_to_string(&mut echo).await.unwrap();
        assert_eq!(echo, "hello");

        let mut refused = forward.open(9).await.unwrap();
        let error = refused.read_to_string(&mut echo).await.unwrap_err();
        let text = "error forwarding port 9 to pod s1: s1 has no port 9";
        assert!(error.to_string().contains(text), "{error}");
        drop((connection, refused, forward));

        let (told, ended) = bench.ended().await;
        assert_eq!(told, Request::PortForward(ports(&[])));
        assert_eq!(ended.over, over(transport));
        assert_eq!((ended.outcome, ended.is_told), (None, false));
        assert_eq!((ended.received, ended.sent), (5, 5), "{transport:?}");
    }
}

/// The ports come over gRPC, and not in the query.
#[tokio::test(start_paused = true)]
async fn ports_are_forwarded_over_websocket_without_spdy() {
    let mut bench = bench(|server| server);
    let url = bench.server.prepare_port_forward(ports(&[80, 9])).unwrap();
    let mut socket = bench.web_socket(&url, "v4.channel.k8s.io").await;
    socket.send(Message::binary(&b"\0hello"[..])).await.unwrap();
    let mut messages = Vec::new();
    while messages.len() < 6 {
        messages.push(socket.next().await.unwrap().unwrap().into_data());
    }
    messages.sort();
    let refusal = "\x03error forwarding port 9 to pod s1: s1 has no port 9";
    let expected = [
        "\0P\0", "\0hello", "\x01P\0", "\x02\t\0", "\x03\t\0", refusal,
    ];
    assert_eq!(messages, expected.map(Bytes::from));
    socket.close(None).await.unwrap();
    let (_, ended) = bench.ended().await;
    assert_eq!((ended.received, ended.sent), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn v4_over_websocket_gets_the_outcome_too() {
    let mut bench = bench(|server| server);
    for name in ["v4.channel.k8s.io", "v5.channel.k8s.io"] {
        let url = bench
            .server
            .prepare_exec(exec(&["sleep", "1"], OUT))
            .unwrap();
        let mut socket = bench.web_socket(&url, name).await;
        let mut last = Bytes::new();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_binary() {
                last = message.into_data();
            }
        }
        assert_eq!(
            last, "\x03{\"metadata\":{},\"status\":\"Success\"}",
            "{name}"
        );
        let (_, ended) = bench.ended().await;
        assert_eq!(ended.outcome, Some(Status::Success));
        assert!(ended.is_told && ended.duration.as_secs() >= 1);
    }
}

/// The command goes on, and ends in the time that it has.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_was_told_nothing() {
    let mut bench = bench(|server| server);
    for transport in BOTH {
        drop(bench.exec(transport, exec(&["sleep", "3"], OUT)).await);
        let (_, ended) = bench.ended().await;
        assert_eq!(ended.outcome, Some(Status::Success));
        assert!(!ended.is_told);
        drop(bench.exec(transport, exec(&["hang"], OUT)).await);
        let (_, ended) = bench.ended().await;
        assert_eq!((ended.outcome, ended.is_told), (None, false));
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_sessions_at_once_are_all_reported() {
    let mut bench = bench(|server| server);
    let sessions = (0..50).map(|number| {
        let bench = &bench;
        async move {
            let mut remote = bench.exec(BOTH[number % 2], exec(&["cat"], ALL)).await;
            let mut stdin = remote.stdin.take().unwrap();
            let input = async {
                stdin.write_all(&vec![b'x'; 20_000]).await.unwrap();
                stdin.shutdown().await.unwrap();
            };
            let ((), (status, stdout, _)) = tokio::join!(input, outcome(remote));
            assert_eq!(
                (status, stdout.len()),
                (Status::from(Exit::code(7)), 20_000)
            );
        }
    });
    futures_util::future::join_all(sessions).await;
    for _ in 0..50 {
        let (_, ended) = bench.ended().await;
        assert!(ended.is_told);
        assert_eq!((ended.received, ended.sent), (20_000, 20_004));
    }
    bench.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn websockets_are_counted_as_spdy_is() {
    let (sockets, spdy) = (
        Arc::<WebSocketCounters>::default(),
        Arc::<Counters>::default(),
    );
    let mut config = spdy_kube::config();
    config.counters = Some(Arc::clone(&spdy));
    let streams = spdy_kube::Server::new()
        .session(config)
        .web_socket_counters(Arc::clone(&sockets));
    let mut bench = bench(|server| server.streams(streams));
    for transport in BOTH {
        let mut remote = bench.exec(transport, exec(&["cat"], ALL)).await;
        let mut stdin = remote.stdin.take().unwrap();
        stdin.write_all(&[b'x'; 1000]).await.unwrap();
        stdin.shutdown().await.unwrap();
        outcome(remote).await;
        bench.ended().await;
        if transport == Transport::Spdy {
            assert!(sockets.iter().all(|(_, number)| number == 0));
        }
    }
    assert!(spdy.get(Count::BytesReceived) > 1000);
    assert_eq!(sockets.get(WebSocketCount::Begun), 1);
    assert_eq!(sockets.get(WebSocketCount::Ended), 1);
    // The input, and its end.
    assert_eq!(sockets.get(WebSocketCount::MessagesReceived), 2);
    // The first one is empty. Then follow the two outputs and the outcome.
    assert_eq!(sockets.get(WebSocketCount::MessagesSent), 4);
    for count in [WebSocketCount::BytesReceived, WebSocketCount::BytesSent] {
        assert!((1000..1300).contains(&sockets.get(count)), "{sockets:?}");
    }

    // A message that is not base64.
    let url = bench.server.prepare_exec(exec(&["cat"], ALL)).unwrap();
    let mut socket = bench.web_socket(&url, "v4.base64.channel.k8s.io").await;
    socket.send(Message::text("0!")).await.unwrap();
    bench.ended().await;
    assert_eq!(sockets.get(WebSocketCount::Refused), 1);
}
