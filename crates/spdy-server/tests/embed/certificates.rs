//! The certificates of servers and clients.

use super::*;

#[tokio::test]
async fn the_certificate_that_the_server_made_can_be_trusted() {
    let server = Server::bind(tls(Certificate::SelfSigned)).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let mut roots = RootCertStore::empty();
    for certificate in server.certificates() {
        roots.add(certificate).unwrap();
    }
    tokio::spawn(server.run(app(), std::future::pending()));
    let io = Client::new(roots, "localhost").at(address).await;
    assert_eq!(fetch(io, "/certificate").await.unwrap(), "none");
}

#[tokio::test]
async fn a_certificate_in_memory_is_served_and_never_shown() {
    let made = Made::authority().sign("localhost", VALID);
    let certificate = made.as_pem();
    assert_eq!(format!("{certificate:?}"), "Pem { .. }");
    let server = Server::bind(tls(certificate)).await.unwrap();
    assert_eq!(server.certificates(), [made.der]);
}

#[tokio::test]
async fn pem_without_a_certificate_or_a_key_is_refused_at_the_start() {
    let made = Made::authority().sign("localhost", VALID);
    let other = Made::authority();
    let (chain, key) = (made.pem.clone(), made.key.serialize_pem());
    for (chain, key, message) in [
        (
            "",
            &key[..],
            "no certificate in PEM form found in the PEM text in memory",
        ),
        (
            &key[..],
            &key[..],
            "no certificate in PEM form found in the PEM text in memory",
        ),
        (
            &chain[..],
            "",
            "no private key in PEM form without a passphrase found in the PEM text in memory",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            &key[..],
            "cannot read the PEM text in memory",
        ),
        (
            &chain[..],
            &other.key.serialize_pem()[..],
            "the certificate and the key cannot be used together",
        ),
    ] {
        let certificate = Certificate::Pem {
            chain: chain.into(),
            key: key.into(),
        };
        let error = Server::bind(tls(certificate)).await.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(matches!(error, StartError::Certificate(error)
            if matches!(error, CertificateError::Refused(_)) == message.contains("together")));
    }
}

#[tokio::test]
async fn the_server_name_chooses_among_certificates_and_an_unknown_one_fails_alone() {
    let authority = Made::authority();
    let mut resolver = ResolvesServerCertUsingSni::new();
    for name in ["one.example", "two.example"] {
        let key = authority.sign(name, VALID).certified();
        resolver.add(name, key).unwrap();
    }
    let certificate = Certificate::Resolver(Arc::new(resolver));
    let server = Server::bind(tls(certificate)).await.unwrap();
    assert_eq!(server.fingerprint(), None);
    assert_eq!(server.certificates(), []);
    let address = server.endpoints()[0].address.tcp().unwrap();
    tokio::spawn(server.run(app(), std::future::pending()));
    for (name, is_served) in [
        ("one.example", true),
        ("three.example", false),
        ("two.example", true),
    ] {
        let io = Client::new(authority.roots(), name).at(address).await;
        assert_eq!(fetch(io, "/").await.is_ok(), is_served, "{name}");
    }
}

/// A resolver that has no certificate yet, as before the first answer of an ACME server.
#[tokio::test]
async fn a_configuration_without_certificates_fails_each_handshake_and_nothing_else() {
    let resolver = Arc::new(ResolvesServerCertUsingSni::new());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let server = Server::bind(Config {
        binds: vec![Bind::tls(loopback()), Bind::plain(loopback())],
        ..tls(Certificate::Rustls(Arc::new(config)))
    });
    let server = server.await.unwrap();
    let [secured, plain] = [0, 1].map(|it| server.endpoints()[it].address.tcp().unwrap());
    tokio::spawn(server.run(app(), std::future::pending()));
    for _ in 0..2 {
        let client = Client::new(RootCertStore::empty(), "localhost");
        let error = client.at(secured).await.unwrap_err();
        assert!(error.to_string().contains("alert"), "{error}");
        let io = TcpStream::connect(plain).await;
        assert_eq!(fetch(io, "/").await.unwrap(), "HTTP/1.1");
    }
}

