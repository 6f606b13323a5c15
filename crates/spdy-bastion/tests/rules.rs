//! Rules deny and limit sessions, and no spelling of a request evades them.

mod support;

use std::time::Duration;

use http::Request;
use spdy_bastion::Security;
use spdy_kube::{Status, client::Transport};
use tokio::time::timeout;

use self::support::{INPUT, OUTPUT, SOON, Test, outcome, raw, read};

/// A bastion without TLS that denies the container `secret`.
async fn without_secret() -> Test {
    Test::start(|config, folder| {
        config.security = Security::Plain;
        let rules = "[[rule]]\ncontainer = \"secret\"\ndeny = true\nmessage = \"not this one\"\n";
        config.rules = Some(folder.write("rules", rules));
    })
    .await
}

#[tokio::test]
async fn a_rule_denies_with_its_message_and_an_audit_line() {
    let test = without_secret().await;
    let target = "/api/v1/namespaces/default/pods/demo/exec?container=secret&command=id&stdout=1";
    for transport in [Transport::WebSocket, Transport::Spdy] {
        let denied = test
            .kube(transport)
            .exec(test.onward(target), OUTPUT)
            .await
            .unwrap_err();
        assert_eq!(denied.http_status().unwrap(), 403);
        assert_eq!(denied.refusal().unwrap().to_string(), "not this one");
    }
    assert!(test.api.seen().is_empty());
    for line in test.audit(2).await {
        assert_eq!(
            (&line["event"], &line["kind"]),
            (&"denied".into(), &"rule".into())
        );
        assert_eq!(
            (&line["user"], &line["reason"]),
            (&"owner".into(), &"not this one".into())
        );
        assert_eq!(line["target"], target.split('?').next().unwrap());
        assert_eq!(
            (&line["container"], &line["command"], &line["verb"]),
            (&"secret".into(), &"id".into(), &"exec".into())
        );
    }
}

