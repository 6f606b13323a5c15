//! The source of a certificate.

#[cfg(feature = "rustls")]
use std::sync::Arc;
use std::{fmt, path::PathBuf};

#[cfg(feature = "rustls")]
use rustls::{ServerConfig, server::ResolvesServerCert};

/// The source of a certificate and its key.
///
/// ```
/// # #[cfg(feature = "rustls")] {
/// use spdy_server::{Bind, Certificate, Config, Server};
///
/// # async fn main_(chain: Vec<u8>, key: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
/// let address: std::net::SocketAddr = "0.0.0.0:443".parse()?;
/// let config = Config {
///     binds: vec![Bind::tls(address)],
///     certificate: Certificate::Pem { chain, key },
///     ..Config::default()
/// };
/// let server = Server::bind(config).await?;
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Certificate {
    /// A certificate that the server creates at start for `localhost`, `127.0.0.1` and `::1`, and
    /// does not store. Needs the feature `self-signed`.
    /// [`Server::certificates`](crate::Server::certificates) returns it.
    #[default]
    SelfSigned,
    /// PEM files, which the server reads at start and again when they change.
    Files {
        /// The certificate, followed by its intermediates if any.
        chain: PathBuf,
        /// The private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: PathBuf,
    },
    /// The contents of such files. The debug output does not show them.
    Pem {
        /// The certificate, followed by its intermediates if any.
        chain: Vec<u8>,
        /// The private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: Vec<u8>,
    },
    /// What chooses a certificate for each handshake: by the server name, or what ACME has just
    /// obtained. A handshake for which it returns none fails. Clients need no certificate.
    ///
    /// It is asked in the middle of a handshake and must not block. Clients that support NPN but
    /// not ALPN use HTTP/1.1.
    #[cfg(feature = "rustls")]
    Resolver(Arc<dyn ResolvesServerCert>),
    /// A configuration of rustls, for everything else, such as client certificates (mTLS).
    ///
    /// Without `alpn_protocols` the server offers all its protocols. Otherwise it offers these, in
    /// this order. A client that offers none of them uses HTTP/1.1, without ALPN. Clients that
    /// support NPN but not ALPN use HTTP/1.1.
    ///
    /// Early data (0-RTT) is not accepted, because it can be replayed: the server ignores
    /// `max_early_data_size`.
    ///
    /// rustls does not check whether the certificate has expired; clients do.
    ///
    /// ```
    /// use std::{error::Error, sync::Arc};
    ///
    /// use spdy_server::{
    ///     Certificate,
    ///     rustls::{
    ///         RootCertStore, ServerConfig,
    ///         pki_types::{CertificateDer, PrivateKeyDer},
    ///         server::WebPkiClientVerifier,
    ///     },
    /// };
    ///
    /// /// Only clients with a certificate by `ca` are served.
    /// fn mutual(
    ///     ca: CertificateDer<'static>,
    ///     chain: Vec<CertificateDer<'static>>,
    ///     key: PrivateKeyDer<'static>,
    /// ) -> Result<Certificate, Box<dyn Error>> {
    ///     let mut roots = RootCertStore::empty();
    ///     roots.add(ca)?;
    ///     let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    ///     let config = ServerConfig::builder()
    ///         .with_client_cert_verifier(clients)
    ///         .with_single_cert(chain, key)?;
    ///     Ok(Certificate::Rustls(Arc::new(config)))
    /// }
    /// ```
    #[cfg(feature = "rustls")]
    Rustls(Arc<ServerConfig>),
}

/// Two resolvers or configurations are equal if they are the same object.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SelfSigned, Self::SelfSigned) => true,
            (
                Self::Files { chain, key },
                Self::Files {
                    chain: chain2,
                    key: key2,
                },
            ) => (chain, key) == (chain2, key2),
            (
                Self::Pem { chain, key },
                Self::Pem {
                    chain: chain2,
                    key: key2,
                },
            ) => (chain, key) == (chain2, key2),
            #[cfg(feature = "rustls")]
            (Self::Resolver(one), Self::Resolver(two)) => Arc::ptr_eq(one, two),
            #[cfg(feature = "rustls")]
            (Self::Rustls(one), Self::Rustls(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfSigned => f.write_str("SelfSigned"),
            Self::Files { chain, key } => {
                let mut shown = f.debug_struct("Files");
                shown.field("chain", chain).field("key", key).finish()
            }
            Self::Pem { .. } => f.debug_struct("Pem").finish_non_exhaustive(),
            #[cfg(feature = "rustls")]
            Self::Resolver(_) => f.debug_tuple("Resolver").finish_non_exhaustive(),
            #[cfg(feature = "rustls")]
            Self::Rustls(_) => f.debug_tuple("Rustls").finish_non_exhaustive(),
        }
    }
}
