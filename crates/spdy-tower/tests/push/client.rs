//! What the client makes of it.

use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use spdy_frame::{RstStatus, Version};
use spdy_session::{Config, OpenOptions, PendingStream};
use spdy_tower::{
    Builder,
    client::{Pushed, Pushes, ResponseFuture, SendRequest},
};
use tokio::io::duplex;

use super::page;
use crate::support::{
    client::{Server, assert_reset, block, body_of, get, ok},
    in_all_versions, within,
};

/// The client of this crate with a request under way, and how its server opens a push.
struct Pair {
    version: Version,
    requests: SendRequest,
    pushes: Pushes,
    server: Server,
    response: Option<(ResponseFuture, PendingStream)>,
}

impl Pair {
    fn new(version: Version) -> Self {
        let (requests, pushes, server) = Server::with_pushes(version);
        Self {
            version,
            requests,
            pushes,
            server,
            response: None,
        }
    }

    /// Sends a request, and pushes `pairs` with it. Returns the push as the client
    /// receives it, and the server's end of it.
    async fn push(&mut self, pairs: &[(&str, &str)]) -> (Option<Pushed>, spdy_session::SendStream) {
        let response = self.requests.send(get("/page"));
        let stream = self.server.accept().await;
        let how = OpenOptions::new()
            .unidirectional(true)
            .associated(stream.id());
        let head = block(self.version, pairs);
        let (_, send) = within(self.server.session.open(head, how))
            .await
            .unwrap()
            .split();
        let mut send = send;
        self.response = Some((response, stream));
        let pushed = tokio::select! {
            pushed = within(self.pushes.next()) => Some(pushed.unwrap()),
            _ = send.closed() => None,
        };
        (pushed, send)
    }
}

/// What a push says it answers.
fn identity(version: Version) -> Vec<(&'static str, &'static str)> {
    match version {
        Version::V2 => vec![(":path", "https://a.test/style.css")],
        _ => vec![
            (":scheme", "https"),
            (":host", "a.test"),
            (":path", "/style.css"),
        ],
    }
}

const HEAD: [(&str, &str); 3] = [
    (":status", "200 OK"),
    (":version", "HTTP/1.1"),
    ("content-type", "text/css"),
];

#[tokio::test(start_paused = true)]
async fn a_push_of_the_adapter_reaches_the_client() {
    in_all_versions(async |version| {
        let (near, far) = duplex(16 * 1024);
        let undated = Builder::new().auto_date_header(false);
        tokio::spawn(undated.serve_connection(far, version, page()));
        let mut config = Config::default();
        config.accept_push = true;
        let (requests, mut pushes, driver) = spdy_tower::client::handshake(near, version, config);
        tokio::spawn(driver);
        let response = within(requests.send(get("/"))).await.unwrap();
        let pushed = within(pushes.next()).await.unwrap();
        assert_eq!(pushed.request().method(), "GET");
        assert_eq!(pushed.request().uri(), "https://a.test/style.css?v=1");
        let style = within(pushed.response()).await.unwrap();
        assert_eq!(style.headers()[CONTENT_TYPE], "text/css");
        assert_eq!(style.headers().len(), 2, "{:?}", style.headers());
        assert_eq!(http_body::Body::size_hint(style.body()).exact(), Some(17));
        assert_eq!(body_of(style.into_body()).await, "p { color: navy }");
        assert_eq!(body_of(response.into_body()).await, "page");
    })
    .await;
}