#[tokio::test]
async fn a_denied_line_has_no_query_and_is_not_long() {
    let test = Test::start(|_, _| {}).await;
    let long = format!("/a//{}", "b".repeat(5000));
    let proxy = "/api/v1/namespaces/default/services/web/proxy/";
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    for (path, fields) in [("/a//b", &[][..]), (&*long, &[]), (proxy, &upgrade)] {
        let target = format!("{path}?token=s3cret");
        let response = test.send(Request::get(target), fields).await;
        assert_eq!(response.status(), 403, "{path}");
    }
    let lines = test.audit(3).await;
    let targets = lines.iter().map(|line| line["target"].as_str().unwrap());
    let cut = format!("{}[5004 bytes]", &long[..4096]);
    assert_eq!(targets.collect::<Vec<_>>(), ["/a//b", &*cut, proxy]);
    assert!(lines.iter().all(|line| line["event"] == "denied"));
    let text = std::fs::read_to_string(test.folder.0.join("audit")).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_denied_line_says_what_was_asked_for() {
    let test = without_secret().await;
    let exec = "GET /api/v1/namespaces/default/pods/demo/exec?stdout=1";
    for start in [
        format!("{exec}&container=demo&command=a%00b HTTP/1.1"),
        format!("{exec}&container=DEMO&command=id HTTP/1.1"),
        format!("{exec}&container=demo&command=id HTTP/1.1\r\nImpersonate-User: root"),
        "CONNECT user:s3cret@10.0.0.1:6443 HTTP/1.1".to_owned(),
    ] {
        let head = format!("{start}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(test.address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{start}: {answer}");
    }
    let lines = test.audit(4).await;
    assert!(lines.iter().all(|line| line["kind"] == "unknown"));
    let commands = lines.iter().map(|line| line["command"].as_str());
    let expected = [Some("'a\0b'"), Some("id"), Some("id"), None];
    assert_eq!(commands.collect::<Vec<_>>(), expected);
    assert_eq!(lines[1]["container"], "DEMO");
    assert_eq!(lines[3]["target"], "10.0.0.1:6443");
}

#[tokio::test]
async fn no_spelling_leads_to_a_denied_container() {
    let test = without_secret().await;
    let pod = "/api/v1/namespaces/default/pods/demo";
    for target in [
        // The first of several values counts for the API server.
        format!("{pod}/exec?container=secret&container=demo&command=id&stdout=1"),
        format!("{pod}/exec?command=id&stdout=1&container=%73ecret"),
        format!("{pod}/exec?container=demo;x&container=secret&command=id&stdout=1"),
        format!("{pod}/exec?container=%zz&container=secret&command=id&stdout=1"),
        format!("{pod}/exec?container=secret%00&command=id&stdout=1"),
        format!("{pod}/exec?container=SECRET&command=id&stdout=1"),
        format!("{pod}/exec?container=secret+&command=id&stdout=1"),
        format!("{pod}/exec?container=&container=secret&command=id&stdout=1"),
        format!("{pod}/exec?command=id&stdout=1"),
        format!("{pod}/attach?container=secret&stdout=1"),
        format!("{pod}/exec?container=demo&command=a%00b&stdout=1"),
        format!("{pod}/exec/?container=demo&command=id&stdout=1"),
        format!("{pod}/%65xec?container=secret&command=id&stdout=1"),
        format!("{pod}/Exec?container=secret&command=id&stdout=1"),
        format!("/{pod}/exec?container=secret&command=id&stdout=1"),
        format!("/x/..{pod}/exec?container=secret&command=id&stdout=1"),
        format!("{pod}%2Fexec?container=secret&command=id&stdout=1"),
        "/api/v1/nodes/n/proxy/exec/default/demo/secret?command=id&output=1".to_owned(),
        "/api/v1/nodes/n/proxy/run/default/demo/secret?cmd=id".to_owned(),
        "/api/v1/proxy/nodes/n/run/default/demo/secret?cmd=id".to_owned(),
        "/api/v1/namespaces/default/pods/demo/proxy/shell".to_owned(),
    ] {
        for upgrade in [
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\n",
            "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n",
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n");
            // A second request behind the first one is served, and then the connection ends.
            let last = "GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let answer = raw(test.address, &(head + last)).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{target}: {answer}");
        }
    }
    let targets: Vec<_> = test
        .api
        .seen()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert!(
        targets.iter().all(|target| target == "/last"),
        "{targets:?}"
    );
    let audit = test.audit(42).await;
    assert_eq!(audit.len(), 42);
    assert!(
        audit.iter().all(|line| line["event"] == "denied"),
        "{audit:?}"
    );
}

