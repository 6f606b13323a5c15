//! The sub-protocols of a WebSocket.

use super::Encoding;
use crate::Protocol;

/// What the two sides have agreed on in `Sec-WebSocket-Protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subprotocol {
    /// The client names none: that is the first version.
    Unnamed,
    V1,
    V1Base64,
    V4,
    V4Base64,
    V5,
    /// The bytes of SPDY, cut into messages.
    Tunnel,
}

impl Subprotocol {
    /// Those of exec and attach. v5 has no base64 form: the channel of its ends is no digit.
    pub(crate) const COMMAND: [Self; 5] =
        [Self::V5, Self::V4, Self::V4Base64, Self::V1, Self::V1Base64];

    /// Those of port-forward.
    pub(crate) const FORWARD: [Self; 4] = [Self::Tunnel, Self::V5, Self::V4, Self::V4Base64];

    /// The name on the wire, empty for none.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unnamed => "",
            Self::V1 => "channel.k8s.io",
            Self::V1Base64 => "base64.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::V4Base64 => "v4.base64.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
            Self::Tunnel => "SPDY/3.1+portforward.k8s.io",
        }
    }

    /// The version of what the channels carry.
    pub(crate) const fn protocol(self) -> Protocol {
        match self {
            Self::Unnamed | Self::V1 | Self::V1Base64 => Protocol::V1,
            Self::V4 | Self::V4Base64 | Self::Tunnel => Protocol::V4,
            Self::V5 => Protocol::V5,
        }
    }

    /// How messages carry the channels.
    pub(crate) const fn encoding(self) -> Encoding {
        match self {
            Self::V1Base64 | Self::V4Base64 => Encoding::Base64,
            _ => Encoding::Binary,
        }
    }

    /// Whether the client can end one channel and keep the connection.
    pub(crate) const fn has_close(self) -> bool {
        matches!(self, Self::V5)
    }
}
