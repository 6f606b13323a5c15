//! What a server needs to start, and the errors that report what is missing.

use std::{
    error::Error,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use spdy_server::{Bind, Certificate, CertificateError, Config, Fingerprint, Server, StartError};
use tokio::net::TcpListener;

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn bind(binds: &[Bind]) -> Result<Server, StartError> {
    Server::bind(Config {
        binds: binds.to_vec(),
        ..Config::default()
    })
    .await
}

async fn bind_with(chain: &Path, key: &Path) -> Result<Server, StartError> {
    let certificate = Certificate::Files {
        chain: chain.to_owned(),
        key: key.to_owned(),
    };
    Server::bind(Config {
        binds: vec![Bind::tls(loopback())],
        certificate,
        ..Config::default()
    })
    .await
}

/// Writes a file for these tests. Each name is used once.
fn write(name: &str, text: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("start");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_port_in_use_is_named_in_the_error() {
    let taken = TcpListener::bind(loopback()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(&[Bind::plain(address)]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    // An optional address must not be in use by another server.
    let optional = Bind {
        required: false,
        ..Bind::plain(address)
    };
    let error = bind(&[optional]).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn an_address_that_may_be_missing_is_left_out() {
    // TEST-NET-1, which no machine has.
    let absent: SocketAddr = "192.0.2.1:8443".parse().unwrap();
    let optional = Bind {
        required: false,
        ..Bind::plain(absent)
    };
    let server = bind(&[Bind::plain(loopback()), optional.clone()])
        .await
        .unwrap();
    assert_eq!(server.endpoints().len(), 1);
    assert_eq!(server.left_out(), [absent.into()]);
    assert_eq!(server.fingerprint(), None);

    let error = bind(&[optional]).await.unwrap_err();
    assert!(matches!(error, StartError::NoListener), "{error}");
    let required = Bind::plain(absent);
    let error = bind(&[required]).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_another_one_at_each_start() {
    let first = bind(&[Bind::tls(loopback())])
        .await
        .unwrap()
        .fingerprint()
        .unwrap();
    let second = bind(&[Bind::tls(loopback())])
        .await
        .unwrap()
        .fingerprint()
        .unwrap();
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_certificate_and_its_key_are_read_from_files() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = write("good-chain.pem", &made.cert.pem());
    let key = write("good-key.pem", &made.signing_key.serialize_pem());
    let server = bind_with(&chain, &key).await.unwrap();
    assert_eq!(
        server.fingerprint(),
        Some(Fingerprint(Sha256::digest(made.cert.der()).into()))
    );
}

#[tokio::test]
async fn a_file_that_is_of_no_use_is_named_in_the_error() {
    let ours = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let chain = write("chain.pem", &ours.cert.pem());
    let key = write("key.pem", &ours.signing_key.serialize_pem());
    let wrong = write("wrong-key.pem", &other.serialize_pem());
    let text = write("text.pem", "hello");
    let broken = write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let none = chain.with_file_name("none.pem");

    for (chain, key, expected) in [
        (&none, &key, "none.pem"),
        (&chain, &none, "none.pem"),
        (
            &broken,
            &key,
            "broken.pem is not complete: a line `-----BEGIN …-----` or `-----END …-----` is cut \
             off; copy the whole file again",
        ),
        (&text, &key, "no certificate in PEM form found in {path}"),
        (
            &chain,
            &text,
            "no private key in PEM form without a passphrase found in {path}",
        ),
        (
            &chain,
            &wrong,
            "the certificate and the key cannot be used together",
        ),
    ] {
        let error = bind_with(chain, key).await.unwrap_err();
        let expected = expected.replace("{path}", &text.display().to_string());
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
    let error = bind_with(&none, &key).await.unwrap_err();
    assert!(matches!(
        error,
        StartError::Certificate(CertificateError::Read { .. })
    ));
    // The cause is the error of the system, which appears once.
    assert!(
        error
            .source()
            .is_some_and(|cause| cause.is::<std::io::Error>())
    );
}
