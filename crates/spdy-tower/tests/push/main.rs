//! Server push: what the adapter sends, and what the client makes of it.

mod client;
mod server;
#[path = "../support/mod.rs"]
mod support;

use axum::{Router, extract::Request, routing::get as on_get};
use bytes::Bytes;
use http::{Response, header::CONTENT_TYPE};
use http_body_util::Full;
use spdy_tower::Pusher;

fn style() -> Response<Full<Bytes>> {
    let response = Response::builder().header(CONTENT_TYPE, "text/css");
    response.body("p { color: navy }".into()).unwrap()
}

/// A page that pushes `/style.css` before it is given.
fn page() -> Router {
    let page = async |request: Request| {
        Pusher::of(&request)
            .unwrap()
            .push("/style.css?v=1", style())
            .unwrap();
        "page"
    };
    Router::new().route("/", on_get(page))
}
