//! Parses the payloads of control frames.

use super::{
    Credential, Frame, GoAway, Headers, Ping, RstStream, Settings, SynReply, SynStream,
    UnknownControl, WindowUpdate,
    head::{self, ControlHead},
};
use crate::{FrameError, Version, payload::Payload};

impl<B> Frame<B> {
    /// Parses the payload of a control frame whose type exists in the version and whose length is
    /// valid for the type.
    ///
    /// `R` is what the caller returns. Each arm makes it directly, because moving a frame costs
    /// more than parsing it.
    ///
    /// # Errors
    ///
    /// Returns the [`FrameError`]s that need more than the head of the frame. If the session
    /// continues after the error, the frame is taken off the input.
    #[inline]
    pub(crate) fn parse_control<P: Payload<Kept = B>, R: From<Self>>(
        version: Version,
        head: ControlHead,
        payload: P,
    ) -> Result<R, FrameError> {
        let bytes = payload.bytes();
        match head.number() {
            head::RST_STREAM => {
                let frame = RstStream::parse(bytes)?;
                payload.drop_all();
                Ok(Self::RstStream(frame).into())
            }
            head::PING => {
                let frame = Ping::parse(bytes);
                payload.drop_all();
                Ok(Self::Ping(frame).into())
            }
            head::WINDOW_UPDATE => {
                let Some(frame) = WindowUpdate::parse(bytes) else {
                    return Self::parse_zero_increment(version, head, payload);
                };
                payload.drop_all();
                Ok(Self::WindowUpdate(frame).into())
            }
            _ => Self::parse_other_control(version, head, payload),
        }
    }

    /// Parses the types that [`parse_control`](Self::parse_control) leaves out. They need more
    /// registers, which one function would save and restore for all types.
    #[inline(never)]
    fn parse_other_control<P: Payload<Kept = B>, R: From<Self>>(
        version: Version,
        head: ControlHead,
        payload: P,
    ) -> Result<R, FrameError> {
        let (flags, bytes) = (head.flags(), payload.bytes());
        match head.number() {
            head::SYN_STREAM => {
                let frame = SynStream::parse(version, flags, payload)?;
                Ok(Self::SynStream(frame).into())
            }
            head::SYN_REPLY => {
                let frame = SynReply::parse(version, flags, payload)?;
                Ok(Self::SynReply(frame).into())
            }
            head::HEADERS => {
                let frame = Headers::parse(version, flags, payload)?;
                Ok(Self::Headers(frame).into())
            }
            head::SETTINGS => {
                let frame = Settings::parse(version, flags, bytes)?;
                payload.drop_all();
                Ok(Self::Settings(frame).into())
            }
            head::GOAWAY => {
                let frame = GoAway::parse(version, bytes)?;
                payload.drop_all();
                Ok(Self::GoAway(frame).into())
            }
            head::NOOP => {
                payload.drop_all();
                Ok(Self::Noop.into())
            }
            head::CREDENTIAL => {
                let frame = Credential::parse(payload)?;
                Ok(Self::Credential(frame).into())
            }
            _ => Ok(Self::unknown(head, payload.keep_from(0)).into()),
        }
    }

    /// Parses a WINDOW_UPDATE whose increment is 0.
    #[cold]
    fn parse_zero_increment<P: Payload<Kept = B>, R: From<Self>>(
        version: Version,
        head: ControlHead,
        payload: P,
    ) -> Result<R, FrameError> {
        match WindowUpdate::zero_increment(version, payload.bytes()) {
            None => Ok(Self::unknown(head, payload.keep_from(0)).into()),
            Some(error) => {
                if error.go_away().is_none() {
                    payload.drop_all();
                }
                Err(error)
            }
        }
    }

    pub(crate) const fn unknown(head: ControlHead, payload: B) -> Self {
        Self::Unknown(UnknownControl {
            type_number: head.number(),
            flags: head.flags(),
            payload,
        })
    }
}
