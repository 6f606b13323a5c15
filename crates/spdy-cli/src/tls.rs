//! TLS configurations: which server certificates the client trusts.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::failure::{Exit, Failure};

/// Returns a configuration without ALPN.
///
/// The client trusts the certificates in the file `cacert`, or by default those of the system. With
/// `insecure` it accepts any certificate.
pub(crate) fn config(insecure: bool, cacert: Option<&Path>) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    let builder = if insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        let roots = match cacert {
            Some(path) => roots_of(path)?,
            None => roots_of_the_system()?,
        };
        builder.with_root_certificates(roots)
    };
    Ok(builder.with_no_client_auth())
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
    let what = || format!("cannot read certificates from {}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| Failure::local(what(), &error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| Failure::local(what(), &error))?;
        roots
            .add(certificate)
            .map_err(|error| Failure::local(what(), &error))?;
    }
    if roots.is_empty() {
        return Err(Failure::new(
            Exit::Local,
            format!("no certificate found in {}", path.display()),
        ));
    }
    Ok(roots)
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
