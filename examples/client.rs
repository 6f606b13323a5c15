//! Fetches a page over whatever the server speaks: SPDY, HTTP/2 or HTTP/1.1.
//!
//! Run with `cargo run --release -p spdy-examples --example client -- https://localhost:8443/
//! ca.pem`, where `ca.pem` holds the certificates to trust. Without arguments it starts a server of
//! its own to ask.

use std::{error::Error, sync::Arc};

use axum::{Extension, Router, routing::get};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use spdy_tower::{
    Builder, StreamInfo, Version,
    client::{Client, Connector},
};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut roots = RootCertStore::empty();
    let uri = match (arguments.next(), arguments.next()) {
        (Some(uri), Some(trusted)) => {
            for certificate in CertificateDer::pem_file_iter(trusted)? {
                roots.add(certificate?)?;
            }
            uri
        }
        (Some(uri), None) => uri,
        (None, _) => {
            let (uri, certificate) = serve().await?;
            roots.add(certificate)?;
            uri
        }
    };

    let tls = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::new(Connector::new(tls));
    for number in 1..=3 {
        let request = Request::get(&uri).body(Empty::<Bytes>::new())?;
        let response = client.send(request).await?;
        println!("{number}: {}", response.status());
        for (name, value) in response.headers() {
            println!("   {name}: {}", value.to_str().unwrap_or("?"));
        }
        let page = response.into_body().collect().await?.to_bytes();
        println!("{}", String::from_utf8_lossy(&page));
    }
    Ok(())
}

/// Starts a server of SPDY/3.1 over TLS, and gives its address and its certificate.
async fn serve() -> Result<(String, CertificateDer<'static>), Box<dyn Error>> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".into()])?;
    let certificate = cert.der().clone();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    tls.alpn_protocols = vec![b"spdy/3.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));

    let page = async |Extension(info): Extension<StreamInfo>| {
        format!("Hello on stream {} of {}", info.id, info.version)
    };
    let app = Router::new().route("/", get(page));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("https://localhost:{}/", listener.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, app) = (acceptor.clone(), app.clone());
            tokio::spawn(async move {
                let transport = acceptor.accept(socket).await?;
                let connection = Builder::new().serve_connection(transport, Version::V3_1, app);
                connection.await.map_err(std::io::Error::other)
            });
        }
    });
    Ok((uri, certificate))
}
