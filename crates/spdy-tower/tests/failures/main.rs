//! Failures of one request: the client gets an error, and the session goes on.

mod application;
mod ends;
mod lengths;
mod panics;
mod requests;
#[path = "../support/mod.rs"]
mod support;

use spdy_frame::RstStatus;
use spdy_session::{RecvStream, StreamError};

use self::support::within;

async fn drain(mut receive: RecvStream) -> Result<(), StreamError> {
    while let Some(received) = within(receive.next()).await {
        received?;
    }
    Ok(())
}

#[track_caller]
fn assert_reset(end: Result<(), StreamError>, expected: RstStatus) {
    match end {
        Err(StreamError::Reset { status, .. }) => assert_eq!(status, expected),
        other => panic!("no reset: {other:?}"),
    }
}
