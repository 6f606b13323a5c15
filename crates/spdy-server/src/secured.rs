//! Public facts about a certificate and a TLS connection.

use std::fmt;

/// The SHA-256 of a certificate. Displays in the form of browsers and openssl: `3F:A0:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = &self.0;
        write!(f, "{first:02X}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02X}"))
    }
}

/// The result of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The version: `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// The cipher suite, under its standard name.
    pub cipher_suite: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_as_openssl_prints_it() {
        let mut bytes = [0; 32];
        bytes[0] = 0xab;
        bytes[31] = 0x0f;
        let shown = Fingerprint(bytes).to_string();
        assert_eq!(shown.len(), 32 * 3 - 1);
        assert!(
            shown.starts_with("AB:00:") && shown.ends_with(":00:0F"),
            "{shown}"
        );
    }
}
