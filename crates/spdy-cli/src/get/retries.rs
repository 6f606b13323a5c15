//! `--retry`: which failures may pass, and how long to wait for it.

use std::time::Duration;

use http::{Response, StatusCode, header::RETRY_AFTER};

use crate::{
    failure::{Again, Failure},
    flags::Get,
};

/// The attempts that are left for a request.
pub(super) struct Retries {
    pub(super) left: u32,
    delay: Option<Duration>,
    /// The time before the next attempt, if neither the user nor the server has given one.
    next: Duration,
}

impl Retries {
    pub(super) const fn new(get: &Get) -> Self {
        Self {
            left: get.retry,
            delay: get.retry_delay,
            next: Duration::from_secs(1),
        }
    }

    /// Takes one of the attempts that are left. Returns the time before it.
    pub(super) fn take(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let next = self.next;
        self.next = (2 * next).min(LONGEST);
        Some(self.delay.or(asked).unwrap_or(next))
    }
}

/// Returns why another attempt may succeed, and the time that the server asks for. Unless the
/// method `is_idempotent`, the server has certainly not processed the request.
pub(super) fn passing<B>(
    outcome: &Result<Response<B>, Failure>,
    is_idempotent: bool,
) -> Option<(String, Option<Duration>)> {
    match outcome {
        Err(failure) => match failure.again {
            Again::Never => None,
            Again::Perhaps if !is_idempotent => None,
            Again::Perhaps | Again::Safely => Some((failure.to_string(), None)),
        },
        Ok(response) => {
            let status = response.status();
            let seconds = response.headers().get(RETRY_AFTER);
            let seconds = seconds.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
            let asked = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST));
            let passing = if is_idempotent {
                &PASSING
            } else {
                &PASSING[..3]
            };
            passing
                .contains(&status)
                .then(|| (format!("status {status}"), asked))
        }
    }
}

/// With the first three the server has not processed the request.
const PASSING: [StatusCode; 6] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::BAD_GATEWAY,
    StatusCode::GATEWAY_TIMEOUT,
];

/// As in curl.
const LONGEST: Duration = Duration::from_secs(600);
