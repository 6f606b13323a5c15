//! Clients and API servers that hold a session up, and clients that hold a connection.

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_bastion::{Config, Security, control};
use spdy_kube::client::Transport;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use self::support::{Folder, OUTPUT, SOON, Test, api::Api, raw};

const ALL: [Transport; 2] = [Transport::WebSocket, Transport::Spdy];

const SILENT: &str = "/api/v1/namespaces/default/pods/silent";

fn with_socket(config: &mut Config, folder: &Folder) {
    config.socket = Some(folder.0.join("socket"));
}

/// Waits until there is one session, and ends it by order.
async fn kill(test: &Test, message: &str) {
    let socket = test.folder.0.join("socket");
    let live = async {
        loop {
            if let [session] = &control::sessions(&socket).await.unwrap()[..] {
                return session["session"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let id = timeout(SOON, live).await.expect("session is live soon");
    control::kill(&socket, &id, message).await.unwrap();
}

#[tokio::test]
async fn a_session_that_the_api_server_does_not_answer_can_be_killed() {
    for transport in ALL {
        let test = Test::start(with_socket).await;
        for (number, target) in ["exec?command=id&stdout=1", "portforward"]
            .into_iter()
            .enumerate()
        {
            let onward = test.onward(&format!("{SILENT}/{target}"));
            let client = test.kube(transport);
            let asking = async {
                match target {
                    "portforward" => client.forward(onward).await.err().unwrap(),
                    _ => client.exec(onward, OUTPUT).await.err().unwrap(),
                }
            };
            let (refused, ()) = tokio::join!(timeout(SOON, asking), kill(&test, "too slow"));
            let refused = refused.expect("client is refused soon");
            assert_eq!(refused.refusal().unwrap().to_string(), "too slow");
            let end = &test.audit(2 * number + 2).await[2 * number + 1];
            assert_eq!(end["ended_by_bastion"], "too slow");
            assert_eq!(end["message"], "too slow");
        }
    }
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_a_request_for_streams_is_a_504() {
    let test = Test::start(|config, _| config.limits.answer = Duration::from_millis(200)).await;
    for target in ["exec?command=id&stdout=1", "attach?stdout=1"] {
        let onward = test.onward(&format!("{SILENT}/{target}"));
        let client = test.kube(Transport::Spdy);
        let asking = timeout(SOON, client.exec(onward, OUTPUT));
        let refused = asking.await.expect("client is refused soon").err().unwrap();
        assert_eq!(refused.http_status().unwrap(), 504);
    }
    let audit = test.audit(4).await;
    assert_eq!(audit[3]["outcome"], "failure");
}

/// It is asked over WebSocket after that.
#[tokio::test]
async fn an_api_server_that_refuses_spdy_and_is_silent_then_has_given_the_reason() {
    let test = Test::start(|config, _| config.limits.answer = Duration::from_secs(4)).await;
    let silent = "/api/v1/namespaces/default/pods/silent-after-spdy";
    let onward = test.onward(&format!("{silent}/exec?command=id&stdout=1"));
    let client = test.kube(Transport::Spdy);
    let asking = timeout(SOON, client.exec(onward, OUTPUT));
    let refused = asking.await.expect("client is refused soon").err().unwrap();
    assert_eq!(refused.http_status().unwrap(), 404);
    let reason = "pods \"missing\" not found";
    assert_eq!(refused.refusal().unwrap().to_string(), reason);
    let end = &test.audit(2).await[1];
    assert_eq!(end["outcome"], "failure");
    assert_eq!(end["message"], reason);
    assert_eq!(test.api.seen().len(), 2);
}

/// The client of the port-forward answers PINGs, and does not read what is forwarded.
#[tokio::test]
async fn a_port_forward_that_is_not_read_can_be_killed() {
    for transport in ALL {
        let test = Test::start(with_socket).await;
        let request = test.onward("/api/v1/namespaces/default/pods/demo/portforward");
        let client = test.kube(transport);
        let forward = timeout(SOON, client.forward(request))
            .await
            .unwrap()
            .unwrap();
        let mut connection = forward.open(80).await.unwrap();
        // More than all windows have place for: the echo is held up.
        let piece = vec![b'x'; 64 * 1024];
        let writing = async { while connection.write_all(&piece).await.is_ok() {} };
        // The pause lets the echo run into the windows.
        _ = timeout(Duration::from_millis(500), writing).await;
        kill(&test, "enough").await;
        assert_eq!(test.audit(2).await[1]["ended_by_bastion"], "enough");
        timeout(SOON, forward.closed())
            .await
            .expect("connection is lost soon");
    }
}

#[tokio::test]
async fn a_command_that_is_not_read_can_be_killed() {
    for transport in ALL {
        let test = Test::start(with_socket).await;
        let _remote = test.exec_over(transport, &["flood"], OUTPUT).await.unwrap();
        kill(&test, "enough").await;
        let end = &test.audit(2).await[1];
        assert_eq!(end["ended_by_bastion"], "enough");
        assert_eq!(end["message"], "enough");
    }
}

/// A session that is cut at a shutdown has its audit line too.
#[tokio::test]
async fn after_a_shutdown_nothing_of_a_session_is_left() {
    for transport in ALL {
        let mut test =
            Test::start(|config, _| config.limits.drain = Duration::from_millis(200)).await;
        let request = test.onward("/api/v1/namespaces/default/pods/demo/portforward");
        let client = test.kube(transport);
        let forward = timeout(SOON, client.forward(request))
            .await
            .unwrap()
            .unwrap();
        let bastion = test.bastion.take().unwrap();
        timeout(SOON, bastion.shutdown("bye"))
            .await
            .expect("shutdown ends soon");
        let audit = test.audit(0).await;
        assert_eq!(audit.last().unwrap()["ended_by_bastion"], "bye");
        timeout(SOON, forward.closed())
            .await
            .expect("connection is lost soon");
    }
}

#[tokio::test]
async fn a_dropped_bastion_ends_sessions_at_once() {
    for transport in ALL {
        let mut test = Test::start(|_, _| {}).await;
        let mut remote = test.exec_over(transport, &["wait"], OUTPUT).await.unwrap();
        let mut stdout = remote.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 8]).await.unwrap();
        drop(test.bastion.take());
        let mut rest = Vec::new();
        _ = timeout(SOON, stdout.read_to_end(&mut rest))
            .await
            .expect("session ends soon");
        assert_eq!(test.audit(2).await[1]["event"], "end");
    }
}

/// Makes a connection over HTTP/2.
async fn http2<B>(test: &Test) -> http2::SendRequest<B>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<spdy_kube::BoxError>,
{
    let io = test.connect_with(&[b"h2"]).await;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn an_idle_connection_over_http_2_is_closed() {
    let test = Test::start(|config, _| config.limits.head = Duration::from_millis(200)).await;
    // One that has never sent its preface, and one that had a request.
    let mut silent = test.connect_with(&[b"h2"]).await;
    let mut sender = http2::<Empty<Bytes>>(&test).await;
    let mut request = Request::get(format!("https://{}/watch", test.address))
        .body(Empty::new())
        .unwrap();
    test.authorize(&mut request);
    let response = timeout(SOON, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    timeout(SOON, silent.read_to_end(&mut Vec::new()))
        .await
        .expect("silent connection ends soon")
        .ok();
    // A response that has not ended keeps its connection.
    assert!(!sender.is_closed());
    test.api.tell("a");
    test.api.end_watches();
    let body = timeout(SOON, response.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(body.to_bytes(), "a");
    let closed = async {
        while sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, closed)
        .await
        .expect("idle connection ends soon");
}

#[tokio::test]
async fn requests_over_http_2_are_limited() {
    let test = Test::start(|_, _| {}).await;
    let sender = http2::<Empty<Bytes>>(&test).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..=100 {
        let mut request = Request::get(format!("https://{}/watch", test.address))
            .body(Empty::new())
            .unwrap();
        test.authorize(&mut request);
        let mut sender = sender.clone();
        asking.spawn(async move { sender.send_request(request).await.unwrap() });
    }
    let mut answered = Vec::new();
    for _ in 0..100 {
        let response = timeout(SOON, asking.join_next()).await.unwrap();
        answered.push(response.unwrap().unwrap());
    }
    // The pause shows that nothing happens.
    let last = timeout(Duration::from_millis(200), asking.join_next()).await;
    assert!(last.is_err() && test.api.seen().len() == 100);
    drop(answered.pop());
    let last = timeout(SOON, asking.join_next()).await;
    last.expect("request is sent soon");
}

/// An API server with TLS, which prefers HTTP/2 and allows a few requests on a connection.
async fn http2_api() -> Api {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = authority.signing_key.serialize_der().try_into().unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let mut config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![authority.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut api = Api::start_secured(config).await;
    let data = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, authority.cert.pem());
    api.cluster = format!(", tls-server-name: localhost, certificate-authority-data: {data}");
    api
}

/// An API server limits the requests on a connection over HTTP/2. If users shared one, some watches
/// would hold up all others.
#[tokio::test]
async fn watches_of_one_user_do_not_hold_up_others() {
    let test = Test::in_front_of(http2_api().await, |_, _| {}).await;
    let sender = http2::<Empty<Bytes>>(&test).await;
    let mut watches = Vec::new();
    for _ in 0..20 {
        let mut request = Request::get(format!("https://{}/watch", test.address))
            .body(Empty::new())
            .unwrap();
        test.authorize(&mut request);
        let response = timeout(SOON, sender.clone().send_request(request)).await;
        watches.push(response.expect("watch begins soon").unwrap());
    }
    assert_eq!(test.get("/version").await.status(), 202);
}

/// A server behind the bastion might take a trailer for a field.
#[tokio::test]
async fn trailers_of_a_request_do_not_pass() {
    let test = plain().await;
    for field in ["Trailer: Impersonate-User\r\n", ""] {
        let head = "POST /trailers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                    TE: trailers\r\nTransfer-Encoding: chunked\r\n";
        let body = "1\r\na\r\n0\r\nImpersonate-User: root\r\n\r\n";
        let answer = raw(test.address, &format!("{head}{field}\r\n{body}")).await;
        assert!(answer.ends_with("\r\n\r\nNone"), "{answer}");
    }
}

async fn plain() -> Test {
    Test::start(|config, _| config.security = Security::Plain).await
}

/// Nothing in a body becomes a request, and both sides read the same body.
#[tokio::test]
async fn a_request_of_two_lengths_has_one_body_or_none() {
    let test = plain().await;
    let body = "5\r\nabcde\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (fields, is_refused) in [
        // The transfer coding counts.
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", false),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", false),
        ("Content-Length: 3\r\nContent-Length: 5\r\n", true),
        ("Content-Length: 3\r\nTransfer-Encoding: identity\r\n", true),
        ("Content-Length: +3\r\n", true),
        ("Content-Length: 3, 3\r\n", true),
        ("Transfer-Encoding: chunked, identity\r\n", true),
        ("Transfer-Encoding : chunked\r\n", true),
    ] {
        let head =
            format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
        let answer = raw(test.address, &(head + body)).await;
        let status = if is_refused {
            "HTTP/1.1 4"
        } else {
            "HTTP/1.1 202 "
        };
        assert!(answer.starts_with(status), "{fields:?}: {answer}");
        assert_eq!(
            answer.contains("abcde"),
            !is_refused,
            "{fields:?}: {answer}"
        );
    }
    for seen in test.api.seen() {
        assert_eq!(
            (seen.target.as_str(), seen.all("content-length")),
            ("/echo", vec![])
        );
    }
}

#[tokio::test]
async fn the_body_of_a_request_that_is_refused_is_not_waited_for() {
    let test = Test::start(|config, folder| {
        config.security = Security::Plain;
        config.users.tokens = Some(folder.write("tokens", "a,b\n"));
    })
    .await;
    for length in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let head = format!("POST /api HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n");
        // The body never comes, and the client does not close.
        let answer = raw(test.address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn a_head_without_an_end_is_refused_at_a_limit() {
    let test = plain().await;
    let mut socket = TcpStream::connect(test.address).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        .await
        .unwrap();
    let mut sent = 0;
    let field = format!("x: {}\r\n", "a".repeat(8000));
    let sending = async {
        while socket.write_all(field.as_bytes()).await.is_ok() {
            sent += field.len();
            let mut answer = [0; 12];
            if let Ok(Ok(length)) =
                timeout(Duration::from_millis(20), socket.read(&mut answer)).await
            {
                assert!(length == 0 || answer.starts_with(b"HTTP/1.1 431"));
                break;
            }
        }
    };
    timeout(SOON, sending).await.expect("bastion refuses soon");
    assert!(sent <= 256 * 1024, "{sent}");
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_request_along() {
    let test = plain().await;
    let mut socket = TcpStream::connect(test.address).await.unwrap();
    socket
        .write_all(b"GET /watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    socket.read_exact(&mut [0; 12]).await.unwrap();
    drop(socket);
    let gone = async {
        while test.api.has_watches() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone).await.expect("API server notices soon");
}

/// Otherwise a client without credentials could hold all connections, with a request now and then.
#[tokio::test]
async fn a_connection_ends_when_credentials_are_refused() {
    let mut test = Test::start(|config, _| config.limits.head = 10 * SOON).await;
    test.token = Some("wrong".to_owned());
    let mut socket = test.connect_with(&[b"http/1.1"]).await;
    let head = format!("GET /version HTTP/1.1\r\nHost: {}\r\n\r\n", test.address);
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(SOON, socket.read_to_end(&mut answer));
    _ = read.await.expect("connection ends soon");
    assert!(answer.starts_with(b"HTTP/1.1 401 "));

    let mut sender = http2::<Empty<Bytes>>(&test).await;
    let mut request = Request::get(format!("https://{}/version", test.address))
        .body(Empty::new())
        .unwrap();
    test.authorize(&mut request);
    let response = timeout(SOON, sender.send_request(request)).await.unwrap();
    assert_eq!(response.unwrap().status(), 401);
    let closed = async {
        while sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, closed).await.expect("connection ends soon");
}

/// It answers PINGs, and grants no window for the response.
#[tokio::test]
async fn a_client_over_http_2_without_credentials_that_does_not_read_is_not_waited_for() {
    let mut test = Test::start(|config, _| config.limits.head = Duration::from_secs(1)).await;
    test.token = Some("wrong".to_owned());
    let io = test.connect_with(&[b"h2"]).await;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(io))
        .await
        .unwrap();
    let ends = tokio::spawn(connection);
    let mut request = Request::get(format!("https://{}/version", test.address))
        .body(Empty::<Bytes>::new())
        .unwrap();
    test.authorize(&mut request);
    let response = timeout(SOON, sender.send_request(request)).await.unwrap();
    assert_eq!(response.as_ref().unwrap().status(), 401);
    _ = timeout(SOON, ends).await.expect("connection ends soon");
}

/// Starts an API server that answers each connection with some bytes, again and again if they do
/// not end.
async fn raw_api(bytes: &'static str, is_endless: bool) -> Api {
    let mut api = Api::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    api.address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                _ = socket.read(&mut [0; 4096]).await;
                _ = socket.write_all(bytes.as_bytes()).await;
                let rest = "x: a\r\n".repeat(1000);
                while is_endless && socket.write_all(rest.as_bytes()).await.is_ok() {}
                _ = socket.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    api
}

#[tokio::test]
async fn an_api_server_that_breaks_the_rules_is_a_502() {
    for (bytes, is_endless) in [
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            false,
        ),
        ("SSH-2.0-OpenSSH\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n", true),
    ] {
        let test = Test::in_front_of(raw_api(bytes, is_endless).await, |_, _| {}).await;
        let response = test.get("/version").await;
        assert_eq!(response.status(), 502, "{bytes:?}");
        for transport in ALL {
            let exec = test.exec_over(transport, &["id"], OUTPUT).await;
            let refused = exec.err().unwrap();
            assert_eq!(refused.http_status().unwrap(), 502, "{bytes:?}");
        }
        let audit = test.audit(4).await;
        assert!(
            audit
                .iter()
                .all(|line| line["event"] == "start" || line["outcome"] == "failure")
        );
    }
}

/// Two lengths of a response are one for the client.
#[tokio::test]
async fn a_response_of_two_lengths_has_one() {
    let bytes = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nabcde\r\n0\r\n\r\n";
    let test = Test::in_front_of(raw_api(bytes, false).await, |_, _| {}).await;
    let response = test.get("/version").await;
    assert_eq!(response.headers().get("content-length"), None);
    assert_eq!(response.body(), "abcde");
}

/// The most memory of the program for a session that is held up: its client reads nothing, and the
/// command writes without an end.
#[tokio::test]
async fn a_session_that_is_not_read_costs_little() {
    const SESSIONS: usize = 20;
    const MOST: u64 = 1536 * 1024;
    let api = Api::start().await;
    let folder = Folder::new();
    folder.write("upstream", &api.kubeconfig());
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_spdy-bastion"))
        .args([
            "--kubeconfig",
            "upstream",
            "--listen",
            "127.0.0.1:0",
            "--plain",
            "--audit",
            "audit",
        ])
        .current_dir(&folder.0)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = async {
        loop {
            let line = printed.next_line().await.unwrap().unwrap();
            if let Some(address) = line.strip_prefix("# spdy-bastion listens on ") {
                return address.parse().unwrap();
            }
        }
    };
    let address = timeout(SOON, address).await.unwrap();
    let test = Test::of_program(api, address);
    let memory = || {
        let path = format!("/proc/{}/status", child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kibibytes: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        kibibytes * 1024
    };
    // What is allocated once is not counted.
    let mut held = Vec::new();
    for transport in ALL {
        held.push(test.exec_over(transport, &["flood"], OUTPUT).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = memory();
    for transport in ALL.into_iter().cycle().take(SESSIONS) {
        held.push(test.exec_over(transport, &["flood"], OUTPUT).await.unwrap());
    }
    // The pause lets the output run into the windows.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = memory().saturating_sub(before) / SESSIONS as u64;
    println!("{} KiB for a session", each / 1024);
    assert!(each <= MOST, "{each} bytes for a session");
}

/// hyper refuses such a request before any service sees it, with an empty response.
#[tokio::test]
async fn a_command_line_that_is_too_long_is_refused_with_a_status() {
    let test = plain().await;
    let command = "a".repeat(66_000);
    let target = format!("/api/v1/namespaces/default/pods/demo/exec?command={command}&stdout=1");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = raw(test.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer}");
    assert!(answer.contains("\"kind\":\"Status\""), "{answer}");
    assert!(answer.contains("65534 bytes"), "{answer}");
}
