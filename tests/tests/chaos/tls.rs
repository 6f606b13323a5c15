//! TLS for the origin `a.test`, with one certificate for all rounds.

use std::sync::{Arc, OnceLock};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use spdy_tower::Protocol;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["a.test".to_owned()]).expect("the name is valid");
        Identity {
            certificate: cert.der().clone(),
            key: signing_key.serialize_der(),
        }
    })
}

/// What a client trusts.
pub(crate) fn trust() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let certificate = identity().certificate.clone();
    roots.add(certificate).expect("the certificate is valid");
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Adds what offers each of these protocols alone, and returns what a client trusts.
pub(crate) fn offers(
    protocols: &[Protocol],
    offers: &mut Vec<(Protocol, TlsAcceptor)>,
) -> ClientConfig {
    for protocol in protocols {
        let key = PrivateKeyDer::try_from(identity().key.clone()).expect("the key is valid");
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![identity().certificate.clone()], key)
            .expect("key and certificate belong together");
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        offers.push((*protocol, TlsAcceptor::from(Arc::new(config))));
    }
    trust()
}
