//! How a server is reached: addresses, certificates, and what messages advise.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};

use super::{
    PROTOCOLS, app,
    common::{Running, Site, directory, run, spdy, tool},
    get_by, start,
};

#[tokio::test]
async fn a_host_is_reached_at_another_address() {
    let (server, url) = start().await;
    let port = server.address.port();
    for protocol in PROTOCOLS {
        for words in [
            ["--resolve", &format!("a.invalid:{port}:127.0.0.1")],
            ["--connect-to", &format!("a.invalid::127.0.0.1:{port}")],
        ] {
            let there = format!("http://a.invalid:{port}/mirror");
            let text = get_by(protocol, &[&words[..], &[&there]].concat()).await;
            let text = text.success();
            assert!(
                text.contains(&format!("host: a.invalid:{port}\n")),
                "{text}"
            );
        }
    }
    drop(url);
    assert_eq!(server.end().await.cut, 0);
}

/// A server that wants a certificate gets that of `--cert`, with the key beside it or in it.
#[tokio::test]
async fn the_client_has_the_certificate_of_its_flags() {
    let directory = directory("habits-certificate");
    let [server, client] = ["127.0.0.1", "client.test"]
        .map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap());
    let write = |name: &str, text: String| {
        let path = format!("{directory}/{name}");
        fs::write(&path, text).unwrap();
        path
    };
    let cert = write("cert", client.cert.pem());
    let key = write("key", client.signing_key.serialize_pem());
    let both = client.cert.pem() + &client.signing_key.serialize_pem();
    let both = write("both", both);
    let mut roots = RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![server.cert.der().clone()],
            server.signing_key.serialize_der().try_into().unwrap(),
        );
    let server = Running::tls(app(), config.unwrap()).await;
    let url = format!("https://{}/mirror", server.address);
    for protocol in PROTOCOLS {
        for flags in [&["-E", &cert, "--key", &key][..], &["--cert", &both]] {
            let words = [&["-k"], flags, &[&*url]].concat();
            let text = get_by(protocol, &words).await.success();
            assert!(text.starts_with("GET /mirror\n"), "{text}");
        }
    }
    let ran = run(&["get", "-k", &url]).await;
    assert!([1, 3].contains(&ran.code), "{ran:?}");
    // The server's alert can be lost with its connection.
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    let ran = run(&["get", "-k", "--cert", &cert, &url]).await;
    let message = format!("no private key found in {cert}: use --key");
    assert_eq!(ran.failure(4), message);
    let ran = run(&["get", "-k", "--cert", &key, &url]).await;
    assert_eq!(ran.failure(4), format!("no certificate found in {key}"));
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn a_certificate_of_an_authority_is_not_that_of_a_server() {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let roots = format!("{}/roots", directory("habits-authority"));
    fs::write(&roots, made.pem()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.der().clone()],
            key.serialize_der().try_into().unwrap(),
        );
    let server = Running::tls(app(), config.unwrap()).await;
    let url = format!("https://{}/digits", server.address);
    let ran = run(&["get", "--cacert", &roots, &url]).await;
    let why = "it is one of an authority, and not of a server: make it with CA:FALSE, or accept \
               any certificate by --insecure";
    assert!(ran.failure(3).ends_with(why), "{ran:?}");
    assert_eq!(run(&["get", "-k", &url]).await.success(), "0123456789");
    assert_eq!(server.end().await.cut, 0);
}

/// The secrets of a connection are in the file of SSLKEYLOGFILE.
#[test]
fn the_secrets_of_tls_are_written_to_the_file_of_the_environment() {
    let site = Site::start("habits-secrets");
    let file = format!("{}/keys", directory("habits-keys"));
    for protocol in [&[][..], &["--http2"], &["--http1"]] {
        let output = tool()
            .args([&["get", "-k"], protocol, &[&*site.https("/hello")]].concat())
            .env("SSLKEYLOGFILE", &file)
            .output()
            .unwrap();
        assert!(output.status.success());
        let keys = fs::read_to_string(&file).unwrap();
        assert!(keys.contains("CLIENT_TRAFFIC_SECRET_0 "), "{keys}");
        fs::remove_file(&file).unwrap();
    }
}

/// A message says what to try.
#[test]
fn messages_name_the_cure() {
    let site = Site::start("habits-cures");
    let port = site.https("").rsplit(':').next().unwrap().to_owned();
    let resolve = format!("*:{port}:127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http1 = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut io in listener.incoming().flatten() {
            _ = io.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            _ = io.read_to_end(&mut Vec::new());
        }
    });
    for (words, message) in [
        (
            &[&*site.https("/")][..],
            "invalid peer certificate: UnknownIssuer: trust it by --cacert FILE, or accept any \
             certificate by --insecure",
        ),
        (
            &[
                "--cacert",
                &site.cacert,
                "--resolve",
                &resolve,
                &format!("https://b.test:{port}/"),
            ],
            "use a name of the certificate in the URL, and --connect-to for the address",
        ),
        (
            &["-k", &format!("https://{http1}/")],
            "it does not speak TLS there: try http://",
        ),
        (
            &[&format!("http://{http1}/")],
            "the server speaks HTTP/1.1 and not SPDY/3.1: try --http1",
        ),
        (
            &[
                "--version",
                "3.1",
                &site.https("/").replace("https:", "http:"),
            ],
            "the server speaks TLS and not SPDY/3.1: try https://",
        ),
    ] {
        let ran = spdy(&[&["get"][..], words].concat());
        assert!([1, 3].contains(&ran.code), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        assert!(ran.stderr.contains(message), "{ran:?}");
    }
    for (words, message) in [
        (
            &["a.test"][..],
            "the URL must begin with http:// or https://: try https://a.test or http://a.test",
        ),
        (
            &["http://a.test/ b"],
            "the URL must have a host, and its path must have no spaces: write %20",
        ),
        (&["https://"], "the URL must have a host"),
        (&["--mx-time=1", "http://a/"], "--max-time"),
        (
            &["--max-time=0", "http://a/"],
            "must be a time above zero, such as 10, 1.5s, 200ms, 2m or 1h",
        ),
        (
            &["--retry=x", "http://a/"],
            "must be a whole number of up to 32 bits",
        ),
        (
            &["-u", "me", "http://a/"],
            "must have the form USER:PASSWORD",
        ),
        (
            &["-C", "x", "http://a/"],
            "must be a number of bytes, or - for the end of the file",
        ),
        (
            &["-H", "a b: c", "http://a/"],
            "the name of a header field must have letters",
        ),
        (
            &["-A", "a\nb", "http://a/"],
            "a header field must not contain control characters",
        ),
        (
            &["-X", "A B", "http://a/"],
            "the method must be one word, such as PUT",
        ),
        (
            &["--resolve", "a", "http://a/"],
            "must have the form HOST:PORT:ADDRESS",
        ),
        (
            &["--connect-to", "a", "http://a/"],
            "must have the form HOST:PORT:HOST:PORT",
        ),
    ] {
        let ran = spdy(&[&["get"][..], words].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(message), "{ran:?}");
    }
}
