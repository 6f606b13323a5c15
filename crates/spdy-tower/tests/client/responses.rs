//! What the client makes of an answer.

use axum::{
    Router,
    extract::Request,
    http::{Method, StatusCode, header::SET_COOKIE},
    response::AppendHeaders,
    routing::get as on_get,
};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use spdy_frame::{HeaderBlock, RstStatus, Version};
use spdy_tower::client::{Error, InvalidResponse};
use tower::ServiceExt;

use crate::support::{
    client::{Server, assert_reset, block, body_of, client_of, get, ok},
    in_all_versions, within,
};

#[tokio::test(start_paused = true)]
async fn a_response_has_its_status_fields_and_body() {
    in_all_versions(async |version| {
        let page = async |request: Request| {
            let uri = request.uri().to_string();
            (
                AppendHeaders([(SET_COOKIE, "a=1"), (SET_COOKIE, "b=2")]),
                uri,
            )
        };
        let requests = client_of(version, Router::new().route("/page", on_get(page)));
        let response = within(requests.oneshot(get("/page?q=1"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.version(), http::Version::HTTP_11);
        assert_eq!(response.headers()["content-length"], "23");
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(
            body_of(response.into_body()).await,
            "https://a.test/page?q=1"
        );
    })
    .await;
}

/// The server's answer to GET, and what the client makes of it.
async fn answered(
    version: Version,
    method: Method,
    head: HeaderBlock,
    payload: &'static str,
) -> Result<(http::response::Parts, Bytes), Error> {
    let (requests, mut server) = Server::new(version);
    let mut request = get("/");
    *request.method_mut() = method;
    let response = requests.send(request);
    let (_receive, reply) = server.accept().await.split();
    let mut send = reply.send_reply(head, false).unwrap();
    send.send_data(payload.into(), false).unwrap();
    match within(response).await {
        Ok(response) => {
            send.finish().unwrap();
            let (head, body) = response.into_parts();
            Ok((head, body_of(body).await))
        }
        Err(error) => {
            assert_reset(send, RstStatus::PROTOCOL_ERROR).await;
            Err(error)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c157_a_wrong_content_length_is_ignored() {
    in_all_versions(async |version| {
        for length in ["3", "30", "x"] {
            let head = ok(version, &[("content-length", length)]);
            let (head, body) = answered(version, Method::GET, head, "12345").await.unwrap();
            assert_eq!(head.headers["content-length"], length);
            assert_eq!(body, "12345");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_size_hint_of_a_response_is_its_content_length() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        for (method, status, length, hints) in [
            (Method::GET, "200", Some("5"), [Some(5), Some(2), Some(0)]),
            (Method::GET, "404", None, [None, None, Some(0)]),
            (Method::GET, "200", Some("five"), [None, None, Some(0)]),
            // Wrong ones are heeded until they are known to be wrong.
            (Method::GET, "200", Some("2"), [Some(2), None, Some(0)]),
            (
                Method::GET,
                "200",
                Some("30"),
                [Some(30), Some(27), Some(0)],
            ),
            (Method::HEAD, "200", Some("5"), [Some(0); 3]),
            (Method::GET, "204", None, [Some(0); 3]),
            (Method::GET, "304", Some("5"), [Some(0); 3]),
        ] {
            let mut request = get("/");
            *request.method_mut() = method.clone();
            let response = requests.send(request);
            let mut pairs = vec![(":status", status), (":version", "HTTP/1.1")];
            pairs.extend(length.map(|length| ("content-length", length)));
            let (_receive, reply) = server.accept().await.split();
            let mut send = reply.send_reply(block(version, &pairs), false).unwrap();
            let mut body = within(response).await.unwrap().into_body();
            let what = format!("{method} {status} {length:?}");
            let mut seen = vec![body.size_hint().exact()];
            send.send_data("123".into(), false).unwrap();
            if hints[0] != Some(0) {
                within(body.frame()).await.unwrap().unwrap();
            }
            seen.push(body.size_hint().exact());
            send.send_data("45".into(), true).unwrap();
            within(async { while body.frame().await.is_some() {} }).await;
            seen.push(body.size_hint().exact());
            assert_eq!(seen, hints, "{what}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c158_a_head_without_status_or_version_is_reset() {
    in_all_versions(async |version| {
        use InvalidResponse::{Field, HttpVersion, HttpVersionMissing, Status, StatusMissing};
        for (pairs, reason) in [
            (&[(":status", "200")][..], HttpVersionMissing),
            (&[(":version", "HTTP/1.1")], StatusMissing),
            (&[], StatusMissing),
            (&[(":status", ""), (":version", "HTTP/1.1")], Status),
            (&[(":status", "20"), (":version", "HTTP/1.1")], Status),
            (&[(":status", "2000"), (":version", "HTTP/1.1")], Status),
            (&[(":status", "two"), (":version", "HTTP/1.1")], Status),
            (
                &[(":status", "100 Continue"), (":version", "HTTP/1.1")],
                Status,
            ),
            (
                &[(":status", "200\x00404"), (":version", "HTTP/1.1")],
                Status,
            ),
            (&[(":status", "200"), (":version", "SPDY/3")], HttpVersion),
            (
                &[(":status", "200"), (":version", "HTTP/1.1"), ("a b", "")],
                Field,
            ),
            (
                &[(":status", "200"), (":version", "HTTP/1.1"), ("a", "\x01")],
                Field,
            ),
        ] {
            let head = block(version, pairs);
            let error = answered(version, Method::GET, head, "").await.unwrap_err();
            assert!(
                matches!(error, Error::Response(found) if found == reason),
                "{pairs:?}: {error:?}"
            );
            assert!(!error.is_retry_safe());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c159_c160_responses_to_head_and_with_204_and_304_have_no_body() {
    in_all_versions(async |version| {
        for (method, status) in [
            (Method::HEAD, "200"),
            (Method::GET, "204"),
            (Method::GET, "304"),
        ] {
            let head = block(version, &[(":status", status), (":version", "HTTP/1.1")]);
            let (head, body) = answered(version, method, head, "not to be").await.unwrap();
            assert_eq!((head.status.as_str(), &body[..]), (status, &b""[..]));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c165_a_reason_phrase_is_ignored() {
    in_all_versions(async |version| {
        for status in ["404", "404 Not Found", "404 "] {
            let head = block(version, &[(":status", status), (":version", "HTTP/1.1")]);
            let (head, _) = answered(version, Method::GET, head, "").await.unwrap();
            assert_eq!(head.status, StatusCode::NOT_FOUND);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn joined_values_are_split_and_unknown_meta_headers_dropped() {
    in_all_versions(async |version| {
        let mut head = ok(
            version,
            &[
                ("set-cookie", "a=1\x00b=2"),
                ("vary", "x\x00y"),
                ("connection", "close"),
            ],
        );
        head.append(":new", "1").unwrap();
        let (head, _) = answered(version, Method::GET, head, "").await.unwrap();
        let all = |name| head.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(all("vary"), ["x", "y"]);
        assert_eq!(head.headers.keys_len(), 2);
    })
    .await;
}
