//! The two ways to hold octets: borrowed, or shared without a copy.

use bytes::Bytes;

/// Octets of a frame: `&[u8]` borrowed from the input, or [`Bytes`] sharing it. Sealed.
pub trait Payload: AsRef<[u8]> + sealed::Sealed {}

impl Payload for &[u8] {}
impl Payload for Bytes {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &[u8] {}
    impl Sealed for bytes::Bytes {}
}
