//! TLS: the ALPN list, the handshake, and the certificate.
//!
//! rustls does the handshake. With the feature `npn`, OpenSSL does it for clients that support NPN
//! but not ALPN.
//!
//! The versions are TLS 1.2 and 1.3. TLS 1.2 with ECDHE, AES-128-GCM and P-256 is necessary: the
//! browsers that support SPDY have nothing newer.

mod certificate;
mod files;
#[cfg(feature = "npn")]
mod hello;
#[cfg(feature = "npn")]
mod npn;
mod validity;

use std::{
    io,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    server::{Acceptor, ResolvesServerCert, ServerConnection},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};
use tracing::warn;

pub use self::certificate::CertificateError;
pub(crate) use self::files::Watch;
use self::{certificate::Identity, validity::Invalid};
use crate::{
    config::Certificate,
    negotiate::Protocol,
    pass::pass,
    secured::{Fingerprint, TlsInfo},
    socket::Fails,
};

/// The configuration that accepts TLS connections. It can change, and open connections keep their
/// configuration.
#[derive(Debug)]
pub(crate) struct Tls {
    certificate: Certificate,
    current: RwLock<Arc<Current>>,
}

/// A certificate, and two configurations that only differ in ALPN.
#[derive(Debug)]
struct Current {
    /// For clients that offer a protocol which the server supports.
    choosing: Arc<ServerConfig>,
    /// For all other clients: no protocol is selected, and HTTP/1.1 is used.
    silent: Arc<ServerConfig>,
    /// For clients that offer NPN but not ALPN. `None` if only rustls knows the certificate.
    #[cfg(feature = "npn")]
    npn: Option<npn::Npn>,
    /// The certificate and its intermediates; empty if only rustls knows them.
    chain: Vec<CertificateDer<'static>>,
}

/// The transport below TLS. With NPN, the first message of the client is inspected, and then read
/// again.
#[cfg(feature = "npn")]
type Wire<IO> = crate::rewind::Rewind<IO, Vec<u8>>;
#[cfg(not(feature = "npn"))]
type Wire<IO> = IO;

/// The first message of a client, and the library that answers it.
// The value is never stored, so a box would save no memory.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Hello<IO> {
    Rustls(StartHandshake<Wire<IO>>),
    #[cfg(feature = "npn")]
    Npn(Wire<IO>),
}

/// A connection whose handshake is complete.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Secured<IO> {
    Rustls(TlsStream<Wire<IO>>),
    #[cfg(feature = "npn")]
    Npn(npn::NpnStream<Wire<IO>>, Protocol, TlsInfo),
}

impl Tls {
    pub(crate) fn new(certificate: &Certificate) -> Result<Self, CertificateError> {
        let current = Current::load(certificate)?;
        if let Certificate::Files { chain, .. } = certificate
            && let Err(error) = current.check(chain)
        {
            warn!("{error}; clients refuse it");
        }
        Ok(Self {
            certificate: certificate.clone(),
            current: RwLock::new(Arc::new(current)),
        })
    }

    /// Reloads the files of the certificate. On an error the old certificate is kept. It is an
    /// error if the old certificate is valid now, and the new one is not.
    ///
    /// Returns whether there are files to reload. A certificate that was created at start is kept,
    /// because clients might already trust it.
    pub(crate) fn reload(&self) -> Result<bool, CertificateError> {
        let Certificate::Files { chain, key } = &self.certificate else {
            return Ok(false);
        };
        certificate::can_be_read_again(chain)?;
        certificate::can_be_read_again(key)?;
        let new = Current::load(&self.certificate)?;
        if self.current().check(chain).is_ok() {
            new.check(chain)?;
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(true)
    }

    /// Reads the first message of the client. The caller has to set a time limit.
    pub(crate) async fn hello<IO>(io: IO) -> io::Result<Hello<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        #[cfg(feature = "npn")]
        let io = match hello::read(io).await? {
            (io, true) => return Ok(Hello::Npn(io)),
            (io, false) => io,
        };
        by_rustls(io).await.map(Hello::Rustls)
    }

