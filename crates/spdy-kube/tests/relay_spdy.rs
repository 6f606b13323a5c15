//! The relay that passes the streams of SPDY: what it gives up, and what its tap gets to know.

mod support;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Response};
use spdy_kube::{Exit, Relay, Server, Status, client, relay};
use spdy_session::{HeaderBlock, OpenOptions, RstStatus, Shutdown, StreamError};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
    sync::mpsc,
    time::{sleep, timeout},
};

use self::support::{
    SOON,
    chain::{Chain, Told, VERSION, Watching, kind},
    wires::{Wires, in_memory},
};

/// A server that does not answer would else keep them all, and the client could open no more.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_before_it_is_answered_is_given_up_at_the_server() {
    let mut chain = Chain::new("v4.channel.k8s.io").await;
    let before = Handle::current().metrics().num_alive_tasks();
    // More than there may be at once, together.
    for _ in 0..50 {
        let mut opened = Vec::new();
        for _ in 0..100 {
            let opening = chain.client.open(kind("stdin"), OpenOptions::default());
            let stream = opening.await.unwrap();
            opened.push((stream, chain.incoming.accept().await.unwrap()));
        }
        for (near, far) in opened {
            near.reset(RstStatus::PROTOCOL_ERROR);
            let (mut from, _reply) = far.split();
            let next = timeout(SOON, from.next()).await;
            let Some(Err(StreamError::Reset { status, .. })) = next.expect("it is passed on")
            else {
                panic!("it is a reset");
            };
            assert_eq!(status, RstStatus::PROTOCOL_ERROR);
        }
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
    drop(chain.open(&kind("stdin")).await);
    let Chain { client, .. } = &chain;
    client.shutdown(Shutdown::Now);
    assert_eq!(chain.outcome().await, None);
}

/// How a server ends the error stream.
#[derive(Clone, Copy, Debug)]
enum End {
    Finish,
    Reset,
    /// The server is lost.
    Lost,
    /// The client is lost.
    ClientLost,
    /// The client resets it.
    ClientReset,
}

#[tokio::test(start_paused = true)]
async fn the_tap_is_told_the_outcome_that_passed() {
    const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;
    let exit = Status::Exit(Exit::code(7));
    let json = exit.to_json();
    let text = Status::internal("error executing remote command: no such file");
    let (v4, v1) = ("v4.channel.k8s.io", "channel.k8s.io");
    let cases = [
        (v4, SUCCESS, End::Finish, Some(Status::Success)),
        (v4, SUCCESS, End::Reset, Some(Status::Success)),
        (v4, &*json, End::Finish, Some(exit.clone())),
        (v4, &*json, End::Reset, Some(exit.clone())),
        // What was not said to its end was not said.
        (v4, &*json, End::Lost, None),
        (v4, SUCCESS, End::Lost, None),
        (v4, SUCCESS, End::ClientLost, None),
        (v4, "", End::Lost, None),
        (v4, "", End::Finish, Some(Status::Success)),
        (v4, "", End::Reset, None),
        (v4, "no JSON", End::Finish, None),
        (v1, "no such file", End::Finish, Some(text.clone())),
        (v1, "no such file", End::Reset, Some(text)),
        // Old servers end a success so.
        (v1, "", End::Reset, Some(Status::Success)),
        (v1, "", End::Lost, None),
        (v1, "", End::ClientLost, None),
        // The client cannot say that the server has.
        (v1, "", End::ClientReset, None),
        ("portforward.k8s.io", "refused", End::Finish, None),
    ];
    for (protocol, said, end, expected) in cases {
        let mut chain = Chain::new(protocol).await;
        let (mut near, mut far) = chain.open(&kind("error")).await;
        let _open = chain.open(&kind("stdout")).await;
        far.write_all(said.as_bytes()).await.unwrap();
        let mut read = vec![0; said.len()];
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(read, said.as_bytes());
        match end {
            End::ClientReset => {
                near.reset(RstStatus::CANCEL);
                chain.client.ping().await.unwrap();
                sleep(SOON).await;
                chain.client.shutdown(Shutdown::Now);
                assert_eq!(chain.outcome().await, expected);
                continue;
            }
            End::Finish => far.shutdown().await.unwrap(),
            End::Reset => far.reset(RstStatus::CANCEL),
            End::Lost => chain.to_server.cut(),
            End::ClientLost => chain.to_client.cut(),
        }
        if !matches!(end, End::ClientLost) {
            _ = near.read(&mut [0]).await;
        }
        chain.client.shutdown(Shutdown::Now);
        let case = format!("{protocol} {said:?} {end:?}");
        assert_eq!(chain.outcome().await, expected, "{case}");
    }
}

