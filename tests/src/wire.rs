//! A peer that says exactly what a test wants it to say.
//!
//! [`Wire`] has no protocol logic: nothing is answered, counted or held back. It writes [`RawFrame`]s and octets to any
//! transport and gives back what it reads, frame by frame, as [`Received`]. [`Reader`] is its reading half without the
//! transport.

use std::{fmt, io, time::Duration};

use bytes::{Bytes, BytesMut};
use spdy_frame::{
    DecodeLimits, Decoder, Frame, FrameError, GoAway, HeaderBlock, HeaderDecoder, HeaderError,
    HeaderLimits, Ping, RstStream, Settings, Version, WindowUpdate,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::frames::{RawFrame, StoredBlocks};

/// How long [`Wire`] waits for a frame: far more than any answer takes, so that only a peer that hangs exceeds it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A frame as it was received: DATA whole, header blocks inflated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of protocol.md §5 and §6")]
pub enum Received {
    Data {
        stream: u32,
        fin: bool,
        payload: Bytes,
    },
    SynStream {
        stream: u32,
        associated: u32,
        priority: u8,
        fin: bool,
        unidirectional: bool,
        fields: Fields,
    },
    SynReply {
        stream: u32,
        fin: bool,
        fields: Fields,
    },
    RstStream(RstStream),
    Settings(Settings),
    Noop,
    Ping(Ping),
    GoAway(GoAway),
    Headers {
        stream: u32,
        fin: bool,
        fields: Fields,
    },
    WindowUpdate(WindowUpdate),
    /// CREDENTIAL, or a control frame of an unknown type.
    Other {
        kind: u16,
    },
}

/// Names and values in wire order; several values of a name are joined by NUL.
pub type Fields = Vec<(String, String)>;

impl Received {
    /// The value of a header field; `None` if there is no such field, or the type has no fields.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let (Self::SynStream { fields, .. }
        | Self::SynReply { fields, .. }
        | Self::Headers { fields, .. }) = self
        else {
            return None;
        };
        fields
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A peer over any transport. Every method panics when it cannot do what its name says: it is a part of the test.
#[derive(Debug)]
pub struct Wire<IO> {
    io: IO,
    blocks: StoredBlocks,
    reader: Reader,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// A peer that has said nothing yet.
    #[must_use]
    pub fn new(io: IO, version: Version) -> Self {
        Self {
            io,
            blocks: StoredBlocks::new(version),
            reader: Reader::new(version),
        }
    }

    /// Writes one frame.
    pub async fn send(&mut self, frame: RawFrame) {
        let octets = frame.octets(&mut self.blocks);
        self.send_octets(&octets).await;
    }

    /// Writes octets of any kind.
    pub async fn send_octets(&mut self, octets: &[u8]) {
        let sent = async {
            self.io.write_all(octets).await?;
            self.io.flush().await
        };
        timeout(PATIENCE, sent)
            .await
            .expect("the peer does not read")
            .expect("the transport is closed");
    }

    /// Ends our direction of the transport.
    pub async fn shutdown(&mut self) {
        self.io.shutdown().await.expect("the transport is closed");
    }

    /// Reads the next frame.
    pub async fn recv(&mut self) -> Received {
        self.recv_or_end()
            .await
            .expect("the peer has closed the transport")
    }

    /// Reads frames up to the first one that `wanted` takes; the others are dropped.
    pub async fn recv_until(&mut self, mut wanted: impl FnMut(&Received) -> bool) -> Received {
        loop {
            let frame = self.recv().await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Reads frames until the peer closes the transport.
    pub async fn recv_all(&mut self) -> Vec<Received> {
        let mut frames = Vec::new();
        while let Some(frame) = self.recv_or_end().await {
            frames.push(frame);
        }
        frames
    }

    /// Reads the next frame; `None` when the peer has closed the transport.
    pub async fn recv_or_end(&mut self) -> Option<Received> {
        timeout(PATIENCE, self.next())
            .await
            .expect("the peer neither sends nor closes")
    }

    /// Waits for `time` and panics if a frame arrives or the transport is closed.
    pub async fn expect_silence(&mut self, time: Duration) {
        if let Ok(end) = timeout(time, self.next()).await {
            panic!("there should be silence: {end:?}");
        }
    }

    async fn next(&mut self) -> Option<Received> {
        loop {
            match self.reader.next_frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => panic!("the peer has sent what cannot be read: {error}"),
            }
            match self.io.read_buf(self.reader.buffer()).await {
                Ok(0) => {
                    assert!(
                        !self.reader.is_mid_frame(),
                        "the transport was closed in the middle of a frame"
                    );
                    return None;
                }
                Ok(_) => {}
                Err(error) if is_end(&error) => return None,
                Err(error) => panic!("the transport failed: {error}"),
            }
        }
    }
}

/// Takes a direction of a conversation apart.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    decoder: Decoder,
    headers: HeaderDecoder,
    /// The pieces of a DATA frame that is not complete.
    data: BytesMut,
}

impl Reader {
    /// A reader for a direction from its first octet.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self {
            buffer: BytesMut::new(),
            decoder: Decoder::new(version, DecodeLimits::default()),
            headers: HeaderDecoder::new(version, HeaderLimits::default()),
            data: BytesMut::new(),
        }
    }

    /// Where octets that have arrived are to be put, behind those that are there.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether a frame has begun and is not complete.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty() || self.decoder.is_mid_frame()
    }

    /// Takes the next frame; `None` if more octets are needed.
    ///
    /// # Errors
    ///
    /// What the codec says about the frame or its header block.
    pub fn next_frame(&mut self) -> Result<Option<Received>, ReadError> {
        while let Some(frame) = self.decoder.decode(&mut self.buffer)? {
            if let Some(frame) = self.receive(frame)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Makes the frame comparable; `None` for a piece of DATA that is not the last one.
    fn receive(&mut self, frame: Frame) -> Result<Option<Received>, ReadError> {
        Ok(Some(match frame {
            Frame::Data(frame) => {
                self.data.extend_from_slice(&frame.payload);
                if frame.rest > 0 {
                    return Ok(None);
                }
                let payload = self.data.split().freeze();
                Received::Data {
                    stream: frame.stream.get(),
                    fin: frame.fin,
                    payload,
                }
            }
            Frame::SynStream(frame) => Received::SynStream {
                stream: frame.stream.get(),
                associated: frame.associated.map_or(0, |stream| stream.get()),
                priority: frame.priority.get(),
                fin: frame.fin,
                unidirectional: frame.unidirectional,
                fields: fields(&self.headers.decode(frame.block)?),
            },
            Frame::SynReply(frame) => Received::SynReply {
                stream: frame.stream.get(),
                fin: frame.fin,
                fields: fields(&self.headers.decode(frame.block)?),
            },
            Frame::Headers(frame) => Received::Headers {
                stream: frame.stream.get(),
                fin: frame.fin,
                fields: fields(&self.headers.decode(frame.block)?),
            },
            Frame::RstStream(frame) => Received::RstStream(frame),
            Frame::Settings(frame) => Received::Settings(frame),
            Frame::Noop => Received::Noop,
            Frame::Ping(frame) => Received::Ping(frame),
            Frame::GoAway(frame) => Received::GoAway(frame),
            Frame::WindowUpdate(frame) => Received::WindowUpdate(frame),
            Frame::Credential(_) => Received::Other { kind: 10 },
            Frame::Unknown(frame) => Received::Other { kind: frame.kind },
        }))
    }
}

/// Octets that the codec does not accept.
#[derive(Debug)]
pub enum ReadError {
    /// The frame is wrong.
    Frame(FrameError),
    /// The header block is wrong.
    Headers(HeaderError),
}

impl From<FrameError> for ReadError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<HeaderError> for ReadError {
    fn from(error: HeaderError) -> Self {
        Self::Headers(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Headers(error) => error.fmt(f),
        }
    }
}

fn fields(block: &HeaderBlock) -> Fields {
    let text = |octets: &[u8]| {
        String::from_utf8(octets.to_vec()).expect("tests have text in header fields")
    };
    block
        .fields()
        .map(|field| (text(field.name()), text(field.value())))
        .collect()
}

/// Whether an error is one of the ways in which a transport tells that the peer has closed it.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use spdy_frame::{RstStatus, StreamId};
    use tokio::io::duplex;

    use super::*;
    use crate::frames;

    #[tokio::test]
    async fn what_one_wire_sends_another_receives() {
        for version in Version::ALL {
            let (near, far) = duplex(64);
            let mut near = Wire::new(near, version);
            let mut far = Wire::new(far, version);
            let sending = tokio::spawn(async move {
                near.send(frames::syn_stream(version, 1).get("/").fin())
                    .await;
                near.send(
                    frames::syn_stream(version, 3)
                        .unidirectional()
                        .associated(1),
                )
                .await;
                near.send(frames::data(1, vec![7; 1000]).fin()).await;
                near.send(frames::rst_stream(version, 3, RstStatus::CANCEL))
                    .await;
                near.shutdown().await;
            });
            let request = far.recv().await;
            let path = if version == Version::V2 {
                "url"
            } else {
                ":path"
            };
            assert_eq!(request.field(path), Some("/"));
            assert!(
                matches!(
                    request,
                    Received::SynStream {
                        stream: 1,
                        fin: true,
                        ..
                    }
                ),
                "{request:?}"
            );
            assert_eq!(
                far.recv_all().await,
                [
                    Received::SynStream {
                        stream: 3,
                        associated: 1,
                        priority: 0,
                        fin: false,
                        unidirectional: true,
                        fields: vec![],
                    },
                    Received::Data {
                        stream: 1,
                        fin: true,
                        payload: vec![7; 1000].into()
                    },
                    Received::RstStream(RstStream {
                        stream: StreamId::new(3).unwrap(),
                        status: RstStatus::CANCEL,
                    }),
                ]
            );
            sending.await.unwrap();
        }
    }

    #[tokio::test]
    #[should_panic = "there should be silence"]
    async fn silence_is_not_a_frame() {
        let (near, far) = duplex(64);
        let mut near = Wire::new(near, Version::V3);
        near.send(frames::ping(Version::V3, 1)).await;
        Wire::new(far, Version::V3)
            .expect_silence(Duration::from_secs(5))
            .await;
    }

    #[tokio::test]
    #[should_panic = "cannot be read"]
    async fn octets_that_are_no_frame_do_not_pass_unnoticed() {
        let (near, far) = duplex(64);
        let mut near = Wire::new(near, Version::V3);
        near.send(frames::ping(Version::V3, 1).wire_version(1))
            .await;
        Wire::new(far, Version::V3).recv().await;
    }
}
