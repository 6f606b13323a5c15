//! The reverse proxy of `spdy-server` against the origin.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use spdy_server::app::{Proxy, proxy};
use spdy_tower::Protocol;
use tower::ServiceExt;

use super::{
    Round,
    asking::{Asker, Bounds, Outcome, RequestBody},
    dice::Dice,
    origin::{Origin, Plan, Speaks},
};

#[derive(Debug)]
pub(crate) struct ByProxy {
    router: Router,
    patience: Duration,
}

impl Asker for ByProxy {
    async fn ask(self: Arc<Self>, request: Request<RequestBody>) -> Outcome {
        let answer = self.router.clone().oneshot(request.map(Body::new));
        let response = match answer.await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (head, body) = response.into_parts();
        if head.headers.contains_key("x-length") {
            let body = body.map_err(|error| format!("{error:?}"));
            return Outcome::Answer(head.headers, body.boxed_unsync());
        }
        let page = body.collect().await.expect("a page of the proxy is whole");
        let page = String::from_utf8_lossy(&page.to_bytes()).into_owned();
        let reason = reason(&page).unwrap_or(&page).to_owned();
        match head.status {
            StatusCode::SERVICE_UNAVAILABLE if reason.contains("too many open requests") => {
                Outcome::ConnectTimeout(reason)
            }
            StatusCode::GATEWAY_TIMEOUT if reason.contains("while connecting") => {
                Outcome::ConnectTimeout(reason)
            }
            _ => Outcome::Failed(reason),
        }
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

/// What a page of the proxy says.
fn reason(page: &str) -> Option<&str> {
    let (_, reason) = page.split_once("<p>")?;
    Some(reason.split_once("</p>")?.0)
}

/// A round with a proxy, whose application speaks HTTP/1.1 or HTTP/2.
pub(crate) fn round(dice: &mut Dice) -> Round<ByProxy> {
    let plan = Plan::new(dice);
    let is_http2 = dice.percent(50);
    let (scheme, protocol) = if is_http2 {
        ("h2", Protocol::Http2)
    } else {
        ("http", Protocol::Http1)
    };
    // Each has a part of 3000 ms, and the others are too short for parts.
    let addresses = dice.pick(&[1, 2, 3]);
    let connect = Duration::from_millis(dice.pick(&[300, 1000, 3000]));
    let answer = Duration::from_millis(dice.pick(&[1800, 3000]));
    let origin = Origin::new(Speaks::Plain(protocol), plan, connect, dice.fork());
    let told = format_args!("{scheme}, {addresses} addresses, {plan:?}");
    origin.books.tell(told);
    let mut settings = to(scheme, addresses);
    settings.connect_timeout = connect;
    settings.answer_timeout = answer;
    settings.max_connections = dice.pick(&[1, 4, 32, 512]);
    let max_connections = settings.max_connections * addresses;
    let part = match (addresses, connect.as_secs()) {
        (2 | 3, 3) => connect / addresses as u32,
        _ => connect,
    };
    let network = Arc::clone(&origin);
    let router = proxy(settings.connector(move || Arc::clone(&network).connect()));
    Round {
        // An attempt that the application has perhaps not seen may be repeated.
        asker: Arc::new(ByProxy {
            router,
            patience: 2 * (connect + answer) + Duration::from_millis(100),
        }),
        origin,
        bounds: Bounds {
            connect,
            part,
            answer: Some(answer),
            may_wait_for_streams: is_http2,
        },
        max_connections,
        frozen: if is_http2 { addresses } else { usize::MAX },
    }
}

/// Returns a proxy for an origin that has this number of addresses.
fn to(scheme: &str, addresses: usize) -> Proxy {
    let upstream = |number| {
        let text = format!("{scheme}://a{number}.test");
        text.parse().expect("it is an upstream")
    };
    (1..addresses).fold(Proxy::new(upstream(0)), |proxy, number| {
        let proxy = proxy.also(upstream(number));
        proxy.expect("each is another one")
    })
}
