//! Exec, attach and port-forward pass through the relay, with recordings and audit lines.

mod support;

use http::Request;
use sha2::{Digest, Sha256};
use spdy_kube::{Status, client::Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use self::support::{INPUT, OUTPUT, SOON, TTY, Test, outcome, read};

const ALL: [Transport; 2] = [Transport::WebSocket, Transport::Spdy];

/// A terminal shows U+FFFD. Without one, nothing is lost.
#[tokio::test]
async fn bytes_that_are_not_text_are_recorded_as_they_are_without_a_terminal() {
    let test = Test::start(|_, _| {}).await;
    for (streams, expected, line) in [
        (INPUT, ",\"b\",\"Yf9i\"]", 1),
        (TTY, ",\"o\",\"a\u{fffd}b\"]", 3),
    ] {
        let mut remote = test.exec(&["cat"], streams).await.unwrap();
        let mut stdin = remote.stdin.take().unwrap();
        stdin.write_all(b"a\xffb").await.unwrap();
        stdin.shutdown().await.unwrap();
        let mut echoed = Vec::new();
        let mut stdout = remote.stdout.take().unwrap();
        stdout.read_to_end(&mut echoed).await.unwrap();
        assert_eq!(echoed, b"a\xffb");
        assert_eq!(outcome(remote).await, Status::Success);
        let audit = test.audit(line + 1).await;
        let recording = test.recording(&audit[line]);
        assert!(recording.contains(expected), "{recording}");
    }
}

#[tokio::test]
async fn a_command_passes_and_is_recorded_and_audited() {
    for transport in ALL {
        let test = Test::start(|_, _| {}).await;
        let mut remote = test
            .exec_over(transport, &["echo", "a b", "ü'"], OUTPUT)
            .await
            .unwrap();
        assert_eq!(read(&mut remote.stdout).await, "a b ü'");
        assert_eq!(outcome(remote).await, Status::Success);
        // Nothing is translated.
        let asked = match transport {
            Transport::Spdy => "SPDY/3.1",
            _ => "websocket",
        };
        assert_eq!(test.api.only().all("upgrade"), [asked]);
        let audit = test.audit(2).await;
        let [start, end] = &audit[..] else {
            panic!("{audit:?}")
        };
        assert_eq!(start["event"], "start");
        for (name, value) in [
            ("user", "owner"),
            ("by", "owner"),
            ("verb", "exec"),
            ("namespace", "default"),
            ("pod", "demo"),
            ("container", "demo"),
            ("command", "echo 'a b' 'ü'\\'''"),
        ] {
            assert_eq!(
                (&start[name], &end[name]),
                (&value.into(), &value.into()),
                "{name}"
            );
        }
        assert_eq!(
            (&end["event"], &end["outcome"]),
            (&"end".into(), &"success".into())
        );
        assert_eq!(
            (&end["bytes_in"], &end["bytes_out"]),
            (&0.into(), &7.into())
        );
        assert_eq!(start["session"], end["session"]);
        assert_eq!(start["recording"], end["recording"]);
        let recording = test.recording(end);
        let hash: String = Sha256::digest(&recording)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(end["recording_sha256"], hash.as_str());
        assert_eq!(end["recording_bytes"], recording.len());
        assert!(recording.starts_with("{") && recording.contains("\"version\":2"));
        assert!(recording.contains(",\"o\",\"a b ü'\"]"), "{recording}");
        assert!(
            recording.contains("owner: exec default/demo/demo echo"),
            "{recording}"
        );
        let seen = test.api.seen();
        let last = seen.last().unwrap();
        let query = "command=echo&command=a+b&command=%C3%BC%27&container=demo&stdout=true";
        assert!(
            last.target.ends_with(&format!("/exec?{query}")),
            "{}",
            last.target
        );
    }
}

#[tokio::test]
async fn input_passes_to_its_end_and_is_not_recorded_by_default() {
    for transport in ALL {
        let test = Test::start(|_, _| {}).await;
        let mut remote = test.exec_over(transport, &["cat"], INPUT).await.unwrap();
        let mut stdin = remote.stdin.take().unwrap();
        let text = "0123456789abcdef".repeat(64 * 1024);
        let sent = text.clone();
        let writing = tokio::spawn(async move {
            stdin.write_all(sent.as_bytes()).await.unwrap();
            stdin.shutdown().await.unwrap();
        });
        assert!(read(&mut remote.stdout).await == text);
        writing.await.unwrap();
        assert_eq!(outcome(remote).await, Status::Success);
        let audit = test.audit(2).await;
        assert_eq!(
            (&audit[1]["bytes_in"], &audit[1]["bytes_out"]),
            (&text.len().into(), &text.len().into())
        );
        let recording = test.recording(&audit[1]);
        assert!(recording.contains(",\"o\",") && !recording.contains(",\"i\","));
    }
}

#[tokio::test]
async fn the_exit_code_and_a_refusal_pass() {
    let test = Test::start(|_, _| {}).await;
    let remote = test.exec(&["exit", "137"], OUTPUT).await.unwrap();
    let Status::Exit(exit) = outcome(remote).await else {
        panic!()
    };
    assert_eq!(exit.get(), 137);
    let audit = test.audit(2).await;
    assert_eq!(
        (&audit[1]["outcome"], &audit[1]["exit_code"]),
        (&"exit".into(), &137.into())
    );

    let missing = test.onward("/api/v1/namespaces/default/pods/missing/exec?command=id&stdout=1");
    let error = test
        .kube(Transport::WebSocketFirst)
        .exec(missing, OUTPUT)
        .await
        .unwrap_err();
    assert_eq!(error.http_status().unwrap(), 404);
    // WebSocket first, and then SPDY.
    let audit = test.audit(6).await;
    let refused = audit[2..].iter().filter(|line| line["event"] == "end");
    assert_eq!(refused.clone().count(), 2);
    for end in refused {
        assert_eq!(end["outcome"], "failure");
        assert_eq!(end["message"], "pods \"missing\" not found");
    }
}

#[tokio::test]
async fn attach_and_a_terminal_pass() {
    let test = Test::start(|_, _| {}).await;
    let attach = test.onward("/api/v1/namespaces/default/pods/demo/attach?stdout=true");
    let mut remote = test
        .kube(Transport::WebSocketFirst)
        .attach(attach, OUTPUT)
        .await
        .unwrap();
    assert_eq!(read(&mut remote.stdout).await, "attached");
    assert_eq!(outcome(remote).await, Status::Success);
    assert_eq!(test.audit(2).await[1]["verb"], "attach");
    let mut remote = test.exec(&["echo", "tty"], TTY).await.unwrap();
    assert_eq!(read(&mut remote.stdout).await, "tty");
    assert_eq!(test.audit(4).await[2]["tty"], true);
}

#[tokio::test]
async fn a_port_forward_passes_and_its_ports_are_audited() {
    for transport in ALL {
        let test = Test::start(|_, _| {}).await;
        let request = test.onward("/api/v1/namespaces/default/pods/demo/portforward");
        let client = test.kube(transport);
        let forward = timeout(SOON, client.forward(request))
            .await
            .unwrap()
            .unwrap();
        for port in [8080, 9090] {
            let mut connection = forward.open(port).await.unwrap();
            connection.write_all(b"hello").await.unwrap();
            let mut echo = [0; 5];
            timeout(SOON, connection.read_exact(&mut echo))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(&echo, b"hello");
        }
        drop(forward);
        let audit = test.audit(2).await;
        assert_eq!(audit[1]["verb"], "port-forward");
        assert_eq!(audit[1]["ports"], serde_json::json!([8080, 9090]));
        assert_eq!(
            (&audit[1]["bytes_in"], &audit[1]["bytes_out"]),
            (&10.into(), &10.into())
        );
        assert_eq!(audit[1]["recording"], serde_json::Value::Null);
    }
}

#[tokio::test]
async fn a_request_for_streams_without_an_upgrade_is_refused() {
    let test = Test::start(|_, _| {}).await;
    let target = "/api/v1/namespaces/default/pods/demo/exec?command=id&stdout=1";
    let response = test.send(Request::post(target), &[]).await;
    assert_eq!(response.status(), 400);
    assert!(test.api.seen().is_empty());
    assert_eq!(test.audit(2).await[1]["outcome"], "failure");
}

#[tokio::test]
async fn without_a_recording_there_is_no_session() {
    let test = Test::start(|_, _| {}).await;
    std::fs::remove_dir_all(test.folder.0.join("recordings")).unwrap();
    let error = test.exec(&["echo", "a"], OUTPUT).await.unwrap_err();
    assert_eq!(error.http_status().unwrap(), 500);
    assert!(error.to_string().contains("cannot be recorded"), "{error}");
    assert!(test.api.seen().is_empty());
}
