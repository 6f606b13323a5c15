//! The servers that are asked: the application itself, and proxies before it.

use std::net::SocketAddr;

use axum::Router;
use spdy_server::{
    Bind, Config, PlainVersion, Server,
    app::{Proxy, proxy},
};
use spdy_tower::Version;

use crate::{application::application, ways::Way};

/// The program between a client and the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nothing,
    ProxyToHttp1,
    ProxyToHttp2,
}

/// One application, or one proxy, under two addresses: SPDY/3 cannot be told from SPDY/3.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    pub(crate) kind: Kind,
    version_3: SocketAddr,
    others: SocketAddr,
}

impl Front {
    /// Starts all of them.
    pub(crate) async fn start() -> [Self; 3] {
        let direct = Self::of(Kind::Nothing, &application()).await;
        let upstream = |scheme| {
            let url = format!("{scheme}://{}", direct.others);
            proxy(Proxy::new(url.parse().expect("it is a URL")))
        };
        let by_http1 = Self::of(Kind::ProxyToHttp1, &upstream("http")).await;
        let by_http2 = Self::of(Kind::ProxyToHttp2, &upstream("h2")).await;
        [direct, by_http1, by_http2]
    }

    async fn of(kind: Kind, app: &Router) -> Self {
        Self {
            kind,
            version_3: serve(PlainVersion::V3, app.clone()).await,
            others: serve(PlainVersion::V3_1, app.clone()).await,
        }
    }

    pub(crate) const fn address(&self, way: Way) -> SocketAddr {
        match way {
            Way::Spdy(Version::V3) | Way::Tower(Version::V3) => self.version_3,
            _ => self.others,
        }
    }
}

async fn serve(plain_version: PlainVersion, app: Router) -> SocketAddr {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        binds: vec![Bind::plain(loopback)],
        plain_version,
        ..Config::default()
    };
    let server = Server::bind(config)
        .await
        .expect("the loopback has free ports");
    let address = server.endpoints()[0]
        .address
        .tcp()
        .expect("it is a TCP port");
    tokio::spawn(server.run(app, std::future::pending()));
    address
}
