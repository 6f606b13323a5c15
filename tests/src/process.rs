//! The program `spdy-server` while it runs, for tests that need all of it: its sockets, its
//! signals, its memory.
//!
//! Works only on Linux and other systems with `/proc` and `kill`.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use sha2::{Digest, Sha256};
use spdy_frame::Version;
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::built::build;

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    plain: SocketAddr,
    tls: SocketAddr,
    fingerprint: String,
}

impl Server {
    /// Starts the program on free ports of the loopback, one for plain text and one for TLS, with
    /// further arguments. Its log goes to the standard error of the test.
    ///
    /// # Panics
    ///
    /// If the program cannot be built, or does not print where it listens.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(program())
            .args(["--plain", "127.0.0.1:0", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program has been built");
        let mut printed =
            BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let mut line = |start| {
            printed
                .by_ref()
                .map_while(Result::ok)
                .find_map(|line| line.strip_prefix(start).map(str::to_owned))
                .unwrap_or_else(|| {
                    panic!("the server has printed no line that starts with {start:?}")
                })
        };
        let address = |url: String| {
            url.split('/')
                .next()
                .and_then(|text| text.parse().ok())
                .expect("a URL has a host")
        };
        let tls = address(line("https://"));
        let plain = address(line("http://"));
        let fingerprint = line("certificate SHA-256 ");
        Self {
            child,
            plain,
            tls,
            fingerprint,
        }
    }

    /// Returns the address for plain text.
    #[must_use]
    pub const fn plain(&self) -> SocketAddr {
        self.plain
    }

    /// Connects in plain text.
    ///
    /// # Panics
    ///
    /// If the server does not accept the connection.
    pub async fn connect(&self) -> TcpStream {
        let io = TcpStream::connect(self.plain)
            .await
            .expect("the server listens");
        io.set_nodelay(true).expect("TCP has this option");
        io
    }

    /// Connects to the port for TLS, and sends nothing.
    ///
    /// # Panics
    ///
    /// If the server does not accept the connection.
    pub async fn connect_to_tls(&self) -> TcpStream {
        TcpStream::connect(self.tls)
            .await
            .expect("the server listens")
    }

    /// Connects over TLS, and agrees on a protocol version by ALPN. Trusts only the certificate
    /// whose fingerprint the server has printed.
    ///
    /// # Panics
    ///
    /// If the server does not accept the connection, shows another certificate or chooses another
    /// protocol.
    pub async fn connect_tls(&self, version: Version) -> TlsStream<TcpStream> {
        let io = TcpStream::connect(self.tls)
            .await
            .expect("the server listens");
        io.set_nodelay(true).expect("TCP has this option");
        let provider = Arc::new(ring::default_provider());
        let pinned = Arc::new(Pinned {
            fingerprint: self.fingerprint.clone(),
            provider: provider.clone(),
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .dangerous()
            .with_custom_certificate_verifier(pinned)
            .with_no_client_auth();
        config.alpn_protocols = vec![version.alpn().to_vec()];
        let name = ServerName::try_from("localhost").expect("a host name");
        let io = TlsConnector::from(Arc::new(config))
            .connect(name, io)
            .await
            .expect("the server speaks TLS");
        assert_eq!(io.get_ref().1.alpn_protocol(), Some(version.alpn()));
        io
    }

    /// Returns the resident memory of the server in bytes.
    ///
    /// # Panics
    ///
    /// If the server has ended.
    #[must_use]
    pub fn resident_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the server runs");
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmRSS:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse::<u64>()
                    .ok()
            })
            .expect("a running process has resident memory")
            * 1024
    }

    /// Sends the server a signal, such as `TERM`.
    ///
    /// # Panics
    ///
    /// If the server is gone.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.expect("there is a program named kill").success());
    }

    /// Waits until the server has ended by itself.
    ///
    /// # Panics
    ///
    /// If it has not ended within `time`.
    pub async fn ended(mut self, time: Duration) -> ExitStatus {
        let wait = async {
            loop {
                match self.child.try_wait().expect("the server is our child") {
                    Some(status) => return status,
                    None => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(time, wait)
            .await
            .expect("the server has not ended")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Trusts one certificate.
#[derive(Debug)]
struct Pinned {
    /// SHA-256 in hexadecimal, bytes separated by colons.
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let digits: Vec<_> = Sha256::digest(certificate)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        if digits.join(":") == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General(
                "this is not the certificate whose fingerprint was printed".into(),
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Builds the program once for each test process and says where it is.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build(["--bin", "spdy-server"]).join("spdy-server"))
}
