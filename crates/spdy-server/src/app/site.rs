//! The built-in site.

mod bytes;
mod hold;
mod push;
mod tools;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    response::{Html, IntoResponse},
    routing::{MethodRouter, get, post},
};

use self::{bytes::Digests, hold::Gate};
use crate::info::ConnectionInfo;

/// Returns the built-in site.
///
/// It shows the server to newcomers, and has routes for tests:
///
/// | Route | Response |
/// |---|---|
/// | `GET /` | a page with pictures, a style sheet and a script, which shows its protocol |
/// | `GET /hello` | 100 bytes of text |
/// | `GET /bytes/N` | N bytes, byte i = (i·31 + 7) mod 256, with their SHA-256 in `x-sha256` |
/// | `POST /echo` | the request body, while it arrives |
/// | `POST /sink` | the length of the request body |
/// | `GET /headers` | the header fields of the request, one on each line |
/// | `GET /slow/MS` | a response after that many milliseconds |
/// | `GET /status/CODE` | a response with that status |
/// | `GET /cookies` | two `set-cookie` fields |
/// | `GET /trailers` | a text, and its SHA-256 in the trailer `x-checksum` |
/// | `GET /push` | a page that pushes `/pushed.css` |
/// | `POST /hold` | as `/sink`, but reads nothing until `GET /release` |
pub fn site() -> Router {
    let state = Arc::new(Site::default());
    Router::new()
        .route("/", get(page))
        .route(
            "/style.css",
            text("text/css; charset=utf-8", include_str!("site/style.css")),
        )
        .route(
            "/script.js",
            text(
                "text/javascript; charset=utf-8",
                include_str!("site/script.js"),
            ),
        )
        .route("/logo.svg", text(SVG, include_str!("site/logo.svg")))
        .route("/streams.svg", text(SVG, include_str!("site/streams.svg")))
        .route("/frames.svg", text(SVG, include_str!("site/frames.svg")))
        .route("/hello", get(tools::hello))
        .route("/bytes/{bytes}", get(bytes::bytes))
        .route("/echo", post(tools::echo))
        .route("/sink", post(tools::sink))
        .route("/headers", get(tools::headers))
        .route("/slow/{milliseconds}", get(tools::slow))
        .route("/status/{code}", get(tools::status))
        .route("/cookies", get(tools::cookies))
        .route("/trailers", get(tools::trailers))
        .route("/push", get(push::push))
        .route("/pushed.css", get(push::pushed))
        .route("/hold", post(hold::hold))
        .route("/release", get(hold::release))
        .fallback(nothing_there)
        .with_state(state)
}

/// The state that the handlers of the site share.
#[derive(Debug, Default)]
struct Site {
    digests: Digests,
    gate: Gate,
}

type Shared = State<Arc<Site>>;

/// Returns the page. Without [`ConnectionInfo`] it runs outside a server, and the page says so.
async fn page(connection: Option<Extension<ConnectionInfo>>) -> Html<String> {
    let (protocol, tls) = connection.map_or_else(
        || ("no connection".into(), "nothing".into()),
        |Extension(info)| (info.protocol.to_string(), tls_facts(&info)),
    );
    Html(
        include_str!("site/index.html")
            .replace("{protocol}", &protocol)
            .replace("{tls}", &tls),
    )
}

fn tls_facts(info: &ConnectionInfo) -> String {
    match info.tls {
        Some(tls) => format!("{}, {}", tls.version, tls.cipher_suite),
        None if info.is_tls_of_proxy => "TLS up to a proxy".into(),
        None => "plain text".into(),
    }
}

async fn nothing_there(uri: Uri) -> impl IntoResponse {
    (
        StatusCode::NOT_FOUND,
        format!("not found: {}\n", uri.path()),
    )
}

fn text<S: Clone + Send + Sync + 'static>(
    kind: &'static str,
    text: &'static str,
) -> MethodRouter<S> {
    get(move || async move { ([(CONTENT_TYPE, kind)], text) })
}

const SVG: &str = "image/svg+xml";
