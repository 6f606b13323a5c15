//! A connection over rustls.

use std::sync::{Arc, OnceLock};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::DuplexStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{PrivateKeyDer, ServerName},
    },
    server,
};

type Sides = (Arc<ServerConfig>, Arc<ClientConfig>);

fn sides() -> &'static Sides {
    static SIDES: OnceLock<Sides> = OnceLock::new();
    SIDES.get_or_init(|| {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["a.test".to_owned()]).expect("the name is valid");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("the key is valid");
        let mut server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("key and certificate belong together");
        // The client reads none before the handshake ends.
        server.send_tls13_tickets = 0;
        let mut roots = RootCertStore::empty();
        roots
            .add(cert.der().clone())
            .expect("the certificate is valid");
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    })
}

/// Returns both ends of a connection after the handshake, the server's first.
pub(crate) async fn connect(
    near: DuplexStream,
    far: DuplexStream,
) -> (
    server::TlsStream<DuplexStream>,
    client::TlsStream<DuplexStream>,
) {
    let (server, client) = sides().clone();
    let name = ServerName::try_from("a.test").expect("the name is valid");
    let (near, far) = tokio::join!(
        TlsAcceptor::from(server).accept(near),
        TlsConnector::from(client).connect(name, far),
    );
    (near.unwrap(), far.unwrap())
}
