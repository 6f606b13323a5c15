//! `/push`: a page whose style sheet is pushed before the page is sent.

use axum::{
    extract::Request,
    http::header::CONTENT_TYPE,
    response::{Html, IntoResponse},
};
use spdy_tower::Pusher;

/// The page. It looks the same to a client that takes no push and asks for the style sheet by itself.
pub(super) async fn push(request: Request) -> Html<&'static str> {
    if let Some(pusher) = Pusher::of(&request) {
        // A client that has refused pushes gets none, and needs none.
        _ = pusher.push("/pushed.css", pushed().await.into_response());
    }
    Html(PAGE)
}

/// The style sheet, for clients to which it was not pushed.
pub(super) async fn pushed() -> impl IntoResponse {
    ([(CONTENT_TYPE, CSS)], STYLE)
}

const PAGE: &str = include_str!("push.html");
const STYLE: &str = include_str!("pushed.css");
const CSS: &str = "text/css; charset=utf-8";
