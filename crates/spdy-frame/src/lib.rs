//! Frames and header compression of SPDY/2, SPDY/3 and SPDY/3.1.

mod decoder;
mod error;
mod frame;
mod headers;
mod payload;
mod priority;
mod settings;
mod status;
mod stream_id;
mod version;
mod window;

pub use bytes;

pub use self::{
    decoder::{DecodeLimits, Decoder, parse},
    error::{EncodeError, FrameError, HeaderError},
    frame::{
        CompressedBlock, Credential, Data, Frame, FrameKind, GoAway, Headers, Ping, RstStream, Settings,
        SynReply, SynStream, UnknownControl, WindowUpdate,
    },
    headers::{
        Field, Fields, HeaderBlock, HeaderCompression, HeaderDecoder, HeaderEncoder, HeaderLimits,
    },
    payload::Payload,
    priority::Priority,
    settings::{Setting, SettingFlags, SettingId},
    status::{GoAwayStatus, RstStatus},
    stream_id::{Side, StreamId},
    version::Version,
    window::{DEFAULT_WINDOW, MAX_WINDOW, WindowIncrement, WindowTarget},
};
