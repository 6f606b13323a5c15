//! gRPC of tonic on both ends. The status of a call is in trailers, so these must arrive.

mod support;

use spdy_tower::Protocol;
use support::{Running, SPDY};
use tonic::Code;
use tonic_health::{
    ServingStatus::{NotServing, Serving},
    pb::{HealthCheckRequest, health_client::HealthClient},
};

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn calls_and_streams_of_grpc_work_over_spdy() {
    let mut running = Running::new().await;
    for protocol in [SPDY[0], SPDY[1], Protocol::Http2] {
        running.health.set_service_status("web", Serving).await;
        // ANCHOR: client
        let origin = running.uri.parse().unwrap();
        let mut client = HealthClient::with_origin(running.client(protocol), origin);

        let response = client.check(about("web")).await.unwrap();
        assert_eq!(response.extensions().get(), Some(&protocol));
        assert_eq!(response.into_inner().status, Serving as i32);
        // ANCHOR_END: client

        // A stream that lasts: each message comes when the status changes.
        let mut statuses = client.watch(about("web")).await.unwrap().into_inner();
        let first = statuses.message().await.unwrap().unwrap();
        assert_eq!(first.status, Serving as i32, "{protocol}");
        running.health.set_service_status("web", NotServing).await;
        let second = statuses.message().await.unwrap().unwrap();
        assert_eq!(second.status, NotServing as i32, "{protocol}");
        // The end of a stream has trailers with the status of the call.
        running.health.clear_service_status("web").await;
        while let Some(status) = statuses.message().await.unwrap() {
            assert_ne!(status.status, Serving as i32, "{protocol}");
        }
        assert!(statuses.trailers().await.unwrap().is_some(), "{protocol}");
    }
}

#[tokio::test]
async fn an_error_of_grpc_has_its_code() {
    let running = Running::new().await;
    for protocol in [SPDY[0], SPDY[1], Protocol::Http2] {
        let origin = running.uri.parse().unwrap();
        let mut client = HealthClient::with_origin(running.client(protocol), origin);
        let status = client.check(about("unknown")).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{protocol}");
    }
}
