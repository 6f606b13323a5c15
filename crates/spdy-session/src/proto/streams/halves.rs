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
//! A reset ends both halves at once, because it removes the stream. A half that is never used, such
//! as the receiving half of a push, begins as `Finished`.
//!
//! Each half has one function, `on`, that returns the state after an input. Nothing else changes a
//! half.

use spdy_frame::{RstStatus, Version};

use crate::Rule;

/// The half that this side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendHalf {
    Unreplied,
    Open,
    Finishing,
    Finished,
}

/// What happens to the sending half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendInput {
    /// The application replies.
    Reply { fin: bool },
    /// The application queues header fields, payload, or only FIN. If no reply was sent, an empty
    /// one goes first.
    Queue { fin: bool },
    /// FIN went into the bytes for the transport.
    FinWritten,
}

/// The error for an input that the sending half does not allow in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

impl SendHalf {
    /// Returns the half of a stream that this side opens. `fin` says whether SYN_STREAM has FIN.
    pub(crate) const fn of_initiator(fin: bool) -> Self {
        if fin { Self::Finishing } else { Self::Open }
    }

    /// Returns the half of a stream that the peer opens.
    pub(crate) const fn of_acceptor(unidirectional: bool) -> Self {
        if unidirectional {
            Self::Finished
        } else {
            Self::Unreplied
        }
    }

    /// Returns the state after `input`, or an error if the state does not allow it.
    pub(crate) const fn on(self, input: SendInput) -> Result<Self, Refused> {
        match (self, input) {
            (Self::Unreplied, SendInput::Reply { fin })
            | (Self::Unreplied | Self::Open, SendInput::Queue { fin }) => {
                Ok(if fin { Self::Finishing } else { Self::Open })
            }
            (Self::Finishing, SendInput::FinWritten) => Ok(Self::Finished),
            // A second reply, or anything after FIN.
            (Self::Open | Self::Finishing | Self::Finished, SendInput::Reply { .. })
            | (Self::Finishing | Self::Finished, SendInput::Queue { .. }) => Err(Refused),
            // FIN is written only after it was queued, and only once.
            (Self::Unreplied | Self::Open | Self::Finished, SendInput::FinWritten) => Err(Refused),
        }
    }

    /// Returns whether the application can still queue something.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Unreplied | Self::Open)
    }
}

/// The half that the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvHalf {
    Unreplied,
    Open,
    Finished,
}

/// A frame of the peer, as the receiving half sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvInput {
    Reply,
    Headers,
    Data,
}

/// Why the state of the receiving half does not allow a frame, and what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Stream(RstStatus, Rule),
    Session(Rule),
}

impl RecvHalf {
    /// Returns the half of a stream that this side opens.
    pub(crate) const fn of_initiator(unidirectional: bool) -> Self {
        if unidirectional {
            Self::Finished
        } else {
            Self::Unreplied
        }
    }

    /// Returns the half of a stream that the peer opens. `fin` says whether SYN_STREAM has FIN.
    pub(crate) const fn of_acceptor(fin: bool) -> Self {
        if fin { Self::Finished } else { Self::Open }
    }