/// As Netty does it.
#[tokio::test(start_paused = true)]
async fn the_head_of_a_push_may_come_later() {
    in_all_versions(async |version| {
        let mut pair = Pair::new(version);
        let (pushed, mut send) = pair.push(&identity(version)).await;
        send.send_headers(block(version, &HEAD), false).unwrap();
        send.send_data("style".into(), true).unwrap();
        let style = within(pushed.unwrap().response()).await.unwrap();
        assert_eq!(style.headers()[CONTENT_TYPE], "text/css");
        assert_eq!(body_of(style.into_body()).await, "style");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c174_c175_a_push_without_the_request_that_it_answers_is_reset() {
    in_all_versions(async |version| {
        let identity = identity(version);
        for missing in 0..identity.len() {
            let mut pairs = identity.clone();
            pairs.remove(missing);
            pairs.extend(HEAD);
            let (pushed, send) = Pair::new(version).push(&pairs).await;
            assert!(pushed.is_none());
            assert_reset(send, RstStatus::PROTOCOL_ERROR).await;
        }
        for odd in [(":path", "no path"), (":method", "POST"), (":path", "")] {
            let mut pairs = identity.clone();
            pairs.retain(|&(name, _)| name != odd.0);
            pairs.push(odd);
            let (pushed, send) = Pair::new(version).push(&pairs).await;
            assert!(pushed.is_none(), "{odd:?}");
            assert_reset(send, RstStatus::PROTOCOL_ERROR).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c177_a_push_of_another_origin_is_refused() {
    in_all_versions(async |version| {
        for (scheme, host, is_same) in [
            ("https", "a.test", true),
            ("https", "A.test:443", true),
            ("https", "b.test", false),
            ("https", "a.test:444", false),
            ("http", "a.test", false),
            ("https", "a.test.b.test", false),
        ] {
            let url = format!("{scheme}://{host}/style.css");
            let mut pairs = match version {
                Version::V2 => vec![(":path", &*url)],
                _ => vec![
                    (":scheme", scheme),
                    (":host", host),
                    (":path", "/style.css"),
                ],
            };
            pairs.extend(HEAD);
            let (pushed, send) = Pair::new(version).push(&pairs).await;
            assert_eq!(pushed.is_some(), is_same, "{url}");
            if !is_same {
                assert_reset(send, RstStatus::REFUSED_STREAM).await;
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c178_headers_that_repeat_one_of_a_push_reset_it() {
    in_all_versions(async |version| {
        // Of the first block, before the head is whole.
        let mut pair = Pair::new(version);
        let (pushed, mut send) = pair.push(&identity(version)).await;
        let mut repeated = identity(version);
        repeated.extend(HEAD);
        send.send_headers(block(version, &repeated), false).unwrap();
        assert!(within(pushed.unwrap().response()).await.is_err());
        assert_reset(send, RstStatus::PROTOCOL_ERROR).await;

        // And behind it.
        let mut pairs = identity(version);
        pairs.extend(HEAD);
        let mut pair = Pair::new(version);
        let (pushed, mut send) = pair.push(&pairs).await;
        send.send_headers(block(version, &HEAD[2..]), false)
            .unwrap();
        let style = within(pushed.unwrap().response()).await.unwrap();
        assert!(within(style.into_body().collect()).await.is_err());
        assert_reset(send, RstStatus::PROTOCOL_ERROR).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_push_without_a_head_is_reset() {
    in_all_versions(async |version| {
        let mut pair = Pair::new(version);
        let (pushed, mut send) = pair.push(&identity(version)).await;
        send.send_data("style".into(), false).unwrap();
        assert!(within(pushed.unwrap().response()).await.is_err());
        assert_reset(send, RstStatus::PROTOCOL_ERROR).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_push_that_is_dropped_is_cancelled() {
    in_all_versions(async |version| {
        let mut pairs = identity(version);
        pairs.extend(HEAD);
        let mut pair = Pair::new(version);
        let (pushed, send) = pair.push(&pairs).await;
        drop(pushed.unwrap());
        assert_reset(send, RstStatus::CANCEL).await;

        let mut pair = Pair::new(version);
        let (pushed, send) = pair.push(&pairs).await;
        drop(within(pushed.unwrap().response()).await.unwrap());
        assert_reset(send, RstStatus::CANCEL).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pushes_are_refused_unless_asked_for() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let response = requests.send(get("/page"));
        let stream = server.accept().await;
        let how = OpenOptions::new()
            .unidirectional(true)
            .associated(stream.id());
        let mut pairs = identity(version);
        pairs.extend(HEAD);
        // Either the client's SETTINGS have come, or it refuses the stream.
        if let Ok(push) = within(server.session.open(block(version, &pairs), how)).await {
            assert_reset(push.split().1, RstStatus::REFUSED_STREAM).await;
        }
        let (_, reply) = stream.split();
        reply.send_reply(ok(version, &[]), true).unwrap();
        assert_eq!(within(response).await.unwrap().status(), 200);
    })
    .await;
}
