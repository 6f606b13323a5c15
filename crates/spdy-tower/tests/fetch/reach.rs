//! How servers are reached: resolvers, transports of one's own, and whom TLS trusts.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Uri;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use spdy_frame::Version;
use spdy_tests::vacant::Vacant;
use spdy_tower::{
    Builder, Protocol,
    client::{
        Client, Connector, ConnectorError, Dialed, FetchError, Plain,
        rustls::{
            ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer,
            server::WebPkiClientVerifier,
        },
    },
};
use tokio::{io::DuplexStream, net::TcpStream, time::Instant};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower::service_fn;

use super::{Server, acceptor, fetch, http1_on, router, send, tls, tls_on, trusting};

fn connector() -> Connector {
    Connector::new(trusting(RootCertStore::empty()))
}

#[tokio::test]
async fn the_addresses_of_a_resolver_are_tried_until_one_answers() {
    let server = Server::new(|socket, _| http1_on(socket, router())).await;
    let (asked, address) = (Arc::new(Mutex::new(Vec::new())), server.address);
    let seen = Arc::clone(&asked);
    let vacant = Vacant::take();
    let addresses = [vacant.address(), address];
    let connector = connector().resolver(move |host, port| {
        seen.lock().unwrap().push((host, port));
        async move { Ok(addresses.to_vec()) }
    });
    let client = Client::new(connector);
    assert_eq!(fetch(&client, "http://localhost:7/").await, "HTTP/1.1");
    assert_eq!(*asked.lock().unwrap(), [("localhost".to_owned(), 7)]);
}

#[tokio::test]
async fn a_host_without_addresses_is_an_error_of_connecting() {
    let client = Client::new(connector().resolver(async |_, _| Ok(Vec::new())));
    let error = send(&client, "http://a.test/", "").await.unwrap_err();
    assert!(error.is_connect() && error.is_retry_safe() && !error.is_timeout());
    let FetchError::Connect(ConnectorError::Transport(reason)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(reason.kind(), io::ErrorKind::NotFound);
}

/// A resolver does not get more time than the rest of connecting.
#[tokio::test(start_paused = true)]
async fn a_resolver_that_does_not_answer_is_given_up() {
    let connector = connector().timeout(Duration::from_secs(3));
    let client = Client::new(connector.resolver(|_, _| std::future::pending()));
    let began = Instant::now();
    let error = client
        .connect(&Uri::from_static("http://a.test/"))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(3));
}

/// Opens a transport in memory whose other end speaks SPDY/3.1.
fn spdy_in_memory() -> DuplexStream {
    let (near, far) = tokio::io::duplex(16 * 1024);
    tokio::spawn(async move {
        let builder = Builder::new();
        _ = builder.serve_connection(far, Version::V3_1, router()).await;
    });
    near
}

#[tokio::test]
async fn a_service_gets_the_uri_of_the_origin_and_gives_a_transport() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let service = service_fn(move |uri: Uri| {
        seen.lock().unwrap().push(uri.to_string());
        async { io::Result::Ok(spdy_in_memory()) }
    });
    let plain = Plain::Spdy(Version::V3_1);
    let client = Client::new(connector().plain(plain).service(service));
    for _ in 0..2 {
        assert_eq!(fetch(&client, "http://localhost:81/").await, "spdy/3.1");
    }
    // The second request used the same transport.
    assert_eq!(*asked.lock().unwrap(), ["http://localhost:81/"]);
}