    /// Completes the handshake that `hello` began. The caller has to set a time limit.
    pub(crate) async fn handshake<IO>(&self, hello: Hello<IO>) -> io::Result<Secured<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let current = self.current();
        match hello {
            Hello::Rustls(hello) => current.accept(hello).await.map(Secured::Rustls),
            #[cfg(feature = "npn")]
            Hello::Npn(io) => match &current.npn {
                Some(npn) => {
                    let (io, protocol, info) = npn.accept(io).await?;
                    Ok(Secured::Npn(io, protocol, info))
                }
                None => {
                    let hello = by_rustls(io).await?;
                    current.accept(hello).await.map(Secured::Rustls)
                }
            },
        }
    }

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        Some(Fingerprint::of(self.current().chain.first()?))
    }

    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.current().chain.clone()
    }

    /// Returns the first name of the certificate, and the last moment in which it is valid. `None`
    /// if only rustls knows the certificate.
    #[cfg(feature = "metrics")]
    pub(crate) fn expiry(&self) -> Option<(Option<String>, std::time::SystemTime)> {
        let current = self.current();
        let certificate = current.chain.first()?;
        Some((
            validity::name(certificate),
            validity::not_after(certificate)?,
        ))
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<IO: Fails> Fails for TlsStream<IO> {
    pass!(Fails => get_ref().0);
}

async fn by_rustls<IO>(io: IO) -> io::Result<StartHandshake<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    LazyConfigAcceptor::new(Acceptor::default(), io).await
}

impl Current {
    fn load(certificate: &Certificate) -> Result<Self, CertificateError> {
        match certificate {
            Certificate::Rustls(config) => Ok(Self::of_config(ServerConfig::clone(config))),
            Certificate::Resolver(resolver) => {
                let config = server_config(Arc::clone(resolver), provider()?);
                Ok(Self::of_config(config.map_err(CertificateError::Refused)?))
            }
            _ => Self::of_identity(Identity::load(certificate)?),
        }
    }

    fn of_identity(identity: Identity) -> Result<Self, CertificateError> {
        let provider = provider()?;
        let config = single(&identity, &provider).and_then(|it| server_config(it, provider));
        Ok(Self {
            #[cfg(feature = "npn")]
            npn: Some(npn::Npn::new(&identity).map_err(CertificateError::RefusedForNpn)?),
            chain: identity.chain,
            ..Self::of_config(config.map_err(CertificateError::Refused)?)
        })
    }

    fn of_config(mut choosing: ServerConfig) -> Self {
        if choosing.alpn_protocols.is_empty() {
            choosing.alpn_protocols = Protocol::ALL
                .map(|protocol| protocol.alpn().to_vec())
                .into();
        }
        // Nothing here reads early data, and what rustls had accepted of it would be lost.
        choosing.max_early_data_size = 0;
        let mut silent = choosing.clone();
        silent.alpn_protocols.clear();
        Self {
            choosing: Arc::new(choosing),
            silent: Arc::new(silent),
            #[cfg(feature = "npn")]
            npn: None,
            chain: Vec::new(),
        }
    }

    async fn accept<IO>(&self, hello: StartHandshake<IO>) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        // protocol.md §3.3: without a common protocol the reply has no ALPN, and HTTP/1.1 is used.
        // rustls would send the alert no_application_protocol.
        let in_common = hello
            .client_hello()
            .alpn()
            .is_some_and(|mut ids| ids.any(|id| self.offers(id)));
        let config = if in_common {
            &self.choosing
        } else {
            &self.silent
        };
        let mut io = hello.into_stream(Arc::clone(config)).await?;
        prepare(io.get_mut().1);
        Ok(io)
    }

    /// Checks that the certificate, which is in this file, is valid now.
    fn check(&self, path: &Path) -> Result<(), CertificateError> {
        let checked = self.chain.first().map_or(Ok(()), validity::check);
        let path = || path.to_owned();
        checked.map_err(|invalid| match invalid {
            Invalid::Since(not_after) => CertificateError::Expired {
                path: path(),
                not_after,
            },
            Invalid::Until(not_before) => CertificateError::NotYetValid {
                path: path(),
                not_before,
            },
        })
    }

    fn offers(&self, id: &[u8]) -> bool {
        self.choosing.alpn_protocols.iter().any(|ours| ours == id)
    }
}

/// Sets what a connection of this server needs, once its handshake is complete.
pub(crate) fn prepare(connection: &mut ServerConnection) {
    connection.set_buffer_limit(Some(BUFFER_LIMIT));
}