#[tokio::test]
async fn clients_are_served_with_a_certificate_of_the_authority_and_no_other() {
    let authority = Made::authority();
    let config = authority.mutual(&authority.sign("localhost", VALID));
    let address = start(tls(Certificate::Rustls(Arc::new(config)))).await;
    let client = || Client::new(authority.roots(), "localhost");
    let person = authority.sign("someone", VALID);
    let expired = authority.sign("someone", 2001);
    let stranger = Made::authority().sign("someone", VALID);
    for (client, is_served) in [
        (client(), false),
        (client().with(&expired), false),
        (client().with(&stranger), false),
        (client().with(&person), true),
    ] {
        let answer = timeout(LONG, async {
            fetch(client.at(address).await, "/certificate").await
        });
        let answer = answer.await.expect("neither an answer nor an error");
        assert_eq!(answer.is_ok(), is_served, "{answer:?}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_client_and_the_server_goes_on() {
    let authority = Made::authority();
    let address = start(tls(authority.sign("localhost", 2001).as_pem())).await;
    for _ in 0..2 {
        let client = Client::new(authority.roots(), "localhost");
        let error = client.at(address).await.unwrap_err();
        assert!(error.to_string().contains("expired"), "{error}");
    }
}

#[tokio::test]
async fn the_protocols_of_a_configuration_are_those_that_it_names() {
    let authority = Made::authority();
    let made = authority.sign("localhost", VALID);
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.der.clone()], made.key())
        .unwrap();
    let unnamed = start(tls(Certificate::Rustls(Arc::new(config.clone())))).await;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let named = start(tls(Certificate::Rustls(Arc::new(config)))).await;
    for (address, offered, selected) in [
        (unnamed, "spdy/3.1", Some("spdy/3.1")),
        (named, "spdy/3.1", None),
        (named, "h2", Some("h2")),
    ] {
        let client = Client {
            offered,
            ..Client::new(authority.roots(), "localhost")
        };
        let io = client.at(address).await.unwrap();
        let chosen = io.get_ref().1.alpn_protocol();
        assert_eq!(chosen, selected.map(str::as_bytes), "{offered}");
        if selected.is_none() {
            assert_eq!(fetch(Ok(io), "/").await.unwrap(), "HTTP/1.1");
        }
    }
}

#[tokio::test]
async fn a_session_that_is_resumed_has_the_certificate_of_its_client() {
    let authority = Made::authority();
    let config = authority.mutual(&authority.sign("localhost", VALID));
    let address = start(tls(Certificate::Rustls(Arc::new(config)))).await;
    let person = authority.sign("someone", VALID);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(authority.roots())
            .with_client_auth_cert(vec![person.der.clone()], person.key())
            .unwrap();
        let tls = TlsConnector::from(Arc::new(config));
        let mut seen = Vec::new();
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let name = ServerName::try_from("localhost").unwrap();
            let tcp = TcpStream::connect(address).await.unwrap();
            let io = tls.connect(name, tcp).await.unwrap();
            assert_eq!(io.get_ref().1.handshake_kind(), Some(kind));
            seen.push(fetch(Ok(io), "/certificate").await.unwrap());
        }
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0].contains(':'), "{seen:?}");
    }
}

#[tokio::test]
async fn a_request_in_early_data_is_answered() {
    let authority = Made::authority();
    let made = authority.sign("localhost", VALID);
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.der.clone()], made.key())
        .unwrap();
    config.max_early_data_size = 16_384;
    let address = start(tls(Certificate::Rustls(Arc::new(config)))).await;
    let mut config = ClientConfig::builder()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    config.enable_early_data = true;
    let config = Arc::new(config);
    let client = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        for _ in 0..2 {
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut tcp = std::net::TcpStream::connect(address).unwrap();
            tcp.set_read_timeout(Some(LONG / 2)).unwrap();
            if let Some(mut early) = tls.early_data() {
                early.write_all(request).unwrap();
            }
            let mut io = rustls::Stream::new(&mut tls, &mut tcp);
            io.flush().unwrap();
            while io.conn.is_handshaking() {
                io.conn.complete_io(io.sock).unwrap();
            }
            if !io.conn.is_early_data_accepted() {
                io.write_all(request).unwrap();
            }
            let mut answer = String::new();
            io.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("HTTP/1.1"), "{answer}");
        }
    });
    client.await.unwrap();
}
