//! Logs in JSON, and the ids of requests.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use http_body_util::{BodyExt, Empty};
use hyper::{HeaderMap, Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use spdy_server::{
    AccessLog, Config, RequestId, RequestIds, Timeouts, Version,
    app::{Proxy, proxy},
};
use spdy_tests::vacant::Vacant;
use spdy_tower::session::{self, HeaderBlock, OpenOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::common::{
    program::{LONG, Program, command, get_page, get_page_with},
    server::{Running, plain},
};

/// Returns the path of a file that does not exist yet.
fn new_log(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = fs::remove_file(&path);
    path
}

/// Waits until the file has this number of lines.
fn lines(path: &Path, number: usize) -> Vec<String> {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= number {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(start.elapsed() < LONG, "{text}");
        sleep(Duration::from_millis(10));
    }
}

fn object(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    assert!(value.is_object(), "{line}");
    value
}

/// Returns the value of a field in the head of a response.
fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n")?;
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn both_logs_are_objects_of_json() {
    let log = new_log("json.log");
    let flags = ["--log-format", "json", "--request-id", "make"];
    let to_log = ["--access-log", log.to_str().unwrap()];
    let program = Program::plain(&[&flags[..], &to_log].concat());
    let answer = get_page_with(
        program.address(1),
        "/hello?a=%22",
        "user-agent: \"caf\u{e9}\"\\\r\nreferer: http://b/\r\n",
    );
    let id = field(&answer, "x-request-id").unwrap().to_owned();
    let line = object(&lines(&log, 1)[0]);
    for (name, value) in [
        ("client.address", "127.0.0.1"),
        ("http.request.method", "GET"),
        ("url.original", "/hello?a=%22"),
        ("url.scheme", "http"),
        ("network.protocol.name", "http"),
        ("network.protocol.version", "1.1"),
        ("http.request.referrer", "http://b/"),
        ("user_agent.original", "\"caf\u{e9}\"\\"),
        ("http.request.id", &*id),
    ] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(line["end"], Value::Null);
    program.signal("TERM");
    let (status, _, stderr) = program.wait();
    assert!(status.success());
    let lines: Vec<_> = stderr.lines().map(object).collect();
    let is_shutdown = |it: &Value| {
        let message = it["message"].as_str().unwrap();
        message.starts_with("shutting down within 30 s") && it["level"] == "INFO"
    };
    assert!(lines.iter().any(is_shutdown), "{stderr}");
    for line in &lines {
        assert!(
            line["timestamp"].is_string() && line["target"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_start_that_fails_is_an_object_of_json_too() {
    let flags = ["--plain", "127.0.0.1:0", "--access-log", "/no/such/log"];
    let json = ["--log-format", "json"];
    let output = command(&[&flags[..], &json].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let last = object(stderr.lines().last().unwrap());
    let message = last["message"].as_str().unwrap();
    assert!(
        message.starts_with("cannot open the access log /no/such/log: "),
        "{stderr}"
    );
    // A filter that lets nothing through does not hide it.
    let off = ["--log", "off"];
    let output = command(&[&flags[..], &json, &off].concat())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("spdy-server: cannot open the access log"),
        "{stderr}"
    );
}

/// An application that returns the id that it sees in the fields, and the one in the extensions.
fn echo() -> Router {
    let both = async |fields: HeaderMap, id: Option<axum::Extension<RequestId>>| {
        let ids = fields.get_all("x-request-id").iter();
        let ids: Vec<_> = ids.map(|id| id.to_str().unwrap()).collect();
        format!(
            "{} {}",
            ids.join(","),
            id.map_or_else(|| "-".to_owned(), |id| id.to_string())
        )
    };
    Router::new().route("/", get(both))
}

/// Sends a request with an id over each protocol. Returns the ids of the responses, and what the
/// application has seen.
async fn answers(server: &Running, sent: &str) -> Vec<(Option<String>, String)> {
    let tcp = async || TcpStream::connect(server.address).await.unwrap();
    let mut answers = Vec::new();
    let mut io = tcp().await;
    let head =
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-request-id: {sent}\r\n\r\n");
    io.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, io.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let id = field(&answer, "x-request-id").map(str::to_owned);
    answers.push((id, body.to_owned()));

    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(tcp().await))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/").header("x-request-id", sent);
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = timeout(LONG, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let id = answer.headers().get("x-request-id").cloned();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let id = id.map(|id| id.to_str().unwrap().to_owned());
    answers.push((id, String::from_utf8(body.to_vec()).unwrap()));

    let config = session::Config::default();
    let (session, _pushes, driver) = session::client(tcp().await, Version::V3_1, config);
    tokio::spawn(driver);
    let head = HeaderBlock::from_pairs([
        (":method", "GET"),
        (":path", "/"),
        (":version", "HTTP/1.1"),
        (":host", "a"),
        (":scheme", "http"),
        ("x-request-id", sent),
    ]);
    let fin = OpenOptions::new().fin(true);
    let mut stream = session.open(head.unwrap(), fin).await.unwrap();
    let fields = timeout(LONG, stream.response_headers())
        .await
        .unwrap()
        .unwrap();
    let id = fields.get("x-request-id");
    let id = id.map(|id| String::from_utf8(id.to_vec()).unwrap());
    let mut body = String::new();
    stream.read_to_string(&mut body).await.unwrap();
    answers.push((id, body));
    answers
}

async fn start(ids: RequestIds, log: &Path, app: Router) -> Running {
    let config = Config {
        request_ids: ids,
        access_log: Some(AccessLog::File(log.to_owned())),
        ..plain(Timeouts::default())
    };
    Running::start(config, app).await
}

#[tokio::test]
async fn an_id_is_in_the_request_the_response_and_the_access_log() {
    for ids in [RequestIds::Make, RequestIds::Trust] {
        let log = new_log(&format!("ids-{ids:?}.log"));
        let server = start(ids, &log, echo()).await;
        for (sent, is_good) in [("from-the-client:1", true), ("no good", false)] {
            _ = fs::write(&log, "");
            let answers = answers(&server, sent).await;
            let lines = lines(&log, 3);
            for ((id, seen), line) in answers.iter().zip(&lines) {
                let id = id.as_deref().unwrap();
                assert_eq!(*seen, format!("{id} {id}"));
                let is_kept = is_good && ids == RequestIds::Trust;
                assert_eq!(id == sent, is_kept, "{ids:?} {id}");
                assert!(is_kept || id.len() == 32, "{id}");
                assert!(line.ends_with(&format!(" - {id}")), "{line}");
            }
        }
    }
}

#[tokio::test]
async fn without_ids_the_field_is_one_like_others() {
    let log = new_log("no-ids.log");
    let server = start(RequestIds::Off, &log, echo()).await;
    for (id, seen) in answers(&server, "theirs").await {
        assert_eq!((id, &*seen), (None, "theirs -"));
    }
    assert!(lines(&log, 3).iter().all(|line| line.ends_with(" -")));
}

/// A client that names the field in `connection` does not remove it on the way.
#[tokio::test]
async fn the_application_behind_the_proxy_gets_the_id() {
    let behind = Running::start(plain(Timeouts::default()), echo()).await;
    let upstream = format!("http://{}", behind.address).parse().unwrap();
    let log = new_log("proxied.log");
    let front = start(RequestIds::Make, &log, proxy(Proxy::new(upstream))).await;
    let address = front.address.to_string();
    let asked = tokio::task::spawn_blocking(move || {
        ["", "connection: x-request-id\r\n"].map(|fields| get_page_with(&*address, "/", fields))
    });
    for answer in asked.await.unwrap() {
        let id = field(&answer, "x-request-id").unwrap();
        assert_eq!(id.len(), 32, "{answer}");
        assert!(answer.ends_with(&format!("{id} -")), "{answer}");
    }
}

#[test]
fn what_is_logged_for_a_request_has_its_id() {
    for (format, before) in [("text", "request{id="), ("json", "\"id\":\"")] {
        let vacant = Vacant::take();
        let upstream = format!("http://{}", vacant.address());
        let flags = [
            "--proxy",
            &upstream,
            "--proxy-retry",
            "0",
            "--request-id",
            "make",
        ];
        let program = Program::plain(&[&flags[..], &["--log-format", format]].concat());
        let answer = get_page(program.address(1), "/");
        let id = field(&answer, "x-request-id").unwrap();
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        program.until_it_says(&format!("{before}{id}"));
    }
}
