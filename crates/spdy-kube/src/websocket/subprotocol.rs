//! The sub-protocols of a WebSocket.

use super::Encoding;
use crate::Protocol;

/// The sub-protocol that both sides have agreed on in `Sec-WebSocket-Protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subprotocol {
    /// The client names no sub-protocol, which means the first version.
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
    /// The sub-protocols of exec and attach. v5 has no base64 form, because its channel for ends is
    /// not a digit.
    pub(crate) const COMMAND: [Self; 6] = [
        Self::V5,
        Self::V4,
        Self::V4Base64,
        Self::V1,
        Self::V1Base64,
        Self::Unnamed,
    ];

    /// The sub-protocols of port-forward.
    pub(crate) const FORWARD: [Self; 5] = [
        Self::Tunnel,
        Self::V5,
        Self::V4,
        Self::V4Base64,
        Self::Unnamed,
    ];

    /// Returns the name on the wire, which is empty for `Unnamed`.
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

    /// Returns the version of the protocol in the channels.
    pub(crate) const fn protocol(self) -> Protocol {
        match self {
            Self::Unnamed | Self::V1 | Self::V1Base64 => Protocol::V1,
            Self::V4 | Self::V4Base64 | Self::Tunnel => Protocol::V4,
            Self::V5 => Protocol::V5,
        }
    }

    /// Returns how messages carry the channels.
    pub(crate) const fn encoding(self) -> Encoding {
        match self {
            Self::V1Base64 | Self::V4Base64 => Encoding::Base64,
            _ => Encoding::Binary,
        }
    }

    /// Returns whether the client can end one channel and keep the connection.
    pub(crate) const fn has_close(self) -> bool {
        matches!(self, Self::V5)
    }
}
