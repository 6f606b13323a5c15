//! TLS without the certificate of the client.

use std::sync::Arc;

use tokio_rustls::rustls::{
    ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey,
};

/// Returns the same configuration without a certificate of the client, which names it to everyone
/// who asks.
pub(super) fn anonymous(tls: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut tls = Arc::clone(tls);
    if tls.client_auth_cert_resolver.has_certs() {
        Arc::make_mut(&mut tls).client_auth_cert_resolver = Arc::new(NoCertificate);
    }
    tls
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
