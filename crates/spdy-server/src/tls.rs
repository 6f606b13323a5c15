//! TLS: the certificate, the ALPN list, and the handshake.
//!
//! TLS 1.2 and 1.3 are spoken. TLS 1.2 with ECDHE, AES-128-GCM and P-256 has to stay: the browsers that speak SPDY know
//! nothing newer.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        pem::{self, PemObject},
    },
    server::{Acceptor, ServerConnection},
    version::{TLS12, TLS13},
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

use crate::{config::Certificate, negotiate::Protocol};

/// What TLS connections are accepted with: a certificate and two configurations that differ in ALPN alone.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// For clients that offer a protocol of ours.
    choosing: Arc<ServerConfig>,
    /// For everybody else: no protocol is selected, and HTTP/1.1 is spoken.
    silent: Arc<ServerConfig>,
    fingerprint: Fingerprint,
}

impl Tls {
    pub(crate) fn new(certificate: &Certificate) -> Result<Self, CertificateError> {
        let (chain, key) = match certificate {
            Certificate::SelfSigned => self_signed().map_err(CertificateError::Generate)?,
            Certificate::Files { chain, key } => (read_chain(chain)?, read_key(key)?),
        };
        let fingerprint =
            Fingerprint(Sha256::digest(chain.first().expect("a chain is never empty")).into());
        let mut choosing = server_config(chain, key).map_err(CertificateError::Refused)?;
        let silent = choosing.clone();
        choosing.alpn_protocols = Protocol::PREFERENCE
            .map(|protocol| protocol.alpn().to_vec())
            .into();
        Ok(Self {
            choosing: Arc::new(choosing),
            silent: Arc::new(silent),
            fingerprint,
        })
    }

    /// Reads the client's first message. There is no time limit in here.
    pub(crate) async fn hello<IO>(io: IO) -> std::io::Result<StartHandshake<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        LazyConfigAcceptor::new(Acceptor::default(), io).await
    }

    /// Ends the handshake that `hello` began. There is no time limit in here.
    pub(crate) async fn handshake<IO>(
        &self,
        hello: StartHandshake<IO>,
    ) -> std::io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        // protocol.md §3.3: with no protocol in common the reply has no ALPN and HTTP/1.1 is spoken. rustls would
        // send the alert no_application_protocol.
        let in_common = hello
            .client_hello()
            .alpn()
            .is_some_and(|mut ids| ids.any(|id| Protocol::from_alpn(id).is_some()));
        let config = if in_common {
            &self.choosing
        } else {
            &self.silent
        };
        hello.into_stream(Arc::clone(config)).await
    }

    pub(crate) const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// The protocol that a finished handshake has selected.
pub(crate) fn selected(connection: &ServerConnection) -> Protocol {
    connection
        .alpn_protocol()
        .and_then(Protocol::from_alpn)
        .unwrap_or(Protocol::Http1)
}

/// What a finished handshake has agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The version: `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// The cipher suite under the name that the standards give it.
    pub cipher_suite: &'static str,
}

impl TlsInfo {
    pub(crate) fn new(connection: &ServerConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let suite = connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str());
        Self {
            version,
            cipher_suite: suite.unwrap_or("unknown"),
        }
    }
}

/// The SHA-256 of a certificate. Displayed as browsers and openssl do: `3F:A0:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = &self.0;
        write!(f, "{first:02X}")?;
        rest.iter().try_for_each(|octet| write!(f, ":{octet:02X}"))
    }
}

/// Why there is no certificate to serve with.
#[derive(Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// A PEM file cannot be read or is no PEM file.
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A PEM file holds no certificate.
    NoCertificate(PathBuf),
    /// A PEM file holds no private key, or none that is free of a passphrase.
    NoKey(PathBuf),
    /// The certificate and the key do not belong together, or are of a kind that is not supported.
    Refused(rustls::Error),
    /// No self-signed certificate could be made.
    Generate(rcgen::Error),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::NoCertificate(path) => {
                write!(f, "{} holds no certificate in PEM form", path.display())
            }
            Self::NoKey(path) => {
                write!(
                    f,
                    "{} holds no private key in PEM form without a passphrase",
                    path.display()
                )
            }
            Self::Refused(_) => f.write_str("the certificate cannot be used with the key"),
            Self::Generate(_) => f.write_str("no self-signed certificate could be made"),
        }
    }
}

