//! Requests and responses with the secret.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use spdy_tower::{Body, client::SendRequest};

use crate::search::{SECRET, hidden};

/// Answers with the secret, and looks at all that it is given.
pub(crate) async fn respond(request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    hidden("Request", &request);
    let (head, body) = request.into_parts();
    assert_eq!(head.headers["cookie"], SECRET);
    hidden("the extensions", &head.extensions);
    let collected = body.collect().await.unwrap();
    hidden("the trailers", &collected.trailers());
    let response = Response::builder()
        .header("set-cookie", SECRET)
        .header("set-cookie", format!("b={SECRET}"))
        .header("x-length", collected.to_bytes().len());
    Ok(response.body(Full::from(SECRET)).unwrap())
}

pub(crate) async fn ask(client: &SendRequest) {
    let request = Request::get("https://a.test/")
        .header("cookie", SECRET)
        .header("authorization", format!("Bearer {SECRET}"))
        .body(Full::<Bytes>::from(SECRET))
        .unwrap();
    let response = client.send(request);
    hidden("ResponseFuture", &response);
    let mut response = response.await.unwrap();
    hidden("Response", &response);
    assert_eq!(response.headers()["set-cookie"], SECRET);
    while let Some(frame) = response.body_mut().frame().await {
        assert_eq!(frame.unwrap().into_data().unwrap(), SECRET);
        hidden("Body", response.body());
    }
    hidden("SendRequest", client);
}