    /// Returns the state after `input`, or an error if the state does not allow it.
    pub(crate) fn on(self, version: Version, input: RecvInput, fin: bool) -> Result<Self, Unfit> {
        use RstStatus as S;
        let is_v2 = version == Version::V2;
        match (self, input) {
            (Self::Unreplied, RecvInput::Reply)
            | (Self::Open, RecvInput::Headers | RecvInput::Data) => {
                Ok(if fin { Self::Finished } else { Self::Open })
            }
            (Self::Unreplied, RecvInput::Headers) => {
                Err(Unfit::Stream(S::PROTOCOL_ERROR, Rule::HeadersBeforeReply))
            }
            // SPDY/2 "Data frames": the connection should be closed.
            (Self::Unreplied, RecvInput::Data) if is_v2 => {
                Err(Unfit::Session(Rule::DataBeforeReply))
            }
            (Self::Unreplied, RecvInput::Data) => {
                Err(Unfit::Stream(S::PROTOCOL_ERROR, Rule::DataBeforeReply))
            }
            (Self::Open, RecvInput::Reply) => Err(Unfit::Stream(
                if is_v2 {
                    S::PROTOCOL_ERROR
                } else {
                    S::STREAM_IN_USE
                },
                Rule::SecondReply,
            )),
            (Self::Finished, RecvInput::Reply) => Err(Unfit::Stream(
                if is_v2 {
                    S::PROTOCOL_ERROR
                } else {
                    S::STREAM_ALREADY_CLOSED
                },
                Rule::ReplyAfterFin,
            )),
            (Self::Finished, RecvInput::Headers) => Err(Unfit::Stream(
                if is_v2 {
                    S::INVALID_STREAM
                } else {
                    S::STREAM_ALREADY_CLOSED
                },
                Rule::HeadersAfterFin,
            )),
            (Self::Finished, RecvInput::Data) => Err(Unfit::Stream(
                if is_v2 {
                    S::INVALID_STREAM
                } else {
                    S::STREAM_ALREADY_CLOSED
                },
                Rule::DataAfterFin,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [RecvHalf; 3] = [RecvHalf::Unreplied, RecvHalf::Open, RecvHalf::Finished];
    const INPUTS: [RecvInput; 3] = [RecvInput::Reply, RecvInput::Headers, RecvInput::Data];

    #[test]
    fn fin_finishes_the_receiving_half_in_every_state_that_allows_the_frame() {
        for version in Version::ALL {
            for state in STATES {
                for input in INPUTS {
                    let plain = state.on(version, input, false);
                    let fin = state.on(version, input, true);
                    let is_drawn = matches!(
                        (state, input),
                        (RecvHalf::Unreplied, RecvInput::Reply)
                            | (RecvHalf::Open, RecvInput::Headers | RecvInput::Data)
                    );
                    assert_eq!(plain.is_ok(), is_drawn, "{version} {state:?} {input:?}");
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
    fn the_sending_half_allows_each_input_only_in_the_states_of_the_diagram() {
        use SendHalf::{Finished, Finishing, Open, Unreplied};
        use SendInput::{FinWritten, Queue, Reply};
        let inputs = [
            Reply { fin: false },
            Reply { fin: true },
            Queue { fin: false },
            Queue { fin: true },
            FinWritten,
        ];
        let (open, finishing, finished) = (Ok(Open), Ok(Finishing), Ok(Finished));
        let no = Err(Refused);
        for (state, expected) in [
            (Unreplied, [open, finishing, open, finishing, no]),
            (Open, [no, no, open, finishing, no]),
            (Finishing, [no, no, no, no, finished]),
            (Finished, [no; 5]),
        ] {
            assert_eq!(inputs.map(|input| state.on(input)), expected, "{state:?}");
        }
    }

    #[test]
    fn halves_begin_in_the_state_that_syn_stream_gives_them() {
        assert_eq!(SendHalf::of_initiator(false), SendHalf::Open);
        assert_eq!(SendHalf::of_initiator(true), SendHalf::Finishing);
        assert_eq!(SendHalf::of_acceptor(false), SendHalf::Unreplied);
        assert_eq!(SendHalf::of_acceptor(true), SendHalf::Finished);
        assert_eq!(RecvHalf::of_initiator(false), RecvHalf::Unreplied);
        assert_eq!(RecvHalf::of_initiator(true), RecvHalf::Finished);
        assert_eq!(RecvHalf::of_acceptor(false), RecvHalf::Open);
        assert_eq!(RecvHalf::of_acceptor(true), RecvHalf::Finished);
    }

    #[test]
    fn c049_to_c053_and_c113_to_c114_statuses_are_those_of_the_version() {
        let status = |version, state: RecvHalf, input| match state.on(version, input, false) {
            Err(Unfit::Stream(status, _)) => status.0,
            Err(Unfit::Session(_)) => 1000,
            Ok(_) => 0,
        };
        use RecvHalf::{Finished, Open, Unreplied};
        use RecvInput::{Data, Headers, Reply};
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