impl Error for CertificateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The words `I/O error` around the system's own message say nothing more.
            Self::Read {
                source: pem::Error::Io(error),
                ..
            } => Some(error),
            Self::Read { source, .. } => Some(source),
            Self::Refused(error) => Some(error),
            Self::Generate(error) => Some(error),
            Self::NoCertificate(_) | Self::NoKey(_) => None,
        }
    }
}

type Chain = Vec<CertificateDer<'static>>;

fn server_config(chain: Chain, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // Clients keep their sessions themselves, so that resumption costs the server no memory.
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// Makes a certificate for this machine's own names.
fn self_signed() -> Result<(Chain, PrivateKeyDer<'static>), rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut params = rcgen::CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "localhost");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + (now + SELF_SIGNED_LIFE);

    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((vec![certificate.into()], key.into()))
}

/// How far behind a client's clock may be.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// Some clients refuse certificates that live for more than 398 days.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);

fn read_chain(path: &Path) -> Result<Chain, CertificateError> {
    let unreadable = |source| CertificateError::Read {
        path: path.to_owned(),
        source,
    };
    let chain: Chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(unreadable)?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey(path.to_owned()),
        source => CertificateError::Read {
            path: path.to_owned(),
            source,
        },
    })
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
    use spdy_frame::Version;
    use tokio::io::duplex;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Shakes hands with a client that offers `ids`; returns what each side has selected.
    async fn negotiate(
        ids: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> (Protocol, Option<String>) {
        let (chain, key) = self_signed().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = ids.iter().map(|id| id.as_bytes().to_vec()).collect();

        let mut choosing = server_config(chain, key).unwrap();
        let silent = Arc::new(choosing.clone());
        choosing.alpn_protocols = Protocol::PREFERENCE
            .map(|protocol| protocol.alpn().to_vec())
            .into();
        let tls = Tls {
            choosing: Arc::new(choosing),
            silent,
            fingerprint: Fingerprint([0; 32]),
        };

        let (ours, theirs) = duplex(16 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let (client, server) = tokio::join!(connector.connect(name, theirs), async {
            tls.handshake(Tls::hello(ours).await.unwrap()).await
        });
        let (client, server) = (client.unwrap(), server.unwrap());
        let client: &ClientConnection = client.get_ref().1;
        let at_client = client
            .alpn_protocol()
            .map(|id| String::from_utf8(id.to_vec()).unwrap());
        (selected(server.get_ref().1), at_client)
    }

    const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

    #[tokio::test]
    async fn c001_a_protocol_that_is_offered_alone_is_selected() {
        for protocol in Protocol::PREFERENCE {
            let id = str::from_utf8(protocol.alpn()).unwrap();
            for versions in [BOTH, &[&TLS12]] {
                assert_eq!(
                    negotiate(&[id], versions).await,
                    (protocol, Some(id.to_owned()))
                );
            }
        }
    }

    #[tokio::test]
    async fn c002_the_servers_preference_decides_and_3_1_comes_first() {
        for (offered, expected) in [
            (
                &["http/1.1", "spdy/3", "spdy/3.1"][..],
                Protocol::Spdy(Version::V3_1),
            ),
            (&["spdy/2", "h2", "spdy/3"], Protocol::Spdy(Version::V3)),
            (&["http/1.1", "h2", "spdy/2"], Protocol::Spdy(Version::V2)),
            (&["http/1.1", "h2"], Protocol::Http2),
            (&["h3", "http/1.1"], Protocol::Http1),
        ] {
            assert_eq!(negotiate(offered, BOTH).await.0, expected, "{offered:?}");
        }
    }

    #[tokio::test]
    async fn c003_with_no_protocol_in_common_none_is_selected_and_http_1_is_spoken() {
        for offered in [&["h3", "spdy/1", "spdy/4a4"][..], &[]] {
            for versions in [BOTH, &[&TLS12]] {
                assert_eq!(
                    negotiate(offered, versions).await,
                    (Protocol::Http1, None),
                    "{offered:?}"
                );
            }
        }
    }

    #[test]
    fn a_fingerprint_reads_as_openssl_prints_it() {
        let mut octets = [0; 32];
        octets[0] = 0xab;
        octets[31] = 0x0f;
        let shown = Fingerprint(octets).to_string();
        assert_eq!(shown.len(), 32 * 3 - 1);
        assert!(
            shown.starts_with("AB:00:") && shown.ends_with(":00:0F"),
            "{shown}"
        );
    }
}
