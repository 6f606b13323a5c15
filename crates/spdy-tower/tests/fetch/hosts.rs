//! Hosts in `host` fields. Such a field must not take a request to another server.

use axum::{Router, body::Body, extract::Request};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use spdy_tower::{
    Protocol,
    client::{Client, Connector, ConnectorError, FetchError, InvalidTarget, Plain, ResponseBody},
};

use super::{
    Server, acceptor, http1_on, plain,
    proxies::{Heads, by, proxy_on, through},
    tls_of, tls_on,
};
use crate::support::within;

/// Answers with what a request names: in its URI, and in its fields.
fn mirror() -> Router {
    Router::new().fallback(async |request: Request| {
        let hosts = request.headers().get_all("host").iter();
        let hosts: Vec<_> = hosts.map(|host| host.to_str().unwrap()).collect();
        format!("{} {}", request.uri(), hosts.join(" "))
    })
}

fn asked(uri: &str, host: &str) -> http::Request<Body> {
    let request = http::Request::get(uri).header("host", host);
    let request = request.header("authorization", "for a.test alone");
    request.body(Body::empty()).unwrap()
}

async fn text(response: http::Response<ResponseBody>) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    let body = within(response.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// Returns what a proxy that speaks a protocol may get: the URI, and the host.
fn told(protocol: Protocol, uri: &str, host: &str) -> Vec<String> {
    match protocol {
        // In HTTP/2 there need not be a field.
        Protocol::Http2 => vec![format!("{uri} "), format!("{uri} {host}")],
        _ => vec![format!("{uri} {host}")],
    }
}

#[tokio::test]
async fn a_proxy_is_told_the_host_of_the_uri_in_every_protocol() {
    for protocol in Protocol::ALL {
        let (server, connector) = tls_of(&[protocol.token()], mirror()).await;
        let proxy = server.uri("https", "");
        let client = Client::new(connector.clone());
        for uri in ["http://a.test/x?y", "https://a.test:8443/"] {
            let to = proxy.parse().unwrap();
            let response = within(client.send_through(&to, asked(uri, "b.test"))).await;
            let response = response.unwrap();
            assert_eq!(response.extensions().get(), Some(&protocol));
            let host = uri.split('/').nth(2).unwrap();
            let text = text(response).await;
            assert!(
                told(protocol, uri, host).contains(&text),
                "{protocol}: {text}"
            );
        }
        // The same host and port, in other words, need no tunnel.
        let client = by(connector, through(&proxy));
        for host in ["a.test", "A.test:80", "a.test:"] {
            let response = within(client.send(asked("http://a.test/", host))).await;
            let text = text(response.unwrap()).await;
            let told = told(protocol, "http://a.test/", "a.test");
            assert!(told.contains(&text), "{protocol} {host}: {text}");
        }
    }
}

/// The proxy would rather speak another protocol, and is asked for a tunnel.
#[tokio::test]
async fn a_request_with_a_host_of_its_own_goes_through_a_tunnel() {
    let server = Server::new(async |socket, _| http1_on(socket, mirror()).await).await;
    for protocol in Protocol::ALL {
        let heads = Heads::default();
        let (acceptor, trust) = acceptor(&[protocol.token(), "http/1.1"]);
        let (seen, target) = (heads.clone(), server.address);
        let proxy = Server::new(move |socket, _| {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            async move {
                let io = acceptor.accept(socket).await.unwrap();
                match io.get_ref().1.alpn_protocol() {
                    Some(b"http/1.1") => proxy_on(io, target, None, seen).await,
                    other => panic!("it speaks {other:?}"),
                }
            }
        })
        .await;
        let client = by(Connector::new(trust), through(&proxy.uri("https", "/")));
        for host in ["b.test", "a.test:81", ""] {
            let response = within(client.send(asked("http://a.test/x", host))).await;
            assert_eq!(text(response.unwrap()).await, format!("/x {host}"));
        }
        let expected = "CONNECT a.test:80 HTTP/1.1\r\nhost: a.test:80\r\n\r\n";
        assert_eq!(*heads.lock().unwrap(), [expected], "{protocol}");
    }
}

/// Two fields could mean one host to a proxy and another one to its server.
#[tokio::test]
async fn a_server_is_told_one_host() {
    for protocol in Protocol::ALL {
        let (server, connector) = tls_of(&[protocol.token()], mirror()).await;
        let client = Client::new(connector);
        let mut request = asked(&server.uri("https", "/"), "b.test");
        let second = "c.test".parse().unwrap();
        request.headers_mut().append("host", second);
        let text = text(within(client.send(request)).await.unwrap()).await;
        assert!(
            text.contains("b.test") && !text.contains("c.test"),
            "{protocol}: {text}"
        );
        assert!(!text.contains("localhost"), "{protocol}: {text}");
    }
}

#[tokio::test]
async fn a_tunnel_leads_to_the_host_of_its_target() {
    let answer = Router::new().fallback(async |request: Request| {
        let host = request.headers().get("host").cloned();
        let told = [("x-told", format!("{} {host:?}", request.uri()))];
        (StatusCode::FORBIDDEN, told)
    });
    for protocol in Protocol::ALL {
        let (acceptor, trust) = acceptor(&[protocol.token()]);
        let router = answer.clone();
        let server = Server::new(move |socket, _| tls_on(socket, acceptor.clone(), router.clone()));
        let server = server.await;
        let client = Client::new(Connector::new(trust));
        let mut request = asked("http://a.test:1/", "b.test");
        *request.method_mut() = Method::CONNECT;
        let proxy = server.uri("https", "").parse().unwrap();
        let response = within(client.send_through(&proxy, request)).await.unwrap();
        let told = response.headers()["x-told"].to_str().unwrap();
        assert!(told.starts_with("a.test:1 "), "{protocol}: {told}");
        assert!(!told.contains("b.test"), "{protocol}: {told}");
    }
}

#[tokio::test]
async fn a_request_for_a_proxy_needs_a_target() {
    let client = plain(Plain::Http1);
    let proxy = "http://127.0.0.1:1".parse().unwrap();
    for (method, uri, expected) in [
        ("GET", "/x", InvalidTarget::NotAbsolute),
        ("GET", "a.test:80", InvalidTarget::NotAbsolute),
        ("CONNECT", "/x", InvalidTarget::NotAbsolute),
        ("GET", "http://me:secret@a.test/", InvalidTarget::UserInfo),
    ] {
        let mut request = asked(uri, "a.test");
        *request.method_mut() = method.parse().unwrap();
        let refused = within(client.send_through(&proxy, request)).await;
        match refused {
            Err(FetchError::Connect(ConnectorError::Target(reason))) => {
                assert_eq!(reason, expected, "{method} {uri}");
            }
            other => panic!("{method} {uri}: {other:?}"),
        }
    }
}
