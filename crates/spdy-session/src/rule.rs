//! The rules that a peer can break.

use std::fmt;

use crate::Limit;

macro_rules! rules {
    ($($rule:ident $(of $limit:ident)? => $text:literal,)*) => {
        /// A rule that the peer broke. It is in the errors of streams and sessions that end for it:
        /// [`Initiator::Library`](crate::Initiator::Library) and
        /// [`SessionError::Violation`](crate::SessionError::Violation).
        ///
        /// `Display` writes what the peer did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(
                #[doc = concat!("Broken when: ", $text, ".")]
                $rule,
            )*
        }

        impl Rule {
            /// Returns the limit that the peer exceeded, if the rule is a limit.
            #[must_use]
            pub const fn limit(self) -> Option<Limit> {
                match self {
                    $($(Self::$rule => Some(Limit::$limit),)?)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$rule => $text,)*
                })
            }
        }
    };
}

rules! {
    // Streams.
    WrongParity => "SYN_STREAM has an id of the other side's parity",
    IdInUse => "SYN_STREAM has an id that is in use",
    IdBelowEarlier => "SYN_STREAM has an id below an earlier one",
    NoNewStreams => "session takes no new streams",
    MaxStreams of MaxStreams => "peer opened more streams than MAX_CONCURRENT_STREAMS",
    MaxBacklog of MaxBacklog => "too many streams wait to be accepted",
    HeldHeaders of HeldHeaders => "header blocks of open streams are too large together",
    PushWithoutStream => "push belongs to no open stream",
    PushNotAccepted => "pushes are not accepted",
    // Frames in an order that the state of the stream does not allow.
    HeadersBeforeReply => "HEADERS came before SYN_REPLY",
    DataBeforeReply => "DATA came before SYN_REPLY",
    SecondReply => "a second SYN_REPLY came",
    ReplyAfterFin => "SYN_REPLY came after FIN",
    HeadersAfterFin => "HEADERS came after FIN",
    DataAfterFin => "DATA came after FIN",
    StrayReply => "SYN_REPLY came for a stream that cannot have one",
    StrayHeaders => "HEADERS came for a stream that is not open",
    DataBeforeStream => "DATA came for a stream that was never opened",
    DataAfterStream => "DATA came for a closed stream",
    // Frames and header blocks.
    InvalidFrame => "frame cannot be accepted",
    CompressedData => "DATA has the flag COMPRESS",
    OversizedHeaders of Headers => "header block exceeds a soft limit",
    ContextLost => "header block lost the compression context",
    HeadersEndEarly => "header block ends before its last value",
    HeadersTrailingBytes => "header block has bytes after its last value",
    EmptyName => "header name is empty",
    InvalidName => "header name contains an upper-case letter, NUL, CR or LF",
    DuplicateName => "header name occurs twice in a block",
    InvalidValue => "header value contains CR, LF or a misplaced NUL",
    EmptyValue => "header value is empty",
    MalformedHeaders => "header block is malformed",
    // Windows.
    StreamWindow of StreamWindow => "DATA exceeds the stream window",
    SessionWindow of SessionWindow => "DATA exceeds the session window",
    InitialWindow => "INITIAL_WINDOW_SIZE is above 2^31-1",
    StreamWindowOverflow => "send window of the stream would exceed 2^31-1",
    SessionWindowOverflow => "WINDOW_UPDATE lifts the session window above 2^31-1",
    // Rates.
    PeerResets of PeerResets => "peer reset too many streams of its own",
    LocalResets of LocalResets => "peer caused too many RST_STREAMs",
    Settings of Settings => "peer sent too many SETTINGS frames",
    Pings of Pings => "peer sent too many PINGs",
    EmptyFrames of EmptyFrames => "peer sent too many empty frames",
    IdleFrames of IdleFrames => "peer sent too many frames about nothing",
}
