//! `spdy_tower::client::Client` against the origin.

use std::{sync::Arc, time::Duration};

use http::Request;
use http_body_util::BodyExt;
use spdy_frame::Version;
use spdy_tower::{
    Protocol,
    client::{Client, Connector, ConnectorError, Dial, Dialing, FetchError, Plain, Transport},
};

use super::{
    Round,
    asking::{Asker, Bounds, Outcome, RequestBody},
    dice::Dice,
    origin::{Origin, Plan, Speaks},
    tls,
};

#[derive(Debug)]
pub(crate) struct ByClient {
    client: Client,
    scheme: &'static str,
    patience: Duration,
}

impl Asker for ByClient {
    async fn ask(self: Arc<Self>, mut request: Request<RequestBody>) -> Outcome {
        let uri = format!("{}://a.test{}", self.scheme, request.uri().path());
        *request.uri_mut() = uri.parse().expect("it is a URI");
        match self.client.send(request).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let body = body.map_err(|error| format!("{error:?}"));
                Outcome::Answer(head.headers, body.boxed_unsync())
            }
            Err(error) if is_connect_timeout(&error) => {
                Outcome::ConnectTimeout(format!("{error:?}"))
            }
            Err(error) => Outcome::Failed(format!("{error:?}")),
        }
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

fn is_connect_timeout(error: &FetchError) -> bool {
    match error {
        FetchError::Connect(ConnectorError::Transport(error)) => {
            error.kind() == std::io::ErrorKind::TimedOut
        }
        FetchError::Connect(ConnectorError::Connections(_)) => true,
        _ => false,
    }
}

#[derive(Debug)]
struct Network(Origins);

struct Origins(Arc<Origin>);

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Origins")
    }
}

impl Dial for Network {
    fn dial(&self, _: &str, _: u16) -> Dialing {
        let origin = Arc::clone(&self.0.0);
        Box::pin(async move { Ok(Box::new(origin.connect().await?) as Box<dyn Transport>) })
    }
}

/// A round with a client, whose protocol is thrown.
pub(crate) fn round(dice: &mut Dice) -> Round<ByClient> {
    let versions = [Version::V2, Version::V3, Version::V3_1];
    let (mut speaks, plain) = match dice.below(0..8) {
        0 | 1 => (Speaks::Plain(Protocol::Http1), Plain::Http1),
        2 | 3 => {
            let version = dice.pick(&versions);
            let protocol = Protocol::Spdy(version);
            (Speaks::Plain(protocol), Plain::Spdy(version))
        }
        4 => (Speaks::Plain(Protocol::Http1), Plain::Upgrade),
        5 => (Speaks::Upgrade, Plain::Upgrade),
        _ => (Speaks::Tls(Vec::new()), Plain::Http1),
    };
    let mut trust = tls::trust();
    let mut scheme = "http";
    if let Speaks::Tls(offers) = &mut speaks {
        scheme = "https";
        let mixed = &Protocol::ALL[..];
        let chosen = match dice.below(0..4) {
            0 => mixed,
            1 => &[Protocol::Http1],
            2 => &[Protocol::Http2],
            _ => &[Protocol::Spdy(Version::V3_1), Protocol::Http1],
        };
        trust = tls::offers(chosen, offers);
    }
    let mut plan = Plan::new(dice);
    if dice.percent(25) {
        plan.streams = 5;
    }
    let connect = dice.pick(&[300, 1000]);
    let bounds = Bounds {
        connect: Duration::from_millis(connect),
        part: Duration::from_millis(connect),
        answer: None,
        may_wait_for_streams: plan.streams < 1000
            || !matches!(plain, Plain::Http1)
            || scheme == "https",
    };
    let max_connections = dice.pick(&[1, 4, 32, 256]);
    let frozen = match (&speaks, plain) {
        (Speaks::Plain(Protocol::Spdy(_)) | Speaks::Upgrade, _) => 1,
        // Those that rest, and one that others share.
        _ => max_connections.min(9),
    };
    let origin = Origin::new(speaks, plan, bounds.connect, dice.fork());
    origin
        .books
        .tell(format_args!("{plain:?}, {scheme}, {bounds:?}, {plan:?}"));
    let connector = Connector::new(trust)
        .plain(plain)
        .timeout(bounds.connect)
        .max_connections(max_connections)
        .dial(Network(Origins(Arc::clone(&origin))));
    Round {
        asker: Arc::new(ByClient {
            client: Client::new(connector),
            scheme,
            patience: bounds.connect + Duration::from_millis(3000),
        }),
        origin,
        bounds,
        max_connections,
        frozen,
    }
}
