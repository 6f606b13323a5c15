//! Connections of TCP and of TLS.

use std::{env, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        client::Resumption,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::Failure;

/// A connection, whatever is below it.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Transport for IO {}

pub(crate) async fn tcp(address: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Connects with TLS.
pub(crate) async fn tls(
    connector: &TlsConnector,
    address: SocketAddr,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from("localhost")?;
    Ok(connector.connect(name, tcp(address).await?).await?)
}

/// Creates a connector that offers one protocol in ALPN, or none, and resumes sessions if it may.
pub(crate) fn connector(protocol: Option<&str>, resumes: bool) -> Result<TlsConnector, Failure> {
    let file = env::var_os("BENCH_CERTIFICATE").ok_or("BENCH_CERTIFICATE is not set")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocol.map(|token| token.into()).into_iter().collect();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}
