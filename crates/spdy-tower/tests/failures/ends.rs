//! Clients that cancel, and transports that break.

use std::future::pending;

use axum::{Router, body::Body, routing::post};
use http_body_util::BodyExt;
use spdy_frame::RstStatus;
use spdy_session::StreamError;
use spdy_tower::BodyError;
use tokio::sync::mpsc;

use crate::support::{Client, in_all_versions, within};

#[tokio::test(start_paused = true)]
async fn a_client_that_cancels_drops_the_handler_and_breaks_the_body() {
    in_all_versions(async |version| {
        let (report, mut reports) = mpsc::unbounded_channel();
        let handler = async move |body: Body| {
            let ended = Ended(report.clone());
            let _ = report.send("began");
            tokio::spawn(async move {
                let error = body.collect().await.unwrap_err();
                let error = std::error::Error::source(&error)
                    .unwrap()
                    .downcast_ref::<BodyError>()
                    .unwrap()
                    .clone();
                assert!(
                    matches!(
                        error,
                        BodyError::Stream(StreamError::Reset {
                            status: RstStatus::CANCEL,
                            ..
                        })
                    ),
                    "{error:?}"
                );
                drop(ended);
            });
            let _ended = Ended(report.clone());
            pending::<()>().await;
        };
        let client = Client::of(version, Router::new().route("/", post(handler)));
        let (_receive, send) = client.open(client.head("POST", "/"), false).await;
        assert_eq!(within(reports.recv()).await, Some("began"));
        send.reset(RstStatus::CANCEL);
        assert_eq!(within(reports.recv()).await, Some("ended"));
        assert_eq!(within(reports.recv()).await, Some("ended"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_breaks_drops_the_handlers() {
    in_all_versions(async |version| {
        let (report, mut reports) = mpsc::unbounded_channel();
        let handler = async move |_body: Body| {
            let _ended = Ended(report.clone());
            let _ = report.send("began");
            pending::<()>().await;
        };
        let client = Client::of(version, Router::new().route("/", post(handler)));
        let _stream = client.open(client.head("POST", "/"), false).await;
        assert_eq!(within(reports.recv()).await, Some("began"));
        client.cut();
        assert_eq!(within(reports.recv()).await, Some("ended"));
        within(client.server).await.unwrap().unwrap_err();
    })
    .await;
}

/// Sends its name when it is dropped.
struct Ended(mpsc::UnboundedSender<&'static str>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send("ended");
    }
}
