//! Gets JSON over SPDY, HTTP/2 or HTTP/1.1, with the layers of tower-http: redirects are followed,
//! gzip is inflated, and the progress is shown.
//!
//! Run with `cargo run --bin client_layers -- https://localhost:8443/old ca.pem`.

use std::{env, error::Error, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use spdy_tower::Protocol;
use spdy_tower::client::rustls::pki_types::{CertificateDer, pem::PemObject};
use spdy_tower::client::rustls::{ClientConfig, RootCertStore};
use spdy_tower::client::{Client, Connector, ReadBody};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::{decompression::DecompressionLayer, follow_redirect::FollowRedirectLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let [uri, trusted] = [1, 2].map(|index| env::args().nth(index).expect("URI and CA-FILE"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted)?)?;
    let tls = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // ANCHOR: client
    let connector = Connector::new(tls).request_timeout(Some(Duration::from_secs(30)));
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(DecompressionLayer::new())
        .service(Client::new(connector.proxies_from_env()));
    let request = Request::get(uri).body(Empty::<Bytes>::new())?;
    let response = client.oneshot(request).await?;
    let protocol = response.extensions().get::<Protocol>().copied();
    println!("{} over {protocol:?}", response.status());
    // ANCHOR_END: client
    let mut total = 0;
    let body = response.into_body().map_frame(move |frame| {
        total += frame.data_ref().map_or(0, Bytes::len);
        eprint!("\r{total} bytes");
        frame
    });
    let document: serde_json::Value = body.json(1024 * 1024).await?;
    let numbers = document["numbers"].as_array().map_or(0, Vec::len);
    println!("{numbers} numbers");
    Ok(())
}