#[tokio::test]
async fn what_follows_an_upgraded_request_is_no_request() {
    let test = without_secret().await;
    let head = "POST /api/v1/namespaces/default/pods/demo/exec?container=demo&command=wait&stdout=1 \
         HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = raw(test.address, &format!("{head}{hidden}")).await;
    assert!(!answer.contains("HTTP/1.1 202"), "{answer}");
    assert!(
        !test
            .api
            .seen()
            .iter()
            .any(|seen| seen.target.contains("hidden"))
    );
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

#[tokio::test]
async fn a_time_limit_ends_a_command_and_a_port_forward() {
    let test = Test::start(|config, folder| {
        config.rules = Some(folder.write("rules", "[[rule]]\ntime-limit = 1\n"));
    })
    .await;
    let mut remote = test.exec(&["wait"], OUTPUT).await.unwrap();
    assert_eq!(read(&mut remote.stdout).await, "waiting\n");
    assert_eq!(
        outcome(remote).await.to_string(),
        "time limit of 1 s is over"
    );
    let audit = test.audit(2).await;
    assert_eq!(audit[0]["time_limit"], 1);
    assert_eq!(audit[1]["ended_by_bastion"], "time limit of 1 s is over");

    let target = "/api/v1/namespaces/default/pods/demo/portforward";
    let client = test.kube(Transport::WebSocketFirst);
    let forward = timeout(SOON, client.forward(test.onward(target)))
        .await
        .unwrap()
        .unwrap();
    timeout(SOON, forward.closed())
        .await
        .expect("session is cut soon");
    let audit = test.audit(4).await;
    assert_eq!(audit[3]["ended_by_bastion"], "time limit of 1 s is over");
}

#[tokio::test]
async fn a_rule_decides_what_is_recorded() {
    let test = Test::start(|config, folder| {
        let rules = "[[rule]]\nnamespace = \"default\"\nrecord = \"input\"\n\
                     [[rule]]\nnamespace = \"quiet\"\nrecord = false\n";
        config.rules = Some(folder.write("rules", rules));
    })
    .await;
    let mut remote = test.exec(&["cat"], INPUT).await.unwrap();
    let mut stdin = remote.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"typed\n")
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut stdin)
        .await
        .unwrap();
    assert_eq!(read(&mut remote.stdout).await, "typed\n");
    assert_eq!(outcome(remote).await, Status::Success);
    let audit = test.audit(2).await;
    assert!(test.recording(&audit[1]).contains(",\"i\",\"typed\\n\"]"));

    let target =
        "/api/v1/namespaces/quiet/pods/demo/exec?container=demo&command=exit&command=0&stdout=1";
    let quiet = test.kube(Transport::WebSocketFirst);
    let remote = quiet.exec(test.onward(target), OUTPUT).await.unwrap();
    assert_eq!(outcome(remote).await, Status::Success);
    let audit = test.audit(4).await;
    assert_eq!(audit[3].get("recording"), None);
}

#[tokio::test]
async fn a_file_of_rules_with_an_unknown_key_is_refused_with_its_line() {
    let folder = support::Folder::new();
    let kubeconfig = folder.write(
        "k",
        "current-context: a\ncontexts: [{name: a, context: {cluster: a}}]\n\
         clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n",
    );
    let upstream = spdy_bastion::Kubeconfig::load(&kubeconfig, Default::default()).unwrap();
    let mut config = spdy_bastion::Config::new(upstream);
    config.listen.set_port(0);
    config.recordings = folder.0.join("recordings");
    config.rules = Some(folder.write("rules", "[[rule]]\nuser = \"a\"\ndenny = true\n"));
    let error = spdy_bastion::Bastion::start(config)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/rules: ") && error.contains("line 3"),
        "{error}"
    );
    assert!(error.contains("unknown field `denny`"), "{error}");
}

#[tokio::test]
async fn no_more_sessions_begin_than_the_limit() {
    let test = Test::start(|config, _| config.limits.sessions = 1).await;
    let mut first = test.exec(&["wait"], OUTPUT).await.unwrap();
    let mut stdout = first.stdout.take().unwrap();
    let mut piece = [0; 8];
    tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut piece)
        .await
        .unwrap();
    let refused = test.exec(&["wait"], OUTPUT).await.unwrap_err();
    assert_eq!(refused.http_status().unwrap(), 429);
    drop((first, stdout));
    // The first session has ended when its audit line is there.
    test.audit(2).await;
    let again = async {
        while test.exec(&["echo", "a"], OUTPUT).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, again).await.expect("place is free soon");
}

#[tokio::test]
async fn audit_lines_do_not_control_a_terminal() {
    let test = Test::start(|_, _| {}).await;
    let evil = "\u{1b}]0;x\u{7}\n{\"event\":\"end\"}\u{9b}2J\u{202e}";
    let mut remote = test.exec(&["echo", evil], OUTPUT).await.unwrap();
    read(&mut remote.stdout).await;
    test.audit(2).await;
    let text = std::fs::read_to_string(test.folder.0.join("audit")).unwrap();
    assert!(
        text.bytes()
            .all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2);
}
