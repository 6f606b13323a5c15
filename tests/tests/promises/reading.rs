//! X3, X5, X6 and X13: what a reader returns.

use std::time::Duration;

use spdy_frame::{HeaderBlock, Version};
use spdy_session::Config;
use spdy_tests::{
    frames,
    side::{connect, serve, within},
    wire::Received,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(start_paused = true)]
async fn x03_what_is_left_at_the_end_is_delivered() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let mut stream = side.upload(1).await;
        side.peer.send(frames::data(1, "5 oct").fin()).await;
        let mut bytes = [0; 10];
        let mut read = 0;
        loop {
            match within(stream.read(&mut bytes[read..])).await.unwrap() {
                0 => break,
                more => read += more,
            }
        }
        assert_eq!(bytes[..read], *b"5 oct");
    }
}

#[tokio::test(start_paused = true)]
async fn x05_a_read_that_timed_out_has_lost_nothing() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let mut stream = side.upload(1).await;
        let mut bytes = [0; 10];
        let began = tokio::time::Instant::now();
        let time = Duration::from_millis(50);
        assert!(
            tokio::time::timeout(time, stream.read(&mut bytes))
                .await
                .is_err()
        );
        assert_eq!(began.elapsed(), time);
        side.peer.send(frames::data(1, "late")).await;
        let read = within(stream.read(&mut bytes)).await.unwrap();
        assert_eq!(bytes[..read], *b"late");
    }
}

#[tokio::test(start_paused = true)]
async fn x06_a_client_gets_the_headers_of_the_reply() {
    for version in Version::ALL {
        let mut side = connect(version, Config::default());
        let mut stream = side.open().await;
        let reply = frames::syn_reply(version, 1)
            .status("200 OK")
            .field("x-answer", "42");
        side.peer.send(reply.fin()).await;
        let headers = within(stream.response_headers()).await.unwrap();
        assert_eq!(headers.get("x-answer"), Some(&b"42"[..]));
    }
}

/// A client may close its direction when it has sent all requests.
#[tokio::test(start_paused = true)]
async fn x13_a_client_that_half_closes_gets_its_answer_over_the_driver() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        side.peer
            .send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        side.peer.shutdown().await;
        let stream = within(side.incoming.accept()).await.unwrap();
        let mut stream = stream.send_reply(HeaderBlock::new()).unwrap();
        stream.write_all(&[7; 10_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let frames = side.peer.recv_all().await;
        let bytes: usize = frames
            .iter()
            .map(|frame| match frame {
                Received::Data { payload, .. } => payload.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(bytes, 10_000);
        within(side.driver).await.unwrap().unwrap();
    }
}
