//! How bytes that may hold secrets look in debug output.

use std::fmt;

/// Stands for bytes in debug output, which tells only how many there are: header blocks and bodies may hold cookies
/// and tokens.
pub(crate) struct Hidden(pub(crate) usize);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}