fn single(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<Arc<dyn ResolvesServerCert>, rustls::Error> {
    let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
    let key = CertifiedKey::from_der(chain, key, provider)?;
    Ok(Arc::new(SingleCertAndKey::from(key)))
}

/// Returns the provider of cryptography that the process has installed, or else that of this build.
fn provider() -> Result<Arc<CryptoProvider>, CertificateError> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Ok(Arc::clone(installed));
    }
    #[cfg(feature = "tls")]
    return Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(all(feature = "aws-lc-rs", not(feature = "tls")))]
    return Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(not(any(feature = "tls", feature = "aws-lc-rs")))]
    Err(CertificateError::NoProvider)
}

fn server_config(
    resolver: Arc<dyn ResolvesServerCert>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    // Without a ticketer it is not changed.
    #[allow(unused_mut)]
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    // Clients store their sessions themselves, so resumption costs the server no memory.
    #[cfg(feature = "tls")]
    {
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    }
    #[cfg(all(feature = "aws-lc-rs", not(feature = "tls")))]
    {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    }
    Ok(config)
}

/// Returns the protocol that a completed handshake has selected.
pub(crate) fn selected(connection: &ServerConnection) -> Protocol {
    connection
        .alpn_protocol()
        .and_then(Protocol::from_alpn)
        .unwrap_or(Protocol::Http1)
}

/// The certificate that a client has presented, and its intermediates, in the extensions of every
/// request of its connection.
///
/// It is there only if the configuration asks clients for certificates, so only with
/// [`Certificate::Rustls`] or in an accept loop of your own. The verifier of that configuration has
/// accepted it. A session that is resumed has the certificate of its first handshake. Cloning is
/// cheap.
///
/// ```
/// use axum::Extension;
/// use spdy_server::PeerCertificates;
///
/// async fn length(Extension(certificates): Extension<PeerCertificates>) -> String {
///     format!("your certificate has {} bytes\n", certificates.first().len())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificates(Arc<[CertificateDer<'static>]>);

impl PeerCertificates {
    pub(crate) fn new(connection: &ServerConnection) -> Option<Self> {
        let chain = connection.peer_certificates()?;
        (!chain.is_empty()).then(|| Self(chain.into()))
    }

    /// Returns the certificate of the client itself.
    #[must_use]
    pub fn first(&self) -> &CertificateDer<'static> {
        self.0.first().expect("a chain is never empty")
    }

    /// Returns the certificate of the client, followed by the intermediates that it has sent.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// Returns the SHA-256 of the certificate of the client.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.first())
    }
}

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
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

/// The number of bytes that a connection encrypts before it sends them. It is more than a SPDY
/// session writes at once, which is 64 KiB and frame headers. With the 64 KiB of rustls, the rest
/// would need a second write.
const BUFFER_LIMIT: usize = 80 * 1024;

#[cfg(test)]
mod tests {
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName,
    };
    use spdy_frame::Version;
    use tokio::io::duplex;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Performs a handshake with a client that offers `ids`. Returns what each side has selected.
    async fn negotiate(
        ids: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> (Protocol, Option<String>) {
        let identity = certificate::self_signed().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(identity.chain[0].clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = ids.iter().map(|id| id.as_bytes().to_vec()).collect();

        let tls = Tls {
            certificate: Certificate::SelfSigned,
            current: RwLock::new(Arc::new(Current::of_identity(identity).unwrap())),
        };

        let (ours, theirs) = duplex(16 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let (client, server) = tokio::join!(connector.connect(name, theirs), async {
            tls.handshake(Tls::hello(ours).await.unwrap()).await
        });
        let client = client.unwrap();
        let server = secured_by_rustls(server.unwrap());
        let client: &ClientConnection = client.get_ref().1;
        let at_client = client
            .alpn_protocol()
            .map(|id| String::from_utf8(id.to_vec()).unwrap());
        (selected(server.get_ref().1), at_client)
    }

    fn secured_by_rustls<IO>(secured: Secured<IO>) -> TlsStream<Wire<IO>> {
        match secured {
            Secured::Rustls(io) => io,
            #[cfg(feature = "npn")]
            Secured::Npn(..) => panic!("the client did not offer NPN"),
        }
    }

    const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

    #[tokio::test]
    async fn c001_a_protocol_that_is_offered_alone_is_selected() {
        for protocol in Protocol::ALL {
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
}
