//! TLS for clients: the certificate of the bastion, and the authorities of client certificates.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        pem::{self, PemObject},
    },
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{
    Config, Error, Security,
    kubeconfig::{certificates, invalid_pem},
};

/// A certificate and its key.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// A certificate that was made at start. It is kept as long as the program runs, because clients
/// trust it.
pub(crate) struct SelfSigned {
    /// The certificate in PEM.
    pub(crate) pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl SelfSigned {
    /// Makes a certificate for loopback, for the address, and for names.
    pub(crate) fn new(address: SocketAddr, names: &[String]) -> Result<Self, Error> {
        let made = || {
            let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
            if !address.ip().is_unspecified() {
                hosts.push(address.ip().to_string());
            }
            hosts.extend(names.iter().cloned());
            hosts.dedup();
            let mut params = rcgen::CertificateParams::new(hosts)?;
            let name = rcgen::DnType::CommonName;
            params.distinguished_name.push(name, "spdy-bastion");
            let epoch = rcgen::date_time_ymd(1970, 1, 1);
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            params.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
            params.not_after = epoch + (now + LIFE);
            let key = rcgen::KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            Ok(Self {
                pem: certificate.pem(),
                chain: vec![certificate.der().clone()],
                key: key.serialize_der(),
            })
        };
        let failed = |error: rcgen::Error| Error::because("cannot make a certificate", error);
        made().map_err(failed)
    }

    fn identity(&self) -> Identity {
        Identity {
            chain: self.chain.clone(),
            key: PrivatePkcs8KeyDer::from(self.key.clone()).into(),
        }
    }
}

/// Returns the configuration for connections of clients. `made` is the certificate that was made at
/// start.
pub(crate) fn load(
    config: &Config,
    made: Option<&SelfSigned>,
) -> Result<Option<Arc<ServerConfig>>, Error> {
    let identity = match (&config.security, made) {
        (Security::Files { chain, key }, _) => read(chain, key)?,
        (Security::SelfSigned, Some(made)) => made.identity(),
        _ => return Ok(None),
    };
    let verifier = match &config.users.authorities {
        Some(path) => verifier(path)?,
        None => Arc::new(NoClientAuth),
    };
    let refused = |error| Error::because("certificate and key cannot be used together", error);
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut server = builder
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)
        .map_err(refused)?;
    server.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
    Ok(Some(Arc::new(server)))
}

fn read(chain: &Path, key: &Path) -> Result<Identity, Error> {
    let pem = fs::read(chain).map_err(|error| Error::read(chain, error))?;
    let invalid = |error| match error {
        pem::Error::NoItemsFound => Error::new("no key in PEM without a passphrase").of(key),
        error => invalid_pem("key", error).of(key),
    };
    Ok(Identity {
        chain: certificates(&pem, "certificate").map_err(|error| error.of(chain))?,
        key: PrivateKeyDer::from_pem_file(key).map_err(invalid)?,
    })
}

/// Returns what verifies certificates of clients. A client without one can have other credentials.
fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let pem = fs::read(path).map_err(|error| Error::read(path, error))?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&pem, "authority").map_err(|error| error.of(path))? {
        let invalid = |error| Error::because("authority cannot be used", error).of(path);
        roots.add(root).map_err(invalid)?;
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let built = builder.allow_unauthenticated().build();
    built.map_err(|error| Error::because("authorities cannot be used", error).of(path))
}

pub(crate) const H2: &[u8] = b"h2";

pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// How far the clock of a client can be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// Some clients reject certificates that are valid for more than 398 days.
const LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);
