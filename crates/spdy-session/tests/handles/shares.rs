//! The shares of streams in a session whose window is small or whose peer is slow.

use std::time::Duration;

use bytes::Bytes;
use spdy_frame::Priority;
use spdy_session::{
    Config, HeaderBlock, Incoming, OpenOptions, Received, RecvStream, Session, Stream, Version,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{block, in_all_versions, pair_with, within};

/// Answers each stream with the number of bytes in its field `size`.
async fn serve(mut incoming: Incoming) {
    let mut responses = JoinSet::new();
    while let Some(stream) = incoming.accept().await {
        let size = stream.headers().get("size").expect("it has a size");
        let size: usize = std::str::from_utf8(size).unwrap().parse().unwrap();
        responses.spawn(async move {
            let mut send = stream.send_reply(HeaderBlock::new()).ok()?.split().1;
            let mut left = Bytes::from(vec![7; size]);
            while !left.is_empty() {
                send.ready().await.ok()?;
                let piece = left.split_to(left.len().min(16 * 1024));
                send.send_data(piece, left.is_empty()).ok()?;
            }
            send.written().await.ok()
        });
    }
}

async fn request(session: &Session, size: usize, priority: Priority) -> Stream {
    let how = OpenOptions::new().priority(priority).fin(true);
    let headers = block(&[("size", &size.to_string())]);
    within(session.open(headers, how)).await.unwrap()
}

async fn read_all(mut stream: RecvStream) -> usize {
    let mut bytes = 0;
    while let Some(received) = stream.next().await {
        if let Received::Data(piece) = received.unwrap() {
            bytes += piece.len();
        }
    }
    bytes
}

/// Urgent responses alone would use up each window of the session, if passing over the others had
/// no effect.
#[tokio::test(start_paused = true)]
async fn a_response_of_low_priority_completes_beside_urgent_ones_without_end() {
    in_all_versions(async |version| {
        let mut config = Config::default();
        config.limits.session_window = 64 * 1024;
        config.limits.max_session_window = 0;
        let (near, far) = pair_with(version, config, Config::default());
        tokio::spawn(serve(far.incoming));
        let mut urgent = JoinSet::new();
        let (under_way, mut is_under_way) = mpsc::channel(8);
        for _ in 0..4 {
            let (session, under_way) = (near.session.clone(), under_way.clone());
            urgent.spawn(async move {
                let mut responses = 0;
                loop {
                    let stream = request(&session, 256 * 1024, Priority::HIGHEST).await;
                    assert_eq!(read_all(stream.split().0).await, 256 * 1024);
                    responses += 1;
                    _ = under_way.try_send(());
                    // Each frame of the low stream is written within 8 * 16 frames of 16 KiB.
                    assert!(responses < 100, "{version}: the low one is starved");
                }
            });
        }
        for _ in 0..8 {
            within(is_under_way.recv()).await.unwrap();
        }
        let low = request(&near.session, 64 * 1024, Priority::LOWEST).await;
        tokio::select! {
            bytes = within(read_all(low.split().0)) => assert_eq!(bytes, 64 * 1024),
            failed = urgent.join_next() => panic!("{:?}", failed.map(|it| it.map(|()| "ended"))),
        }
    })
    .await;
}

/// The peer grants the session's window all the time, but each stream waits for its turn longer
/// than `blocked`.
#[tokio::test(start_paused = true)]
async fn a_slow_client_with_many_downloads_loses_none_of_them() {
    in_all_versions(async |version| {
        let (near, far) = pair_with(version, Config::default(), Config::default());
        tokio::spawn(serve(far.incoming));
        let mut streams = Vec::new();
        for _ in 0..100 {
            let stream = request(&near.session, 320 * 1024, Priority::default()).await;
            streams.push((stream.split().0, 0));
        }
        let start = tokio::time::Instant::now();
        while !streams.is_empty() {
            let mut going = Vec::new();
            for (mut stream, mut bytes) in streams {
                let next = timeout(Duration::from_millis(1), stream.next()).await;
                match next {
                    Ok(None) => {
                        assert_eq!(bytes, 320 * 1024);
                        continue;
                    }
                    Ok(Some(Ok(Received::Data(piece)))) => {
                        bytes += piece.len();
                        // 40 kB a second for all streams together.
                        sleep(Duration::from_micros(piece.len() as u64 * 25)).await;
                    }
                    Ok(Some(Err(error))) if version == Version::V3_1 => {
                        panic!("{error} after {bytes} bytes, {:?}", start.elapsed())
                    }
                    Ok(Some(Err(error))) => panic!("{version}: {error}"),
                    Ok(Some(Ok(_))) | Err(_) => {}
                }
                going.push((stream, bytes));
            }
            streams = going;
        }
        assert!(start.elapsed() > Duration::from_secs(600));
    })
    .await;
}
