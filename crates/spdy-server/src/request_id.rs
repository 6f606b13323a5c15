//! The id of each request, by which lines of different logs can be brought together.
//!
//! [`Identified`] wraps the services that answer the requests of a connection. It does nothing if
//! requests have no ids.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, Request},
    response::Response,
};
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::{Span, info_span};

use crate::config::RequestIds;

/// The id of a request. The extensions of every request contain it if
/// [`Config::request_ids`](crate::Config::request_ids) is not off.
///
/// It has 1 to 128 characters, which are letters of ASCII, digits and `-._~+/=:@`.
///
/// ```
/// use axum::Extension;
/// use spdy_server::RequestId;
///
/// async fn which(Extension(id): Extension<RequestId>) -> String {
///     format!("this is request {id}\n")
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("an id is ASCII")
    }

    /// Returns the value of the field `x-request-id`.
    #[cfg(feature = "proxy")]
    pub(crate) fn into_value(self) -> HeaderValue {
        self.0
    }

    /// Returns the id that this text is, if it can be one.
    #[cfg(test)]
    pub(crate) fn checked(text: &str) -> Option<Self> {
        let value = HeaderValue::from_str(text).ok()?;
        is_well_formed(&value).then_some(Self(value))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_well_formed(value: &HeaderValue) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:@".contains(byte);
    (1..=MAX_LENGTH).contains(&value.len()) && value.as_bytes().iter().all(is_allowed)
}

/// Where ids come from.
#[derive(Debug)]
pub(crate) struct Source {
    /// Whether an id that the client has sent is kept.
    is_trusting: bool,
    /// Ids are the hashes of a number under these keys, which no other process has.
    keys: [RandomState; 2],
    number: AtomicU64,
}

impl Source {
    /// Returns `None` if requests have no ids.
    pub(crate) fn new(ids: RequestIds) -> Option<Arc<Self>> {
        let is_trusting = match ids {
            RequestIds::Off => return None,
            RequestIds::Make => false,
            RequestIds::Trust => true,
        };
        Some(Arc::new(Self {
            is_trusting,
            keys: [RandomState::new(), RandomState::new()],
            number: AtomicU64::new(0),
        }))
    }

    /// Sets the id of the request, and returns it. One that the client has sent is replaced unless
    /// it is trusted.
    fn identify<B>(&self, request: &mut Request<B>) -> RequestId {
        let id = self.sent(request.headers()).unwrap_or_else(|| self.make());
        request.headers_mut().insert(X_REQUEST_ID, id.0.clone());
        request.extensions_mut().insert(id.clone());
        id
    }

    /// Returns the one that the client has sent, if it is trusted and there is no doubt.
    fn sent(&self, fields: &HeaderMap) -> Option<RequestId> {
        if !self.is_trusting {
            return None;
        }
        let mut values = fields.get_all(X_REQUEST_ID).iter();
        let value = values.next().filter(|value| is_well_formed(value))?;
        values.next().is_none().then(|| RequestId(value.clone()))
    }

    /// Returns a new id: 128 bits in hexadecimal digits.
    fn make(&self) -> RequestId {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let halves = self.keys.each_ref().map(|key| key.hash_one(number));
        let mut text = [0; 32];
        let digits = halves.into_iter().flat_map(|half| {
            let digit = move |place: u32| DIGITS[(half >> (60 - 4 * place)) as usize & 0xf];
            (0..16).map(digit)
        });
        for (place, digit) in text.iter_mut().zip(digits) {
            *place = digit;
        }
        RequestId(HeaderValue::from_bytes(&text).expect("digits are valid in a field"))
    }
}

/// An application whose requests have ids.
#[derive(Clone, Debug)]
pub(crate) struct Identified<S> {
    app: S,
    source: Option<Arc<Source>>,
}

impl<S> Identified<S> {
    pub(crate) const fn new(app: S, source: Option<Arc<Source>>) -> Self {
        Self { app, source }
    }
}

impl<S, B> Service<Request<B>> for Identified<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Identifying<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.app.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let known = self.source.as_ref().map(|source| {
            let id = source.identify(&mut request);
            let span = info_span!("request", %id);
            Box::new(Known { id, span })
        });
        let future = match &known {
            Some(known) => known.span.in_scope(|| self.app.call(request)),
            None => self.app.call(request),
        };
        Identifying { future, known }
    }
}

struct Known {
    id: RequestId,
    /// The span of what is logged while the response is awaited.
    span: Span,
}

pin_project! {
    /// The future of the response to a request that may have an id.
    pub(crate) struct Identifying<F> {
        #[pin]
        future: F,
        // A box, because most requests have none.
        known: Option<Box<Known>>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Identifying<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(known) = this.known else {
            return this.future.poll(cx);
        };
        let _inside = known.span.enter();
        let mut response = ready!(this.future.poll(cx))?;
        let id = known.id.0.clone();
        response.headers_mut().insert(X_REQUEST_ID, id);
        Poll::Ready(Ok(response))
    }
}

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that a client can send, in bytes.
const MAX_LENGTH: usize = 128;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn sent(source: &Source, values: &[&str]) -> RequestId {
        let mut request = Request::new(());
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(X_REQUEST_ID, value);
        }
        let id = source.identify(&mut request);
        let fields: Vec<_> = request.headers().get_all(X_REQUEST_ID).iter().collect();
        assert_eq!(fields, [id.as_str()]);
        assert_eq!(request.extensions().get(), Some(&id));
        id
    }

    #[test]
    fn ids_are_made_of_128_bits_and_differ() {
        let sources = [(); 2].map(|()| Source::new(RequestIds::Make).unwrap());
        let mut seen = HashSet::new();
        for source in &sources {
            for _ in 0..1000 {
                let id = source.make();
                assert_eq!(id.as_str().len(), 32);
                assert!(id.as_str().bytes().all(|it| DIGITS.contains(&it)), "{id}");
                assert!(seen.insert(id));
            }
        }
        // All bits vary.
        for place in 0..32 {
            let digits: HashSet<_> = seen
                .iter()
                .map(|it| it.as_str().as_bytes()[place])
                .collect();
            assert_eq!(digits.len(), 16, "at {place}");
        }
    }

    #[test]
    fn an_id_of_a_client_is_kept_only_if_it_is_trusted_and_well_formed() {
        let [trusting, other] = [RequestIds::Trust, RequestIds::Make].map(Source::new);
        let (trusting, other) = (trusting.unwrap(), other.unwrap());
        let longest = "x".repeat(MAX_LENGTH);
        for good in ["a", "7b0c6d2e-1f4a-4d8e.A_~+/=:@", &longest] {
            assert_eq!(sent(&trusting, &[good]).as_str(), good);
            assert_ne!(sent(&other, &[good]).as_str(), good);
        }
        let longer = "x".repeat(MAX_LENGTH + 1);
        for bad in [
            "",
            "a b",
            "a\tb",
            "\"",
            "a,b",
            "caf\u{e9}",
            "{}",
            "%0a",
            &longer,
        ] {
            assert_ne!(sent(&trusting, &[bad]).as_str(), bad);
        }
        let id = sent(&trusting, &["a", "b"]);
        assert_eq!(id.as_str().len(), 32);
    }

    #[test]
    fn requests_have_no_id_unless_it_is_asked_for() {
        assert!(Source::new(RequestIds::Off).is_none());
        assert_eq!(RequestIds::default(), RequestIds::Off);
    }
}