/// A client cannot hide a failure behind a stream that says nothing.
#[tokio::test(start_paused = true)]
async fn of_several_outcomes_a_failure_counts() {
    for order in [["", "no such file"], ["no such file", ""]] {
        let mut chain = Chain::new("channel.k8s.io").await;
        for said in order {
            let (mut near, mut far) = chain.open(&kind("error")).await;
            far.write_all(said.as_bytes()).await.unwrap();
            far.shutdown().await.unwrap();
            near.read_to_end(&mut Vec::new()).await.unwrap();
        }
        chain.server.shutdown(Shutdown::Now);
        let outcome = chain.outcome().await.unwrap();
        assert!(outcome.to_string().contains("no such file"), "{outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tap_that_panics_ends_its_session_and_no_other() {
    for at in ["opened", "passed"] {
        let mut chain = Chain::with("v4.channel.k8s.io", Some(at)).await;
        let opened = chain.client.open(kind("error"), OpenOptions::default());
        let mut near = opened.await.unwrap();
        let mut answered = None;
        if at == "passed" {
            let far = chain.incoming.accept().await.unwrap();
            let far = answered.insert(far.send_reply(HeaderBlock::new()).unwrap());
            far.write_all(b"x").await.unwrap();
        }
        let read = timeout(SOON, near.read(&mut [0])).await;
        assert!(read.expect("it ends").is_err());
        // A stream is open, so this is no end in order.
        for session in [&chain.client, &chain.server] {
            let closed = timeout(SOON, session.closed()).await;
            assert!(closed.is_ok(), "{at}: {:?} goes on", session.side());
        }
        let told = chain.told().await;
        assert_eq!(told.last(), Some(&Told::Ended(None)), "{told:?}");
    }
}

/// A reset would look like the end of the input or the output.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_tap_ends_no_other_stream_in_order() {
    for from_client in [true, false] {
        let mut chain = Chain::with("v4.channel.k8s.io", Some("passed")).await;
        let (mut near_stdin, mut far_stdin) = chain.open(&kind("stdin")).await;
        let (mut near_stdout, mut far_stdout) = chain.open(&kind("stdout")).await;
        match from_client {
            true => near_stdin.write_all(b"x").await.unwrap(),
            false => far_stdout.write_all(b"x").await.unwrap(),
        }
        for stream in [&mut far_stdin, &mut near_stdout] {
            let read = timeout(SOON, stream.read(&mut [0])).await;
            let error = read
                .expect("it ends")
                .expect_err("it has not ended in order");
            let error = error.get_ref().and_then(|error| error.downcast_ref());
            assert!(matches!(error, Some(StreamError::Session(_))), "{error:?}");
        }
        drop((near_stdin, far_stdin, near_stdout, far_stdout));
        assert_eq!(chain.told().await.last(), Some(&Told::Ended(None)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_to_the_tap() {
    let status = Status::not_found("pods \"x\" not found");
    let said = status.clone();
    let refusing = in_memory(&Wires::default(), move |_| {
        let said = said.clone();
        async move { said.into_response() }
    });
    let lying = in_memory(&Wires::default(), |_| async {
        let mut response = Response::new(Status::Success.to_json());
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        response
    });
    for (server, expected) in [
        (boxed(refusing), status.to_string()),
        (boxed(lying), Status::Success.to_json()),
    ] {
        let server = Arc::new(server);
        let (news, mut told) = mpsc::unbounded_channel();
        let tap = Watching {
            news,
            panics_at: None,
        };
        let way = in_memory(&Wires::default(), move |mut request| {
            let (server, tap) = (Arc::clone(&server), tap.clone());
            async move {
                let onward = client::request(request.uri());
                if request.uri().path() == "/relay" {
                    let Ok(transport) = server().into_inner();
                    relay(&mut request, onward, transport.into_inner(), tap).await
                } else {
                    let client = client::Client::new(move || server());
                    let relay = Relay::new(Server::new(), client);
                    relay.port_forward(&mut request, onward, tap).await
                }
            }
        });
        for path in ["relay", "forward"] {
            for is_upgrade in [true, false] {
                let Ok(transport) = way().into_inner();
                let mut request = client::request(&format!("http://pod/{path}").parse().unwrap());
                let name = HeaderValue::from_static("portforward.k8s.io");
                request.headers_mut().insert(VERSION, name);
                if !is_upgrade {
                    request.headers_mut().remove("upgrade");
                }
                let refused = upgrade::connect(transport.into_inner(), request).await;
                assert!(refused.is_err());
                let Some(Told::Ended(Some(outcome))) = told.recv().await else {
                    panic!("the end is reported");
                };
                assert!(matches!(outcome, Status::Failure { .. }), "{outcome:?}");
                if is_upgrade {
                    assert_eq!(outcome.to_string(), expected);
                }
            }
        }
    }
}

type Way = Box<dyn Fn() -> support::wires::Connecting + Send + Sync>;

fn boxed(way: impl Fn() -> support::wires::Connecting + Send + Sync + 'static) -> Way {
    Box::new(way)
}
