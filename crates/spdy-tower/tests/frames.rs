//! What a request and its response are on the wire.

mod support;

use axum::{Router, routing::get};
use spdy_frame::{Frame, HeaderBlock, Priority, RstStatus, StreamId, SynStream};

use self::support::{RawClient, head, in_all_versions};

fn request(block: &HeaderBlock) -> SynStream<&HeaderBlock> {
    SynStream {
        stream: StreamId::new(1).unwrap(),
        associated: None,
        priority: Priority::default(),
        fin: true,
        unidirectional: false,
        block,
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/empty", get(async || ()))
}

#[tokio::test(start_paused = true)]
async fn c032_a_whole_response_is_two_frames_with_fin_on_the_last() {
    in_all_versions(async |version| {
        let mut client = RawClient::of(version, router());
        client.open(&request(&head(version, "GET", "/"))).await;
        assert!(matches!(client.next().await, Frame::SynReply(reply) if !reply.fin));
        assert!(
            matches!(client.next().await, Frame::Data(data) if data.fin && data.payload == "hello")
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c159_a_response_without_a_body_is_one_frame() {
    in_all_versions(async |version| {
        for (method, path) in [("HEAD", "/"), ("GET", "/empty"), ("GET", "/none")] {
            let mut client = RawClient::of(version, router());
            client.open(&request(&head(version, method, path))).await;
            let frame = client.next().await;
            assert!(
                matches!(&frame, Frame::SynReply(reply) if reply.fin),
                "{method} {path}: {frame:?}"
            );
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c047_a_unidirectional_stream_of_a_client_is_reset() {
    in_all_versions(async |version| {
        let head = head(version, "GET", "/");
        let unidirectional = SynStream { fin: false, unidirectional: true, ..request(&head) };
        let associated = SynStream { associated: StreamId::new(3), ..request(&head) };
        for frame in [unidirectional, associated] {
            let mut client = RawClient::of(version, router());
            client.open(&frame).await;
            let answer = client.next().await;
            assert!(
                matches!(&answer, Frame::RstStream(reset) if reset.status == RstStatus::PROTOCOL_ERROR),
                "{answer:?}"
            );
            let next = SynStream { stream: StreamId::new(3).unwrap(), ..request(&head) };
            client.open(&next).await;
            assert!(matches!(client.next().await, Frame::SynReply(_)), "the session goes on");
        }
    })
    .await;
}
