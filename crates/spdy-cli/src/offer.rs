//! The protocols that the client offers to a server.

use spdy_frame::Version;
use spdy_tower::Protocol;

use crate::{
    failure::{Exit, Failure},
    flags::{Get, Load, Reach},
};

/// The protocols that a connection can use.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// The protocols offered in ALPN, the preferred one first.
    pub(crate) alpn: Vec<Protocol>,
    /// The protocol of connections without TLS.
    pub(crate) plain: Protocol,
    /// Whether the client requests an upgrade from HTTP/1.1 to SPDY/3.1.
    pub(crate) upgrade: bool,
    /// Whether the client uses HTTP/1.1 if the server does not support ALPN or the upgrade.
    pub(crate) falls_back: bool,
    /// What to try if the server supports nothing of this.
    pub(crate) cure: &'static str,
    /// Whether the command can speak nothing but SPDY.
    pub(crate) is_spdy_alone: bool,
}

impl Offer {
    /// Offers one protocol.
    pub(crate) fn only(protocol: Protocol) -> Self {
        Self {
            alpn: vec![protocol],
            plain: protocol,
            upgrade: false,
            falls_back: false,
            cure: match protocol {
                Protocol::Spdy(_) => OTHERS,
                Protocol::Http2 => "try --http1, or leave out --http2",
                Protocol::Http1 => "try --http2, or leave out --http1",
            },
            is_spdy_alone: false,
        }
    }

    /// Offers the upgrade from HTTP/1.1 to SPDY/3.1.
    pub(crate) fn upgrade() -> Self {
        Self {
            upgrade: true,
            cure: "leave out --upgrade, or try --http1",
            ..Self::only(Protocol::Http1)
        }
    }
}

impl Reach {
    /// Offers SPDY alone.
    ///
    /// # Errors
    ///
    /// Fails if the flags combine `--upgrade` with another version than SPDY/3.1.
    pub(crate) fn spdy(&self) -> Result<Offer, Failure> {
        if self.upgrade {
            if self.version.is_some_and(|version| version != Version::V3_1) {
                let message = "--upgrade supports only SPDY/3.1";
                return Err(Failure::new(Exit::Usage, message));
            }
            return Ok(Offer::upgrade());
        }
        let versions = match self.version {
            Some(version) => vec![version],
            None => Version::ALL.to_vec(),
        };
        Ok(Offer {
            alpn: versions.into_iter().map(Protocol::Spdy).collect(),
            plain: Protocol::Spdy(self.version.unwrap_or(Version::V3_1)),
            upgrade: false,
            falls_back: false,
            cure: OTHERS,
            is_spdy_alone: false,
        })
    }
}

/// What to try if a server does not support SPDY, or not this version.
const OTHERS: &str = "try --http2 or --http1, or leave out --version";

impl Get {
    /// Offers SPDY, then HTTP/2 and HTTP/1.1, or only the protocol that the flags require.
    pub(crate) fn offer(&self) -> Result<Offer, Failure> {
        if self.http1 {
            return Ok(Offer {
                upgrade: self.reach.upgrade,
                falls_back: true,
                ..Offer::only(Protocol::Http1)
            });
        }
        if self.http2 {
            return Ok(Offer::only(Protocol::Http2));
        }
        let mut offer = self.reach.spdy()?;
        if self.reach.version.is_none() {
            offer.falls_back = true;
            if !offer.upgrade {
                offer.alpn.extend([Protocol::Http2, Protocol::Http1]);
            }
        }
        Ok(offer)
    }
}

impl Load {
    /// Offers HTTP/2 or HTTP/1.1 if the flags ask for it, and SPDY otherwise.
    pub(crate) fn offer(&self) -> Result<Offer, Failure> {
        if self.h2 {
            Ok(Offer::only(Protocol::Http2))
        } else if self.http1 {
            Ok(Offer::only(Protocol::Http1))
        } else {
            self.reach.spdy()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        get: Get,
    }

    fn offer(flags: &str) -> Result<Offer, Failure> {
        let words = format!("get {flags}http://a/");
        Words::try_parse_from(words.split(' ')).unwrap().get.offer()
    }

    #[test]
    fn each_combination_of_flags_offers_its_protocols() {
        use Protocol::{Http1, Http2, Spdy};
        use Version::{V2, V3, V3_1};
        for (flags, alpn, plain) in [
            (
                "",
                vec![Spdy(V3_1), Spdy(V3), Spdy(V2), Http2, Http1],
                Spdy(V3_1),
            ),
            ("--version 3 ", vec![Spdy(V3)], Spdy(V3)),
            ("--version spdy/2 --plain ", vec![Spdy(V2)], Spdy(V2)),
            ("--spdy 3.1 ", vec![Spdy(V3_1)], Spdy(V3_1)),
            ("--http1 ", vec![Http1], Http1),
            ("--http2 ", vec![Http2], Http2),
            ("--upgrade ", vec![Http1], Http1),
        ] {
            let offer = offer(flags).unwrap();
            assert_eq!((offer.alpn, offer.plain), (alpn, plain), "{flags}");
        }
        let upgrade = offer("--upgrade --version 3.1 ");
        assert!(!upgrade.unwrap().falls_back);
        assert!(offer("--upgrade --version 3 ").is_err());
    }
}
