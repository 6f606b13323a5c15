//! TLS configurations: which server certificates the client trusts, and which one it has.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, KeyLogFile, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};

use crate::{
    failure::{Exit, Failure},
    flags::Reach,
};

/// Returns a configuration without ALPN.
///
/// The client trusts the certificates in the file `--cacert`, or by default those of the system.
/// With `--insecure` it accepts any certificate. It has the certificate of `--cert`. The secrets of
/// its connections are appended to the file that the environment variable SSLKEYLOGFILE names.
pub(crate) fn config(reach: &Reach) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    let builder = if reach.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        let roots = match &reach.cacert {
            Some(path) => roots_of(path)?,
            None => roots_of_the_system()?,
        };
        builder.with_root_certificates(roots)
    };
    let mut config = match &reach.cert {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let key_path = reach.key.as_ref().unwrap_or(path);
            let unfit = |error| Failure::local(cannot_use(path), &error);
            builder
                .with_client_auth_cert(certificates_of(path)?, key_of(key_path)?)
                .map_err(unfit)?
        }
    };
    config.key_log = Arc::new(KeyLogFile::new());
    Ok(config)
}

/// Returns a configuration that trusts no certificate, for connections without TLS.
pub(crate) fn without_roots() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
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
        .map_err(|error| Failure::local(cannot_use(path), &error))?;
    if certificates.is_empty() {
        let message = format!("no certificate found in {}", path.display());
        return Err(Failure::new(Exit::Local, message));
    }
    Ok(certificates)
}

fn key_of(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let message = format!("no private key found in {}: use --key", path.display());
            Failure::new(Exit::Local, message)
        }
        error => Failure::local(
            format_args!("cannot use the key in {}", path.display()),
            &error,
        ),
    })
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use the certificates in {}", path.display())
}

/// Returns the root certificates of the system.
///
/// Many systems have some certificates that cannot be parsed. Those are skipped, and only a system
/// without any valid certificate is an error.
fn roots_of_the_system() -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Failure::new(
            Exit::Local,
            "no root certificates found on this system: use --cacert",
        ));
    }
    Ok(roots)
}

/// Accepts every certificate. The signatures of the handshake must still be valid.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
