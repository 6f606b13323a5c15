//! The two halves of a stream (protocol.md §11.2).
//!
//! ```text
//!   what we send                            what we receive
//!
//!   Unreplied   acceptor: SYN_REPLY due     Unreplied   initiator: SYN_REPLY due
//!       │ reply                                 │ SYN_REPLY
//!       ▼                                       ▼
//!     Open      HEADERS, DATA                 Open      HEADERS, DATA
//!       │ finish                                │ FIN
//!       ▼                                       ▼
//!   Finishing   FIN is queued               Finished
//!       │ FIN is written
//!       ▼
//!   Finished
//! ```
//!
//! A reset ends both halves at once: the stream is forgotten. A half that may never be used, such as the
//! receiving half of a push, is born `Finished`.

use spdy_frame::{RstStatus, Version};

/// What this side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendHalf {
    Unreplied,
    Open,
    Finishing,
    Finished,
}

impl SendHalf {
    /// Whether the application may still queue something.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Unreplied | Self::Open)
    }
}

/// What the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvHalf {
    Unreplied,
    Open,
    Finished,
}

/// A frame of the peer as the receiving half sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Reply,
    Headers,
    Data,
}

/// Why a frame does not fit the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Stream(RstStatus, &'static str),
    Session(&'static str),
}

impl RecvHalf {
    /// The state after `input`, with `fin` or without.
    pub(crate) fn on(self, version: Version, input: Input, fin: bool) -> Result<Self, Unfit> {
        use RstStatus as S;
        let is_v2 = version == Version::V2;
        match (self, input) {
            (Self::Unreplied, Input::Reply) | (Self::Open, Input::Headers | Input::Data) => {
                Ok(if fin { Self::Finished } else { Self::Open })
            }
            (Self::Unreplied, Input::Headers) => Err(Unfit::Stream(
                S::PROTOCOL_ERROR,
                "HEADERS came before SYN_REPLY",
            )),
            // SPDY/2 "Data frames": the connection should be closed.
            (Self::Unreplied, Input::Data) if is_v2 => {
                Err(Unfit::Session("DATA came before SYN_REPLY"))
            }
            (Self::Unreplied, Input::Data) => Err(Unfit::Stream(
                S::PROTOCOL_ERROR,
                "DATA came before SYN_REPLY",
            )),
            (Self::Open, Input::Reply) => Err(Unfit::Stream(
                if is_v2 {
                    S::PROTOCOL_ERROR
                } else {
                    S::STREAM_IN_USE
                },
                "a second SYN_REPLY came",
            )),
            (Self::Finished, Input::Reply) => Err(Unfit::Stream(
                if is_v2 {
                    S::PROTOCOL_ERROR
                } else {
                    S::STREAM_ALREADY_CLOSED
                },
                "SYN_REPLY came after FIN",
            )),
            (Self::Finished, Input::Headers) => Err(Unfit::Stream(
                if is_v2 {
                    S::INVALID_STREAM
                } else {
                    S::STREAM_ALREADY_CLOSED
                },
                "HEADERS came after FIN",
            )),
            (Self::Finished, Input::Data) => Err(Unfit::Stream(
                if is_v2 {
                    S::INVALID_STREAM
                } else {
                    S::STREAM_ALREADY_CLOSED
                },
                "DATA came after FIN",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [RecvHalf; 3] = [RecvHalf::Unreplied, RecvHalf::Open, RecvHalf::Finished];
    const INPUTS: [Input; 3] = [Input::Reply, Input::Headers, Input::Data];

    #[test]
    fn fin_finishes_wherever_the_frame_is_welcome_and_nowhere_else() {
        for version in Version::ALL {
            for state in STATES {
                for input in INPUTS {
                    let plain = state.on(version, input, false);
                    let fin = state.on(version, input, true);
                    match plain {
                        Ok(next) => {
                            assert_eq!(next, RecvHalf::Open);
                            assert_eq!(fin, Ok(RecvHalf::Finished));
                        }
                        Err(unfit) => assert_eq!(fin, Err(unfit), "{version} {state:?} {input:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn c049_to_c053_and_c113_to_c114_statuses_are_those_of_the_version() {
        let status = |version, state: RecvHalf, input| match state.on(version, input, false) {
            Err(Unfit::Stream(status, _)) => status.0,
            Err(Unfit::Session(_)) => 1000,
            Ok(_) => 0,
        };
        use Input::{Data, Headers, Reply};
        use RecvHalf::{Finished, Open, Unreplied};
        for version in [Version::V3, Version::V3_1] {
            assert_eq!(status(version, Open, Reply), 8, "c049");
            assert_eq!(status(version, Finished, Reply), 9, "c051");
            assert_eq!(status(version, Unreplied, Data), 1, "c052");
            assert_eq!(status(version, Finished, Data), 9, "c113");
            assert_eq!(status(version, Finished, Headers), 9, "c108");
        }
        assert_eq!(status(Version::V2, Open, Reply), 1, "c050");
        assert_eq!(status(Version::V2, Unreplied, Data), 1000, "c053");
        assert_eq!(status(Version::V2, Finished, Data), 2, "c114");
    }
}
