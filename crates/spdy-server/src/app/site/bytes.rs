//! `/bytes/N`: any number of bytes without copies, and their checksum in the head.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::Shared;

/// Returns a response with `bytes` bytes of the pattern.
pub(super) async fn bytes(State(site): Shared, Path(bytes): Path<u64>) -> Response {
    if bytes > MAX_BYTES {
        return (
            StatusCode::BAD_REQUEST,
            format!("at most {MAX_BYTES} bytes are served\n"),
        )
            .into_response();
    }
    let digest = site.digests.of(bytes).await;
    Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, bytes)
        .header("x-sha256", digest)
        .body(Body::new(Pattern(bytes)))
        .expect("the fields are valid")
}

/// A body of that many bytes, which are slices of one static block.
#[derive(Debug)]
struct Pattern(u64);

impl http_body::Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        let len = self.0.min(BLOCK.len() as u64);
        self.0 -= len;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(
            &BLOCK[..len as usize],
        )))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// The SHA-256 of prefixes of the pattern, as hexadecimal text.
///
/// Hashing a GiB takes about a second. So a thread for blocking work does it, one length at a time,
/// and the last few digests are kept.
#[derive(Debug, Default)]
pub(super) struct Digests {
    known: Mutex<VecDeque<(u64, String)>>,
    turn: tokio::sync::Mutex<()>,
}

impl Digests {
    /// Cancel safe: hashing stops after the current step.
    async fn of(&self, bytes: u64) -> String {
        if bytes <= STEP_INLINE {
            return hex(hash(Sha256::new(), bytes));
        }
        if let Some(digest) = self.look_up(bytes) {
            return digest;
        }
        let _turn = self.turn.lock().await;
        // The previous holder of the lock might have wanted the same length.
        if let Some(digest) = self.look_up(bytes) {
            return digest;
        }
        let (mut hasher, mut left) = (Sha256::new(), bytes);
        while left > 0 {
            let step = left.min(STEP);
            hasher = spawn_blocking(move || hash(hasher, step))
                .await
                .expect("hashing does not panic");
            left -= step;
        }
        let digest = hex(hasher);
        self.remember(bytes, digest.clone());
        digest
    }

    fn look_up(&self, bytes: u64) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .find(|(length, _)| *length == bytes)
            .map(|(_, digest)| digest.clone())
    }

    fn remember(&self, bytes: u64, digest: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.truncate(MAX_KNOWN - 1);
        known.push_front((bytes, digest));
    }
}

/// Adds `bytes` bytes of the pattern. The hasher must be at the beginning of a period.
fn hash(mut hasher: Sha256, bytes: u64) -> Sha256 {
    let mut left = bytes;
    while left > 0 {
        let len = left.min(BLOCK.len() as u64);
        hasher.update(&BLOCK[..len as usize]);
        left -= len;
    }
    hasher
}

fn hex(hasher: Sha256) -> String {
    super::tools::hex(&hasher.finalize())
}

/// The pattern: byte i = (i·31 + 7) mod 256. It repeats every 256 bytes, so each chunk can begin
/// with the block.
static BLOCK: [u8; 64 * 1024] = {
    let mut block = [0; 64 * 1024];
    let mut i = 0;
    while i < block.len() {
        block[i] = (i.wrapping_mul(31).wrapping_add(7) % 256) as u8;
        i += 1;
    }
    block
};

/// Enough for any test, and hashed in about ten seconds.
const MAX_BYTES: u64 = 16 << 30;

/// The number of bytes that a thread for blocking work hashes at once: some milliseconds, and a
/// multiple of the period.
const STEP: u64 = 8 << 20;

/// The number of bytes that are hashed in place, which takes less time than using another thread.
const STEP_INLINE: u64 = 32 << 10;

/// The maximum number of digests that are kept.
const MAX_KNOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(bytes: u64) -> String {
        let all: Vec<u8> = (0..bytes).map(|i| ((i * 31 + 7) % 256) as u8).collect();
        super::super::tools::hex(&Sha256::digest(all))
    }

    #[tokio::test]
    async fn digests_are_those_of_the_bytes_whatever_way_they_are_made() {
        let digests = Digests::default();
        for bytes in [
            0,
            1,
            255,
            256,
            257,
            STEP_INLINE,
            STEP_INLINE + 1,
            65_536,
            65_537,
            STEP + 300,
        ] {
            let first = digests.of(bytes).await;
            assert_eq!(first, expected(bytes), "{bytes}");
            assert_eq!(digests.of(bytes).await, first, "{bytes}, from memory");
        }
    }

    #[test]
    fn only_the_last_digests_are_remembered() {
        let digests = Digests::default();
        for bytes in 0..1000 {
            digests.remember(bytes, bytes.to_string());
        }
        assert_eq!(digests.known.lock().unwrap().len(), MAX_KNOWN);
        assert_eq!(digests.look_up(999).as_deref(), Some("999"));
        assert_eq!(digests.look_up(999 - MAX_KNOWN as u64), None);
    }
}
