//! TLS configurations: which certificates the client trusts, of servers or of proxies, and which
//! one it has for them.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, ConfigBuilder, KeyLogFile, RootCertStore, WantsVerifier,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use spdy_tower::client::danger_accept_invalid_certs;

use crate::failure::{Exit, Failure};

/// What the flags say of certificates, for servers or for proxies.
#[derive(Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// Whether any certificate is accepted.
    pub(crate) accepts_any: bool,
    /// The file of those that are trusted, instead of those of the system.
    pub(crate) roots: Option<&'a Path>,
    /// The file with the certificate of the client.
    pub(crate) cert: Option<&'a Path>,
    /// The file with its key, unless that is in the same one.
    pub(crate) key: Option<&'a Path>,
    /// The flag that names a file of roots.
    pub(crate) roots_flag: &'static str,
    /// The flag that names the file with the key.
    pub(crate) key_flag: &'static str,
}

/// Returns a configuration without ALPN. The secrets of its connections are appended to the file
/// that the environment variable SSLKEYLOGFILE names.
pub(crate) fn config(trust: Trust<'_>) -> Result<ClientConfig, Failure> {
    let roots = match trust.roots {
        _ if trust.accepts_any => RootCertStore::empty(),
        Some(path) => roots_of(path)?,
        None => roots_of_the_system(trust.roots_flag)?,
    };
    let builder = builder().with_root_certificates(roots);
    let mut config = match trust.cert {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let key = key_of(trust.key.unwrap_or(path), trust.key_flag)?;
            let unfit = |error| Failure::local(cannot_use(path), &error);
            builder
                .with_client_auth_cert(certificates_of(path)?, key)
                .map_err(unfit)?
        }
    };
    if trust.accepts_any {
        danger_accept_invalid_certs(&mut config);
    }
    config.key_log = Arc::new(KeyLogFile::new());
    Ok(config)
}

/// Returns a configuration that trusts no certificate, for connections without TLS.
pub(crate) fn without_roots() -> ClientConfig {
    builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
}

fn roots_of(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(path)? {
        roots
            .add(certificate)
            .map_err(|error| Failure::local(cannot_use(path), &error))?;
    }
    Ok(roots)
}

/// Returns the certificates in a PEM file. There is at least one.
fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| invalid(cannot_use(path), &error))?;
    if certificates.is_empty() {
        let message = format!("no certificate found in {}", path.display());
        return Err(Failure::new(Exit::Local, message));
    }
    Ok(certificates)
}

fn key_of(path: &Path, flag: &str) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let message = format!("no private key found in {}: use {flag}", path.display());
            Failure::new(Exit::Local, message)
        }
        error => invalid(format!("cannot use the key in {}", path.display()), &error),
    })
}

/// Returns the failure for a file that is not valid PEM.
fn invalid(what: String, error: &pem::Error) -> Failure {
    match error {
        // These errors print the line as a list of numbers.
        pem::Error::MissingSectionEnd { .. } | pem::Error::IllegalSectionStart { .. } => {
            let reason = "the file is not complete; copy the whole file again";
            Failure::new(Exit::Local, format!("{what}: {reason}"))
        }
        error => Failure::local(what, error),
    }
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use the certificates in {}", path.display())
}

/// Returns the root certificates of the system.
///
/// Many systems have some certificates that cannot be parsed. Those are skipped, and only a system
/// without any valid certificate is an error.
fn roots_of_the_system(flag: &str) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let message = format!("no root certificates found on this system: use {flag}");
        return Err(Failure::new(Exit::Local, message));
    }
    Ok(roots)
}
