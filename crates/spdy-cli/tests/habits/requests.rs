//! What is sent, and how often: heads, redirects, other attempts, the time of the user.

use std::{fs, io::Read, net::TcpListener, sync::Arc, thread, time::Duration};

use axum::{Router, body::Body, http::StatusCode, routing::any};
use tokio::{sync::Notify, time::timeout};

use super::{
    PROTOCOLS,
    common::{Running, directory, run, tool},
    get_by, start,
};

#[tokio::test]
async fn the_head_the_user_and_the_agent_are_those_of_the_flags() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let words = ["-u", "me:secret", "-A", "me/1", &url("/mirror")];
        let text = get_by(protocol, &words).await.success();
        assert!(
            text.contains("authorization: Basic bWU6c2VjcmV0\n"),
            "{text}"
        );
        assert!(text.contains("user-agent: me/1\n"), "{text}");
        let text = get_by(protocol, &["-A", "", &url("/mirror")]).await;
        let text = text.success();
        assert!(!text.contains("user-agent"), "{text}");
        let text = get_by(protocol, &["-I", &url("/digits")]).await.success();
        assert!(text.contains(" 200 OK\r\n"), "{text}");
        assert!(text.contains("content-length: 10\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        // The fields are shown with every protocol.
        let ran = get_by(protocol, &["-v", "-H", "x-a: b", &url("/digits")]).await;
        assert!(ran.stderr.contains(" x-a: b\n"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(" content-length: 10\n"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn redirects_are_followed_and_leave_credentials_behind() {
    let (server, url) = start().await;
    let (other, other_url) = start().await;
    for protocol in PROTOCOLS {
        let format = "\n%{num_redirects} %{url_effective} %{response_code}";
        let words = ["-L", "-w", format, "-u", "a:b", &url("/hop/3")];
        let text = get_by(protocol, &words).await.success();
        assert!(text.starts_with("GET /mirror\n"), "{text}");
        assert!(text.contains("authorization: "), "{text}");
        let end = format!("\n4 {} 200", url("/mirror"));
        assert!(text.ends_with(&end), "{text}");

        // The heads of the redirects come first.
        for flag in ["-i", "-I"] {
            let text = get_by(protocol, &["-L", flag, &url("/hop/1")]).await;
            let text = text.success();
            let heads: Vec<_> = text.split("\r\n\r\n").collect();
            for (head, status) in heads.iter().zip([" 301 ", " 302 ", " 200 "]) {
                assert!(head.lines().next().unwrap().contains(status), "{text}");
            }
            assert!(heads[0].contains("location: ../hop/0"), "{text}");
            assert_eq!(heads.len(), 4, "{text}");
        }

        // A POST becomes a GET, unless the status asks for the same again.
        let text = get_by(protocol, &["-L", "-d", "a", &url("/hop/0")]).await;
        let text = text.success();
        assert!(text.starts_with("GET ") && text.ends_with("\n\n"), "{text}");
        let file = format!("{}/a", directory("habits-again"));
        fs::write(&file, "again").unwrap();
        let text = get_by(protocol, &["-L", "-T", &file, &url("/same")]).await;
        let text = text.success();
        assert!(
            text.starts_with("PUT ") && text.ends_with("\n\nagain"),
            "{text}"
        );
        let ran = get_by(protocol, &["-L", "-T", "-", &url("/same")]).await;
        assert_eq!(
            ran.failure(4),
            format!(
                "{}: redirect to /mirror: standard input cannot be sent again: save it to a file, \
                 and send that",
                url("/same")
            )
        );

        let away = url(&format!("/away/{}", other.address.port()));
        let text = get_by(protocol, &["-L", "-u", "a:b", &away])
            .await
            .success();
        assert!(text.starts_with("GET /mirror\n"), "{text}");
        assert!(
            text.contains(&format!("host: {}\n", other.address)),
            "{text}"
        );
        assert!(!text.contains("authorization: "), "{text}");

        // The host of a field is meant for the first origin alone.
        let host = "host: elsewhere.test\n";
        let words = ["-L", "-H", "host: elsewhere.test"];
        let text = get_by(protocol, &[&words[..], &[&away]].concat())
            .await
            .success();
        assert!(!text.contains(host), "{text}");
        let here = url("/hop/0");
        let text = get_by(protocol, &[&words[..], &[&here]].concat())
            .await
            .success();
        assert!(text.contains(host), "{text}");

        let ran = get_by(protocol, &["-L", &url("/nowhere")]).await;
        let message = "redirect to http://[::1/: that is no valid URL";
        assert!(ran.failure(1).ends_with(message), "{ran:?}");
        let ran = get_by(protocol, &["-L", &url("/loop")]).await;
        assert!(ran.failure(1).contains("more than 50 redirects"), "{ran:?}");
        let ran = get_by(protocol, &["-L", &url("/ftp")]).await;
        assert!(ran.failure(1).contains("neither http nor https"), "{ran:?}");
        // Without the flag a redirect is a response like others.
        let text = get_by(protocol, &["-I", &url("/loop")]).await.success();
        assert!(text.contains(" 302 Found\r\n"), "{text}");
    }
    drop(other_url);
    assert_eq!(server.end().await.cut, 0);
    assert_eq!(other.end().await.cut, 0);
}

#[tokio::test]
async fn passing_failures_are_tried_again() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let flags = ["--retry", "2", "--retry-delay", "1ms", "-w", "%{http_code}"];
        let ran = get_by(protocol, &[&flags[..], &[&url("/flaky")]].concat()).await;
        assert_eq!((ran.code, &*ran.stdout), (0, &b"200"[..]), "{ran:?}");
        let again = "status 503 Service Unavailable: trying again after 1ms, ";
        assert_eq!(ran.stderr.matches(again).count(), 2, "{ran:?}");
        // Fewer attempts than there are failures.
        let flags = [
            "--retry",
            "1",
            "--retry-delay",
            "1ms",
            "-s",
            "-w",
            "%{http_code}",
        ];
        let text = get_by(protocol, &[&flags[..], &[&url("/flaky")]].concat()).await;
        assert_eq!(text.success(), "503");
        get_by(protocol, &["-s", &url("/flaky")]).await.success();
    }
    let ran = run(&[
        "get",
        "--retry",
        "3",
        "--retry-delay",
        "1ms",
        "http://127.0.0.1:1/",
    ])
    .await;
    assert_eq!(ran.code, 3);
    assert_eq!(ran.stderr.matches("trying again").count(), 3, "{ran:?}");
    assert_eq!(server.end().await.cut, 0);
}

/// A body that tells when it is dropped.
struct Held(Arc<Notify>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A response that is not wanted is not kept until the next attempt.
#[tokio::test]
async fn a_response_ends_before_the_pause() {
    let dropped = Arc::new(Notify::new());
    let drops = Arc::clone(&dropped);
    let app = Router::new().fallback(any(async move || {
        let held = Held(Arc::clone(&drops));
        let body = futures_util::stream::unfold(held, async |held| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, std::io::Error>("more"), held))
        });
        (StatusCode::SERVICE_UNAVAILABLE, Body::from_stream(body))
    }));
    let server = Running::start(app).await;
    for protocol in PROTOCOLS {
        let url = format!("http://{}/", server.address);
        let words = ["get", "-s", "--retry", "1", "--retry-delay", "1h", &url];
        let mut child = tool().args(words).args(protocol).spawn().unwrap();
        let ends = timeout(Duration::from_secs(60), dropped.notified()).await;
        child.kill().unwrap();
        child.wait().unwrap();
        ends.unwrap_or_else(|_| panic!("{protocol:?} keeps the response"));
    }
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn the_time_of_the_user_ends_a_request() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let ran = get_by(protocol, &["-m", "300ms", &url("/silent")]).await;
        let message = "timed out by --max-time before the response";
        assert!(ran.failure(1).ends_with(message), "{ran:?}");
    }
    let file = format!("{}/a", directory("habits-time"));
    let ran = run(&["get", "-m", "1s", "-o", &file, &url("/endless")]).await;
    let message = format!(
        "timed out by --max-time after 1000 of 2000 bytes, which are in {file}: \
         --continue-at - gets the rest"
    );
    assert!(ran.failure(1).ends_with(&message), "{ran:?}");
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn fields_of_the_user_take_the_place_of_others() {
    let (server, url) = start().await;
    let mirror = url("/mirror");
    for protocol in PROTOCOLS {
        let words = [
            "-A",
            "other/1",
            "-H",
            "user-agent: mine",
            "-u",
            "a:b",
            "-H",
            "authorization: own",
            "-H",
            "accept:",
            "-H",
            "x-none:",
            "-H",
            "x-empty;",
            "-H",
            "x-two: 1",
            "-H",
            "x-two: 2",
            &mirror,
        ];
        let text = get_by(protocol, &words).await.success();
        let count = |name: &str| text.matches(&format!("\n{name}: ")).count();
        let counts = [
            "user-agent",
            "authorization",
            "accept",
            "x-none",
            "x-empty",
            "x-two",
        ];
        assert_eq!(counts.map(count), [1, 1, 0, 0, 1, 2], "{text}");
        assert!(text.contains("\nuser-agent: mine\n"), "{text}");
        assert!(text.contains("\nauthorization: own\n"), "{text}");
        let words = ["-H", "content-type: text/x", "-d", "a", &mirror];
        let text = get_by(protocol, &words).await.success();
        assert_eq!(text.matches("\ncontent-type: ").count(), 1, "{text}");
    }
    assert_eq!(server.end().await.cut, 0);
}

/// A POST that may have been processed is not sent again, and neither is what cannot succeed.
#[tokio::test]
async fn only_what_may_be_sent_again_is_tried_again() {
    let (server, url) = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let lost = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut io in listener.incoming().flatten() {
            _ = io.read(&mut [0; 1000]);
        }
    });
    let refused = "http://127.0.0.1:1/";
    let away = url("/away/1");
    let [unavailable, failed, endless] = ["/status/503", "/status/500", "/loop"].map(url);
    for protocol in PROTOCOLS {
        for (words, attempts) in [
            (&["-d", "a", &*unavailable][..], 0),
            (&["-X", "PUT", "-d", "a", &unavailable], 2),
            (&["-d", "a", &failed], 0),
            (&["-X", "PUT", "-d", "a", &failed], 2),
            (&["-d", "a", &lost], 0),
            (&["-X", "PUT", "-d", "a", &lost], 2),
            (&["-d", "a", refused], 2),
            // The server has answered the POST, and the GET after it is refused.
            (&["-L", "-d", "a", &away], 0),
            (&["-L", &away], 2),
            (&["-L", &endless], 0),
        ] {
            let flags = ["--retry", "2", "--retry-delay", "1ms"];
            let ran = get_by(protocol, &[&flags[..], words].concat()).await;
            let tried = ran.stderr.matches("trying again").count();
            assert_eq!(tried, attempts, "{protocol:?} {words:?}: {ran:?}");
        }
    }
    assert_eq!(server.end().await.cut, 0);
}
