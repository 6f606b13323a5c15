//! TLS with proxies, which is apart from that with servers.

use spdy_tower::client::{Client, Connector, ConnectorError, FetchError};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer},
};

use super::{
    Server, acceptor, fetch,
    proxies::{Heads, by, proxy_on, through, untrusting},
    reach::server_that_asks_for_a_certificate,
    router, send, tls, tls_of, tls_on, trusting,
};

/// A proxy that opens a tunnel to a server for every CONNECT, and knows one protocol of its own.
async fn proxy(acceptor: TlsAcceptor, server: &Server) -> Server {
    let target = server.address;
    Server::new(move |socket, _| {
        let acceptor = acceptor.clone();
        async move {
            // A client that does not trust it leaves.
            if let Ok(io) = acceptor.accept(socket).await {
                assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
                proxy_on(io, target, None, Heads::default()).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_proxy_with_tls_is_asked_over_http1() {
    let (server, connector) = tls(&["spdy/3"]).await;
    // It would rather speak HTTP/2.
    let (acceptor, trust) = acceptor(&["h2", "http/1.1"]);
    let proxy = proxy(acceptor, &server).await;
    let client = by(
        connector.proxy_tls(trust),
        through(&proxy.uri("https", "/")),
    );
    assert_eq!(fetch(&client, "https://localhost:1/").await, "spdy/3");
    assert_eq!((proxy.count(), server.count()), (1, 1));
}

/// Neither for a tunnel nor for a request that it sends on, in whatever order the connector is set.
#[tokio::test]
async fn the_certificate_of_a_proxy_is_checked_although_those_of_servers_are_not() {
    let (server, _) = tls(&["spdy/3"]).await;
    let (acceptor, trust) = acceptor(&["http/1.1"]);
    let proxy = proxy(acceptor, &server).await;
    let through = || through(&proxy.uri("https", "/"));
    let none = || trusting(RootCertStore::empty());
    for connector in [
        untrusting().danger_accept_invalid_certs(),
        untrusting().danger_accept_invalid_certs().proxy_tls(none()),
        untrusting().proxy_tls(none()).danger_accept_invalid_certs(),
    ] {
        let client = by(connector, through());
        for uri in ["https://localhost:1/", "http://localhost:1/"] {
            let error = send(&client, uri, "").await.unwrap_err();
            assert!(error.is_connect() && !error.is_timeout() && !error.is_remote());
            let FetchError::Connect(error) = error else {
                panic!("{uri}: {error:?}")
            };
            assert!(matches!(error, ConnectorError::ProxyTls(_)), "{error:?}");
            assert_eq!(error.to_string(), "TLS with the proxy failed");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains("UnknownIssuer"), "{cause}");
        }
    }
    let trusting = untrusting().proxy_tls(trust);
    let client = by(trusting.danger_accept_invalid_certs(), through());
    assert_eq!(fetch(&client, "https://localhost:1/").await, "spdy/3");
    assert_eq!(fetch(&client, "http://localhost:1/").await, "forwarded");
}

/// A proxy that sends requests on may speak each protocol that is offered.
#[tokio::test]
async fn a_proxy_chooses_among_the_protocols_that_are_offered() {
    for (alpn, expected) in [("spdy/3.1", "spdy/3.1"), ("h2", "HTTP/2.0")] {
        let (acceptor, trust) = acceptor(&[alpn]);
        let server = Server::new(move |socket, _| tls_on(socket, acceptor.clone(), router()));
        let server = server.await;
        let client = by(
            untrusting().proxy_tls(trust),
            through(&server.uri("https", "/")),
        );
        assert_eq!(fetch(&client, "http://localhost:1/").await, expected);
    }
}

/// A connection to a server may be one that was not checked.
#[tokio::test]
async fn a_connection_to_a_server_is_not_used_as_one_to_a_proxy_at_the_same_place() {
    let (server, connector) = tls_of(&["spdy/3.1"], router()).await;
    let proxy = through(&server.uri("https", "/"));
    let client = Client::new(connector.proxies(move |uri| {
        let is_plain = uri.scheme_str() == Some("http");
        Ok(is_plain.then(|| proxy.clone()))
    }));
    for (uri, connections) in [
        (&*server.uri("https", "/"), 1),
        ("http://localhost:1/", 2),
        (&*server.uri("https", "/"), 2),
    ] {
        assert_eq!(fetch(&client, uri).await, "spdy/3.1");
        assert_eq!(server.count(), connections);
    }
}

/// A certificate for servers is not shown to a proxy, and one for proxies is.
#[tokio::test]
async fn a_proxy_gets_the_certificate_that_is_for_proxies() {
    let (proxy, roots, ours) = server_that_asks_for_a_certificate().await;
    let key = PrivateKeyDer::try_from(ours.signing_key.serialize_der()).unwrap();
    let with = ClientConfig::builder()
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(vec![ours.cert.der().clone()], key)
        .unwrap();
    let through = || through(&proxy.uri("https", "/"));
    for for_servers in [
        Connector::new(with.clone()),
        Connector::new(with.clone()).danger_accept_invalid_certs(),
        Connector::new(with.clone()).proxy_tls(trusting(roots)),
    ] {
        let client = by(for_servers, through());
        send(&client, "http://localhost:1/", "").await.unwrap_err();
    }
    let client = by(untrusting().proxy_tls(with.clone()), through());
    assert_eq!(fetch(&client, "http://localhost:1/").await, "spdy/3.1");
    // As a server the same one gets it.
    let client = Client::new(Connector::new(with));
    assert_eq!(fetch(&client, &proxy.uri("https", "/")).await, "spdy/3.1");
}
