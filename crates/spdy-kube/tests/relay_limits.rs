//! The limits of the relay that passes the streams of SPDY.

mod support;

use spdy_kube::Status;
use spdy_session::{HeaderBlock, Received, RstStatus, Shutdown, Stream, StreamError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use self::support::{
    SOON,
    chain::{Chain, kind},
};

/// The size of all header blocks in one direction of a stream.
const MAX_HEADERS: usize = 256 * 1024;

/// The longest outcome.
const MAX_STATUS: usize = 1024 * 1024;

/// Returns a block that counts as this many bytes.
fn block(size: usize) -> HeaderBlock {
    // The name has one byte, and a field counts as 32 more.
    let block = HeaderBlock::from_pairs([("x", "y".repeat(size - 33))]).unwrap();
    assert_eq!(block.size(), size);
    block
}

/// The server and the client are each a sender.
#[tokio::test(start_paused = true)]
async fn header_blocks_without_end_end_the_session() {
    const PIECE: usize = 8 * 1024;
    for from_client in [true, false] {
        let mut chain = Chain::new("v4.channel.k8s.io").await;
        let (near, far) = chain.open(&kind("stdout")).await;
        let (from, to) = if from_client {
            (near, far)
        } else {
            (far, near)
        };
        let ((_receive, mut send), (mut arrives, _open)) = (from.split(), to.split());
        for _ in 0..MAX_HEADERS / PIECE {
            send.send_headers(block(PIECE), false).unwrap();
            let next = timeout(SOON, arrives.next()).await.expect("it passes");
            let passed = matches!(next, Some(Ok(Received::Headers(_))));
            assert!(passed, "{from_client}: {next:?}");
        }
        send.send_headers(block(33), false).unwrap();
        let next = timeout(SOON, arrives.next()).await.expect("it ends");
        // A reset would look like the end of an input or an output.
        let ended = matches!(next, Some(Err(StreamError::Session(_))));
        assert!(ended, "{from_client}: {next:?}");
        for session in [&chain.client, &chain.server] {
            let closed = timeout(SOON, session.closed()).await;
            assert!(closed.is_ok(), "{from_client}: {:?}", session.side());
        }
    }
}

/// The reset would drop a reply that has not left, so the client is asked for a sign first.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_a_ping_gets_the_reset_after_5_s() {
    for (is_mute, seconds) in [(false, 0), (true, 5)] {
        let mut chain = Chain::new("v4.channel.k8s.io").await;
        let (mut near, far) = chain.open(&kind("stdout")).await;
        if is_mute {
            chain.mute_the_client();
        }
        let start = Instant::now();
        far.reset(RstStatus::CANCEL);
        let read = timeout(SOON, near.read(&mut [0])).await.expect("it ends");
        let error = read.unwrap_err();
        let error = error.get_ref().and_then(|error| error.downcast_ref());
        let is_reset = matches!(error, Some(StreamError::Reset { .. }));
        assert!(is_reset, "{error:?}");
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

/// A server may send more. The tap gets no outcome of which it does not know the end.
#[tokio::test(start_paused = true)]
async fn the_tap_keeps_an_outcome_of_a_mebibyte_and_no_more() {
    let status = Status::not_found("pods \"x\" not found");
    let json = status.to_json();
    for (length, expected) in [(MAX_STATUS, Some(status)), (MAX_STATUS + 1, None)] {
        let mut chain = Chain::new("v4.channel.k8s.io").await;
        let (mut near, mut far) = chain.open(&kind("error")).await;
        let said = " ".repeat(length - json.len()) + &json;
        let reads = read_all(&mut near);
        let writes = async {
            far.write_all(said.as_bytes()).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let (read, ()) = tokio::join!(reads, writes);
        assert_eq!(read, length, "the client gets all of it");
        near.shutdown().await.unwrap();
        chain.client.shutdown(Shutdown::Now);
        assert_eq!(chain.outcome().await, expected, "{length}");
    }
}

/// Returns how many bytes arrive.
async fn read_all(stream: &mut Stream) -> usize {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap()
}
