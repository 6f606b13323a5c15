//! Certificates: read from files or made at start, and what can be wrong with them.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
    pem::{self, PemObject},
};
use sha2::{Digest, Sha256};

use crate::config::Certificate;

/// A certificate with its intermediates, and its key. It is not known yet whether they belong together.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Chain,
    pub(super) key: PrivateKeyDer<'static>,
}

pub(super) type Chain = Vec<CertificateDer<'static>>;

impl Identity {
    pub(super) fn load(certificate: &Certificate) -> Result<Self, CertificateError> {
        match certificate {
            Certificate::SelfSigned => self_signed().map_err(CertificateError::Generate),
            Certificate::Files { chain, key } => Ok(Self {
                chain: read_chain(chain)?,
                key: read_key(key)?,
            }),
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let first = self.chain.first().expect("a chain is never empty");
        Fingerprint(Sha256::digest(first).into())
    }
}

/// The SHA-256 of a certificate. Displayed as browsers and openssl do: `3F:A0:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = &self.0;
        write!(f, "{first:02X}")?;
        rest.iter().try_for_each(|octet| write!(f, ":{octet:02X}"))
    }
}

/// Why there is no certificate to serve with.
#[derive(Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// A PEM file cannot be read or is no PEM file.
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A PEM file holds no certificate.
    NoCertificate(PathBuf),
    /// A PEM file holds no private key, or none that is free of a passphrase.
    NoKey(PathBuf),
    /// The certificate and the key do not belong together, or are of a kind that is not supported.
    Refused(rustls::Error),
    /// The same, with OpenSSL, which serves clients that know no ALPN.
    #[cfg(feature = "npn")]
    RefusedForNpn(openssl::error::ErrorStack),
    /// No self-signed certificate could be made.
    Generate(rcgen::Error),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::NoCertificate(path) => {
                write!(f, "{} holds no certificate in PEM form", path.display())
            }
            Self::NoKey(path) => {
                write!(
                    f,
                    "{} holds no private key in PEM form without a passphrase",
                    path.display()
                )
            }
            Self::Refused(_) => f.write_str("the certificate cannot be used with the key"),
            #[cfg(feature = "npn")]
            Self::RefusedForNpn(_) => f.write_str("the certificate cannot be used by OpenSSL"),
            Self::Generate(_) => f.write_str("no self-signed certificate could be made"),
        }
    }
}

impl Error for CertificateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The words `I/O error` around the system's own message say nothing more.
            Self::Read {
                source: pem::Error::Io(error),
                ..
            } => Some(error),
            Self::Read { source, .. } => Some(source),
            Self::Refused(error) => Some(error),
            #[cfg(feature = "npn")]
            Self::RefusedForNpn(error) => Some(error),
            Self::Generate(error) => Some(error),
            Self::NoCertificate(_) | Self::NoKey(_) => None,
        }
    }
}

/// Makes a certificate for this machine's own names.
pub(super) fn self_signed() -> Result<Identity, rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut params = rcgen::CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "localhost");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + (now + SELF_SIGNED_LIFE);

    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok(Identity {
        chain: vec![certificate.into()],
        key: key.into(),
    })
}

/// How far behind a client's clock may be.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// Some clients refuse certificates that live for more than 398 days.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);

fn read_chain(path: &Path) -> Result<Chain, CertificateError> {
    let unreadable = |source| CertificateError::Read {
        path: path.to_owned(),
        source,
    };
    let chain: Chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(unreadable)?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey(path.to_owned()),
        source => CertificateError::Read {
            path: path.to_owned(),
            source,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_as_openssl_prints_it() {
        let mut octets = [0; 32];
        octets[0] = 0xab;
        octets[31] = 0x0f;
        let shown = Fingerprint(octets).to_string();
        assert_eq!(shown.len(), 32 * 3 - 1);
        assert!(
            shown.starts_with("AB:00:") && shown.ends_with(":00:0F"),
            "{shown}"
        );
    }
}
