//! TLS to an application.

use std::{io, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, client::Resumption,
    pki_types::ServerName,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Upstream, dial::Channel};
use crate::{pass::pass, socket::Fails};

/// Offers the one protocol that the proxy speaks over a connection.
pub(super) fn offer(config: &mut Arc<ClientConfig>, http2: bool) {
    let protocol = if http2 { HTTP2 } else { HTTP1 };
    Arc::make_mut(config).alpn_protocols = vec![protocol.to_vec()];
}

/// Returns what opens connections that take no session of those which others can resume: a ticket
/// of TLS 1.3 is of use once.
pub(super) fn without_sessions(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Performs the handshake. The certificate has to name the host of the address.
pub(super) async fn connect(
    config: Option<Arc<ClientConfig>>,
    upstream: &Upstream,
    io: Channel,
) -> io::Result<Channel> {
    let missing = || io::Error::other("no certificate is trusted: set `Proxy::tls`");
    let connector = TlsConnector::from(config.ok_or_else(missing)?);
    let name = ServerName::try_from(upstream.host().to_owned()).map_err(io::Error::other)?;
    let secured = connector
        .connect(name, io)
        .await
        .map_err(|error| explained(&error))?;
    let is_http2 = secured.get_ref().1.alpn_protocol() == Some(HTTP2);
    if upstream.is_http2() && !is_http2 {
        return Err(refused(NO_HTTP2));
    }
    Ok(Box::new(secured))
}

impl<IO: Fails> Fails for TlsStream<IO> {
    pass!(Fails => get_ref().0);
}

/// Adds what to do to the error of a handshake.
fn explained(error: &io::Error) -> io::Error {
    use CertificateError as Bad;
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Error>());
    let cure = match cause {
        // The latter if an authority of the same name with another key is trusted.
        Some(Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature)) => {
            "; trust the authority that has signed it, by --proxy-ca or `Proxy::tls`"
        }
        Some(Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        )) => "; use a host in the URL of the application that its certificate names",
        Some(Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. })) => {
            "; renew the certificate of the application"
        }
        Some(Error::InvalidMessage(_)) => {
            "; if the application does not use TLS there, use http:// or h2://"
        }
        Some(
            Error::NoApplicationProtocol
            | Error::AlertReceived(AlertDescription::NoApplicationProtocol),
        ) => "; use h2s:// for an application that offers HTTP/2 alone, and https:// for others",
        _ => "",
    };
    let text = format!("TLS handshake failed: {error}{cure}");
    io::Error::new(error.kind(), text)
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

const NO_HTTP2: &str = "the application does not offer HTTP/2 over TLS; use https://";

#[cfg(test)]
mod tests {
    use rustls::{
        HandshakeKind, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::auto::Foreign;

    /// An application whose certificate is for this name, and what trusts it.
    fn application(name: &str, offered: &[&[u8]]) -> (TlsAcceptor, ClientConfig) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let mut server = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = offered.iter().map(|id| id.to_vec()).collect();
        (
            TlsAcceptor::from(Arc::new(server)),
            trusting(Some(made.cert.der())),
        )
    }

    fn trusting(certificate: Option<&CertificateDer<'static>>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        if let Some(certificate) = certificate {
            roots.add(certificate.clone()).unwrap();
        }
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn offering(config: ClientConfig, http2: bool) -> Arc<ClientConfig> {
        let mut config = Arc::new(config);
        offer(&mut config, http2);
        config
    }

    /// Connects to an application, which sends the kind of its handshake as a byte.
    async fn dial(
        acceptor: &TlsAcceptor,
        config: &Arc<ClientConfig>,
        url: &str,
    ) -> Result<Channel, String> {
        let (near, far) = duplex(65_536);
        let accepting = acceptor.accept(far);
        tokio::spawn(async move {
            let mut io: tokio_rustls::server::TlsStream<DuplexStream> = accepting.await?;
            let is_resumed = io.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            io.write_u8(is_resumed.into()).await?;
            io.shutdown().await
        });
        let config = Some(Arc::clone(config));
        let connected = connect(config, &url.parse().unwrap(), Box::new(Foreign(near))).await;
        connected.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn connections_to_an_application_resume_one_session() {
        for (url, http2) in [("https://app.test", false), ("h2s://app.test", true)] {
            let (acceptor, config) = application("app.test", &[b"h2", b"http/1.1"]);
            let config = offering(config, http2);
            for is_resumed in [0, 1, 1] {
                let mut io = dial(&acceptor, &config, url).await.unwrap();
                assert_eq!(io.read_u8().await.unwrap(), is_resumed, "{url}");
                // The ticket is behind it.
                assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
            }
        }
    }

    #[tokio::test]
    async fn errors_of_the_handshake_name_what_to_do() {
        let (acceptor, config) = application("app.test", &[]);
        let (http1, http2) = (offering(config.clone(), false), offering(config, true));
        dial(&acceptor, &http1, "https://app.test").await.unwrap();
        let strangers = offering(trusting(None), false);
        for (config, url, expected) in [
            (
                &strangers,
                "https://app.test",
                "; trust the authority that has signed it, by --proxy-ca",
            ),
            (
                &http1,
                "https://127.0.0.1",
                "; use a host in the URL of the application that its",
            ),
            (
                &http1,
                "https://other.test",
                "; use a host in the URL of the application that its",
            ),
            (
                &http2,
                "h2s://app.test",
                "does not offer HTTP/2 over TLS; use https://",
            ),
        ] {
            let error = dial(&acceptor, config, url).await.err().unwrap();
            assert!(error.contains(expected), "{expected} is not in {error}");
        }
        let (only_http2, config) = application("app.test", &[b"h2"]);
        let config = offering(config, false);
        let error = dial(&only_http2, &config, "https://app.test")
            .await
            .err()
            .unwrap();
        assert!(error.contains("; use h2s:// for an application"), "{error}");

        let (near, mut far) = duplex(1024);
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let upstream = "https://app.test".parse().unwrap();
        let plain = connect(Some(config), &upstream, Box::new(Foreign(near))).await;
        let error = plain.err().unwrap().to_string();
        assert!(
            error.contains("; if the application does not use TLS there"),
            "{error}"
        );
    }
}
