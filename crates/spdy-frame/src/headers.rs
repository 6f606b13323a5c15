//! In the making.
use bytes::{Bytes, BytesMut};
use crate::{CompressedBlock, EncodeError, HeaderError, Headers, SynReply, SynStream, Version};

/// Names and values, in order; lower-case names, each once; several values of a name joined by NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderBlock {}

impl HeaderBlock {
    /// An empty block.
    #[must_use]
    pub fn new() -> Self { unimplemented!() }
    /// An empty block with room for `fields` fields and `octets` octets of names and values.
    #[must_use]
    pub fn with_capacity(_fields: usize, _octets: usize) -> Self { unimplemented!() }
    /// Adds a field; a name that is there already gets one more value. Upper-case letters of the name are lowered.
    ///
    /// # Errors
    /// `EmptyName`, `InvalidName`, `InvalidValue`; nothing is added then.
    pub fn append(&mut self, _name: impl AsRef<[u8]>, _value: impl AsRef<[u8]>) -> Result<(), HeaderError> { unimplemented!() }
    /// As [`append`](Self::append), for a secret: the encoder never matches it.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_sensitive(&mut self, _name: impl AsRef<[u8]>, _value: impl AsRef<[u8]>) -> Result<(), HeaderError> { unimplemented!() }
    /// The whole value of a field, NULs and all.
    pub fn get(&self, _name: impl AsRef<[u8]>) -> Option<&[u8]> { unimplemented!() }
    /// Number of fields.
    pub fn len(&self) -> usize { unimplemented!() }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool { unimplemented!() }
    /// Octets of names and values, and 32 for each field.
    pub fn size(&self) -> usize { unimplemented!() }
    /// Whether fields past the soft limits were dropped when the block was decoded.
    pub fn is_truncated(&self) -> bool { unimplemented!() }
    /// The fields in order.
    pub fn fields(&self) -> Fields<'_> { unimplemented!() }
}

/// Iterator over fields.
#[derive(Clone, Debug)]
pub struct Fields<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;
    fn next(&mut self) -> Option<Field<'a>> { unimplemented!() }
}

/// One field of a block.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> Field<'a> {
    /// Name.
    pub fn name(&self) -> &'a [u8] { unimplemented!() }
    /// Whole value.
    pub fn value(&self) -> &'a [u8] { unimplemented!() }
    /// The values one by one.
    pub fn values(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> { std::iter::empty() }
    /// The whole value, sharing the block's buffer.
    pub fn value_bytes(&self) -> Bytes { unimplemented!() }
    /// Whether the encoder must not match it.
    pub fn is_sensitive(&self) -> bool { unimplemented!() }
}

/// Bounds on header blocks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeaderLimits {
    /// Soft: octets inflated. Default 131,072.
    pub max_size: usize,
    /// Hard: octets inflated. Default 1,048,576.
    pub max_inflated: usize,
    /// Soft: fields, counted after values are split at NUL. Default 128.
    pub max_fields: usize,
}

impl Default for HeaderLimits {
    fn default() -> Self { Self { max_size: 128 * 1024, max_inflated: 1024 * 1024, max_fields: 128 } }
}

/// How the encoder compresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderCompression {
    /// Whole fields.
    #[default]
    Indexed,
    /// Stored blocks.
    Stored,
}

/// Inflates the header blocks of one direction.
#[derive(Debug)]
pub struct HeaderDecoder {}
impl HeaderDecoder {
    /// New.
    pub fn new(_version: Version, _limits: HeaderLimits) -> Self { unimplemented!() }
    /// Inflates.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn decode<B: AsRef<[u8]>>(&mut self, _block: CompressedBlock<B>) -> Result<HeaderBlock, HeaderError> { unimplemented!() }
}

/// Compresses the header blocks of one direction.
#[derive(Debug)]
pub struct HeaderEncoder {}
impl HeaderEncoder {
    /// New.
    pub fn new(_version: Version, _mode: HeaderCompression) -> Self { unimplemented!() }
    /// Writes a whole SYN_STREAM frame to `dst`.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn syn_stream(&mut self, _frame: &SynStream<&HeaderBlock>, _dst: &mut BytesMut) -> Result<(), EncodeError> { unimplemented!() }
    /// Writes a whole SYN_REPLY frame to `dst`.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn syn_reply(&mut self, _frame: &SynReply<&HeaderBlock>, _dst: &mut BytesMut) -> Result<(), EncodeError> { unimplemented!() }
    /// Writes a whole HEADERS frame to `dst`.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn headers(&mut self, _frame: &Headers<&HeaderBlock>, _dst: &mut BytesMut) -> Result<(), EncodeError> { unimplemented!() }
}
