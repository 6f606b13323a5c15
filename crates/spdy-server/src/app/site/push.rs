//! `/push`: a page whose style sheet is pushed before the page is sent.

use axum::{
    extract::Request,
    http::header::CONTENT_TYPE,
    response::{Html, IntoResponse},
};
use spdy_tower::Pusher;

/// Returns the page. A client that does not accept pushes requests the style sheet itself, and
/// shows the same page.
pub(super) async fn push(request: Request) -> Html<&'static str> {
    if let Some(pusher) = Pusher::of(&request) {
        // A client that has disabled pushes receives none, and needs none.
        _ = pusher.push("/pushed.css", pushed().await.into_response());
    }
    Html(PAGE)
}

/// Returns the style sheet, for clients without the push.
pub(super) async fn pushed() -> impl IntoResponse {
    ([(CONTENT_TYPE, CSS)], STYLE)
}

const PAGE: &str = include_str!("push.html");
const STYLE: &str = include_str!("pushed.css");
const CSS: &str = "text/css; charset=utf-8";
