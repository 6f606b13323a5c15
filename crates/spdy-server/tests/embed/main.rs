//! The library in programs of others: an accept loop of their own, their services, sockets,
//! certificates and settings.

#[path = "../common/mod.rs"]
mod common;

mod certificates;
mod connections;
mod misuse;
mod services;
mod settings;
mod unread;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response, StatusCode},
    routing::get,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::{ResolvesServerCertUsingSni, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use spdy_server::{
    AccessLog, Bind, Certificate, CertificateError, Config, ConnectionInfo, Http1, Http2,
    Inherited, PeerCertificates, Protocol, Server, Spdy, StartError, Transport, Version, auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tower::{BoxError, service_fn};

use self::common::server::{LONG, http1, http2, loopback, spdy};

// --- the application ---

fn app() -> Router {
    Router::new()
        .route("/", get(page))
        .route("/peer", get(peer))
        .route("/certificate", get(certificate))
}

async fn page(Extension(info): Extension<ConnectionInfo>) -> String {
    info.protocol.to_string()
}

async fn peer(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    peer.to_string()
}

async fn certificate(certificates: Option<Extension<PeerCertificates>>) -> String {
    match certificates {
        Some(Extension(certificates)) => certificates.fingerprint().to_string(),
        None => "none".to_owned(),
    }
}

// --- certificates ---

/// A certificate, its key, and the means to sign others.
struct Made {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
    params: CertificateParams,
}

impl Made {
    /// A certificate authority.
    fn authority() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Self {
            der: made.der().clone(),
            pem: made.pem(),
            key,
            params,
        }
    }

    /// A certificate for this name by this authority. `last_year` is the last in which it is valid.
    fn sign(&self, name: &str, last_year: i32) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let made = params.signed_by(&key, &issuer).unwrap();
        Self {
            der: made.der().clone(),
            pem: made.pem(),
            key,
            params,
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    fn certified(&self) -> CertifiedKey {
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(vec![self.der.clone()], self.key(), &provider).unwrap()
    }

    fn as_pem(&self) -> Certificate {
        Certificate::Pem {
            chain: self.pem.clone().into(),
            key: self.key.serialize_pem().into(),
        }
    }

    /// A configuration that asks clients for certificates of this authority.
    fn mutual(&self, server: &Self) -> ServerConfig {
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots()));
        ServerConfig::builder()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server.der.clone()], server.key())
            .unwrap()
    }
}

const VALID: i32 = 2090;

// --- servers and clients ---

fn tls(certificate: Certificate) -> Config {
    Config {
        binds: vec![Bind::tls(loopback())],
        certificate,
        ..Config::default()
    }
}

/// Starts a server that lasts as long as the test.
async fn start(config: Config) -> SocketAddr {
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    tokio::spawn(server.run(app(), std::future::pending()));
    address
}

struct Client {
    roots: RootCertStore,
    name: &'static str,
    offered: &'static str,
    certificate: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
}

impl Client {
    fn new(roots: RootCertStore, name: &'static str) -> Self {
        Self {
            roots,
            name,
            offered: "http/1.1",
            certificate: None,
        }
    }

    fn with(self, made: &Made) -> Self {
        Self {
            certificate: Some((made.der.clone(), made.key())),
            ..self
        }
    }

    async fn over<IO>(self, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = ClientConfig::builder().with_root_certificates(self.roots);
        let mut config = match self.certificate {
            Some((certificate, key)) => config
                .with_client_auth_cert(vec![certificate], key)
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![self.offered.into()];
        let name = ServerName::try_from(self.name).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, io).await
    }

    async fn at(self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?).await
    }
}

/// Sends a request over HTTP/1.1. Returns the body of the response, or the error of the connection.
async fn fetch(
    io: io::Result<impl AsyncRead + AsyncWrite + Unpin>,
    path: &str,
) -> io::Result<String> {
    let mut io = io?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    io.read_to_string(&mut response).await?;
    let (_, body) = response
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
