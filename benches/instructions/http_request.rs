//! Requests from `http::Request` to `http::Response`: both ends of a session, over
//! `tokio::io::duplex`.

use std::sync::{Arc, atomic::AtomicUsize};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty};
use spdy_tower::{
    Builder, Version,
    client::{SendRequest, handshake},
    session::Config,
};
use tokio::io::duplex;
use tower::Service;

use crate::{
    data::{BODY, REQUEST},
    driver::TRANSPORT,
    service::service,
    timeless,
};

/// GETs and their responses of 100 bytes, one after the other.
pub(crate) fn requests(_: usize, done: usize) {
    timeless().block_on(async {
        let (near, far) = duplex(TRANSPORT);
        let service = service(Arc::new(AtomicUsize::new(0)));
        tokio::spawn(Builder::new().serve_connection(far, Version::V3_1, service));
        let (mut requests, _, driver) = handshake(near, Version::V3_1, Config::default());
        tokio::spawn(driver);
        let (uri, fields) = (Uri::from_static(URI), fields());
        for _ in 0..done {
            fetch(&mut requests, uri.clone(), fields.clone()).await;
        }
    });
}

async fn fetch(requests: &mut SendRequest, uri: Uri, fields: HeaderMap) {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = uri;
    *request.headers_mut() = fields;
    let response = requests.call(request).await.expect("it is answered");
    let body = response.into_body().collect().await;
    let bytes = body.expect("the server does not fail").to_bytes().len();
    assert_eq!(bytes, BODY.len());
}

fn fields() -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in REQUEST {
        let name = HeaderName::from_static(name);
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields
}

const URI: &str = "https://www.example.com/assets/application.js";
