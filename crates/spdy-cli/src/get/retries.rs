//! `--retry`: which failures may pass, and how long to wait for it.

use std::time::Duration;

use http::{Response, StatusCode, header::RETRY_AFTER};

use super::facts::Facts;
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
/// method is idempotent, no server has processed the request.
pub(super) fn passing<B>(
    outcome: &Result<Response<B>, Failure>,
    facts: &Facts,
) -> Option<(String, Option<Duration>)> {
    let again = match outcome {
        Err(failure) => failure.again,
        // No status says that the request was not processed.
        Ok(response) if PASSING.contains(&response.status()) => Again::Perhaps,
        Ok(_) => Again::Never,
    };
    let may_repeat = match again {
        Again::Never => false,
        Again::Perhaps => facts.method.is_idempotent(),
        // A redirect is the response to the first request, which has thus been processed.
        Again::Safely => facts.method.is_idempotent() || !facts.was_redirected(),
    };
    may_repeat.then(|| match outcome {
        Err(failure) => (failure.to_string(), None),
        Ok(response) => (format!("status {}", response.status()), asked(response)),
    })
}

/// Returns the time after which the server wants the next attempt.
fn asked<B>(response: &Response<B>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(seconds.parse().ok()?).min(LONGEST))
}

const PASSING: [StatusCode; 6] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// As in curl.
const LONGEST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use http::Method;

    use super::*;
    use crate::failure::Exit;

    #[test]
    fn a_request_that_may_have_been_processed_is_repeated_only_if_it_is_idempotent() {
        let failed = |again| Err(Failure::new(Exit::Exchange, "lost").again(again));
        let answered = |status| {
            let response = Response::builder().status(status);
            Ok(response.body(()).unwrap())
        };
        for (outcome, redirects, put, post) in [
            (failed(Again::Never), 0, false, false),
            (failed(Again::Perhaps), 0, true, false),
            (failed(Again::Safely), 0, true, true),
            (failed(Again::Safely), 1, true, false),
            (answered(200), 0, false, false),
            (answered(408), 0, true, false),
            (answered(429), 0, true, false),
            (answered(500), 0, true, false),
            (answered(503), 0, true, false),
            (answered(503), 1, true, false),
        ] {
            for (method, expected) in [(Method::PUT, put), (Method::POST, post)] {
                let facts = Facts::new("http://a.test/".into(), method, None);
                facts.redirects.store(redirects, Ordering::Relaxed);
                let is_passing = passing(&outcome, &facts).is_some();
                let method = &facts.method;
                assert_eq!(is_passing, expected, "{method} {redirects} {outcome:?}");
            }
        }
    }
}
