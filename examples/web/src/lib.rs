//! An application with redirects, gzip, JSON, server-sent events, WebSocket and gRPC. Nothing in it
//! knows by which protocol a request came.

use std::convert::Infallible;

use axum::{
    Json, Router,
    extract::{State, ws::WebSocketUpgrade},
    response::{
        Redirect, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::get,
};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast::Sender;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower_http::compression::CompressionLayer;

/// What listeners of `/events` get.
pub type News = Sender<String>;

// ANCHOR: app
/// Returns the application. `health` is the service `grpc.health.v1.Health`.
pub fn app(news: News, health: HealthServer<impl Health>) -> Router {
    let documents = Router::new()
        .route("/numbers", get(numbers))
        .route("/old", get(Redirect::permanent("/numbers")))
        .layer(CompressionLayer::new());
    Router::new()
        .route("/events", get(events))
        .route("/echo", get(echo))
        .with_state(news)
        .merge(documents)
        .merge(Routes::new(health).into_axum_router())
}
// ANCHOR_END: app

async fn numbers() -> Json<Value> {
    Json(json!({ "numbers": (0..10_000).collect::<Vec<_>>() }))
}

// ANCHOR: events
/// Server-sent events: one for each piece of news.
async fn events(
    State(news): State<News>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let events = stream::unfold(news.subscribe(), async |mut news| {
        let piece = news.recv().await.ok()?;
        Some((Ok(Event::default().data(piece)), news))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
// ANCHOR_END: events

// ANCHOR: echo
/// A WebSocket that sends every message back. It needs HTTP/1.1, which the same port speaks.
async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}
// ANCHOR_END: echo
