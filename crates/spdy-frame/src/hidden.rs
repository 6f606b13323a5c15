//! Debug output for bytes that might hold secrets.

use std::fmt;

/// Shows the number of bytes in debug output, and not the bytes: header blocks and bodies might
/// hold cookies and tokens.
pub(crate) struct Hidden(pub(crate) usize);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}