/// The protocol that the service names is spoken, instead of that of `plain`, and without TLS.
#[tokio::test]
async fn what_a_service_has_negotiated_is_spoken_and_shared() {
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let service = service_fn(move |_: Uri| {
        *counted.lock().unwrap() += 1;
        let spdy = Dialed::new(spdy_in_memory()).negotiated(Protocol::Spdy(Version::V3_1));
        async { io::Result::Ok(spdy) }
    });
    let client = Client::new(connector().offer(&[Protocol::Http1]).service(service));
    for scheme in ["http", "https"] {
        let uri = format!("{scheme}://localhost:81/");
        let (one, other) = tokio::join!(fetch(&client, &uri), fetch(&client, &uri));
        assert_eq!((&*one, &*other), ("spdy/3.1", "spdy/3.1"), "{scheme}");
    }
    assert_eq!(*count.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_service_can_do_tls_itself() {
    let (acceptor, mut trust) = acceptor(&["spdy/3", "h2"]);
    trust.alpn_protocols = vec![b"spdy/3".to_vec()];
    let server = Server::new(move |socket, _| tls_on(socket, acceptor.clone(), router())).await;
    let (tls, address) = (TlsConnector::from(Arc::new(trust)), server.address);
    let service = service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move {
            let name = uri.host().unwrap().to_owned().try_into().unwrap();
            let io = tls
                .connect(name, TcpStream::connect(address).await?)
                .await?;
            let chosen = io.get_ref().1.alpn_protocol().unwrap_or_default();
            let protocol = Protocol::from_alpn(chosen).unwrap_or(Protocol::Http1);
            io::Result::Ok(Dialed::new(io).negotiated(protocol))
        }
    });
    let client = Client::new(connector().service(service));
    assert_eq!(fetch(&client, "https://localhost:1/").await, "spdy/3");
}

#[tokio::test]
async fn the_error_of_a_service_is_the_reason() {
    let fails = async |_: Uri| Err::<TcpStream, _>(io::Error::from(io::ErrorKind::TimedOut));
    let client = Client::new(connector().service(service_fn(fails)));
    let error = send(&client, "http://a.test/", "").await.unwrap_err();
    assert!(error.is_connect() && error.is_timeout(), "{error:?}");

    let fails = async |_: Uri| Err::<TcpStream, _>("no such host");
    let client = Client::new(connector().service(service_fn(fails)));
    let error = send(&client, "http://a.test/", "").await.unwrap_err();
    let FetchError::Connect(ConnectorError::Transport(reason)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(reason.to_string(), "no such host");
}

#[tokio::test]
async fn an_unknown_certificate_is_accepted_only_on_demand() {
    let (server, _) = tls(&["spdy/3.1"]).await;
    let uri = server.uri("https", "/");
    let strict = Client::new(connector());
    let error = send(&strict, &uri, "").await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");

    let careless = Client::new(connector().danger_accept_invalid_certs());
    assert_eq!(fetch(&careless, &uri).await, "spdy/3.1");
}

/// Returns a server that asks for a certificate, the roots that trust it, and the certificate that
/// it wants.
pub(super) async fn server_that_asks_for_a_certificate()
-> (Server, RootCertStore, CertifiedKey<rcgen::KeyPair>) {
    let ours = generate_simple_self_signed(["client".to_owned()]).unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut wanted = RootCertStore::empty();
    wanted.add(ours.cert.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(wanted))
        .build()
        .unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"spdy/3.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::new(move |socket, _| tls_on(socket, acceptor.clone(), router()));
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (server.await, roots, ours)
}

#[tokio::test]
async fn the_certificate_of_the_client_is_that_of_its_configuration() {
    let (server, roots, ours) = server_that_asks_for_a_certificate().await;
    let uri = server.uri("https", "/");
    let key = PrivateKeyDer::try_from(ours.signing_key.serialize_der()).unwrap();
    let with = ClientConfig::builder()
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(vec![ours.cert.der().clone()], key)
        .unwrap();
    // It is kept if the certificate of the server is not checked.
    for connector in [
        Connector::new(with.clone()),
        Connector::new(with).danger_accept_invalid_certs(),
    ] {
        assert_eq!(fetch(&Client::new(connector), &uri).await, "spdy/3.1");
    }
    let without = Client::new(Connector::new(trusting(roots)));
    send(&without, &uri, "").await.unwrap_err();
}
