//! Certificates from files or created at start, and their errors.

#[cfg(feature = "self-signed")]
use std::time::Duration;
use std::{
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use crate::config::Certificate;

/// A certificate with its intermediates, and its key. Whether they match is not checked yet.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Chain,
    pub(super) key: PrivateKeyDer<'static>,
}

pub(super) type Chain = Vec<CertificateDer<'static>>;

impl Identity {
    pub(super) fn load(certificate: &Certificate) -> Result<Self, CertificateError> {
        match certificate {
            #[cfg(feature = "self-signed")]
            Certificate::SelfSigned => self_signed().map_err(CertificateError::Generate),
            #[cfg(not(feature = "self-signed"))]
            Certificate::SelfSigned => Err(CertificateError::SelfSigned),
            Certificate::Files { chain, key } => Ok(Self {
                chain: parse_chain(&read(chain)?, chain)?,
                key: parse_key(&read(key)?, key)?,
            }),
            Certificate::Pem { chain, key } => Ok(Self {
                chain: parse_chain(chain, Path::new(IN_MEMORY))?,
                key: parse_key(key, Path::new(IN_MEMORY))?,
            }),
            Certificate::Resolver(_) | Certificate::Rustls(_) => {
                unreachable!("rustls has these certificates")
            }
        }
    }
}

/// Stands for the name of a file in errors about [`Certificate::Pem`].
const IN_MEMORY: &str = "the PEM text in memory";

/// The reason why no certificate is available. The path is `the PEM text in memory` for
/// [`Certificate::Pem`].
#[derive(Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// A PEM file cannot be read or is not valid.
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: pem::Error,
    },
    /// A PEM file ends before its end, or the head of a section in it is damaged: it was not copied
    /// whole.
    Incomplete(PathBuf),
    /// The new certificate is not valid now, and the one in use is. (At the start of a server such
    /// a certificate is only warned of.)
    Expired {
        /// The file.
        path: PathBuf,
        /// The last moment in which the certificate was valid.
        not_after: SystemTime,
    },
    /// The new certificate is not valid yet, and the one in use is valid.
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// The first moment in which the certificate will be valid.
        not_before: SystemTime,
    },
    /// A PEM file contains no certificate.
    NoCertificate(PathBuf),
    /// A PEM file contains no private key, or only one with a passphrase.
    NoKey(PathBuf),
    /// The certificate and the key do not match, or their type is not supported.
    Refused(rustls::Error),
    /// The same, reported by OpenSSL, which serves clients without ALPN.
    #[cfg(feature = "npn")]
    RefusedForNpn(openssl::error::ErrorStack),
    /// This build has no library of cryptography, and the process has installed none with
    /// `CryptoProvider::install_default`.
    NoProvider,
    /// The self-signed certificate could not be created.
    #[cfg(feature = "self-signed")]
    Generate(rcgen::Error),
    /// This build cannot create self-signed certificates: it does not have the feature
    /// `self-signed`.
    #[cfg(not(feature = "self-signed"))]
    SelfSigned,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Incomplete(path) => write!(
                f,
                "{} is not complete: a line `-----BEGIN …-----` or `-----END …-----` is cut off; copy the whole file again",
                path.display()
            ),
            Self::Expired { path, not_after } => write!(
                f,
                "the certificate in {} has expired on {}; renew it",
                path.display(),
                httpdate::fmt_http_date(*not_after)
            ),
            Self::NotYetValid { path, not_before } => write!(
                f,
                "the certificate in {} is not valid before {}",
                path.display(),
                httpdate::fmt_http_date(*not_before)
            ),
            Self::NoCertificate(path) => {
                write!(f, "no certificate in PEM form found in {}", path.display())
            }
            Self::NoKey(path) => {
                write!(
                    f,
                    "no private key in PEM form without a passphrase found in {}",
                    path.display()
                )
            }
            Self::Refused(_) => f.write_str("the certificate and the key cannot be used together"),
            Self::NoProvider => f.write_str(
                "TLS needs the feature `tls` or `aws-lc-rs`, or an installed CryptoProvider",
            ),
            #[cfg(feature = "npn")]
            Self::RefusedForNpn(_) => f.write_str("OpenSSL cannot use the certificate"),
            #[cfg(feature = "self-signed")]
            Self::Generate(_) => f.write_str("cannot create a self-signed certificate"),
            #[cfg(not(feature = "self-signed"))]
            Self::SelfSigned => {
                f.write_str("a self-signed certificate needs the feature `self-signed`")
            }
        }
    }
}

impl Error for CertificateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The words `I/O error` before the error of the system add nothing.
            Self::Read {
                source: pem::Error::Io(error),
                ..
            } => Some(error),
            Self::Read { source, .. } => Some(source),
            Self::Refused(error) => Some(error),
            #[cfg(feature = "npn")]
            Self::RefusedForNpn(error) => Some(error),
            #[cfg(feature = "self-signed")]
            Self::Generate(error) => Some(error),
            #[cfg(not(feature = "self-signed"))]
            Self::SelfSigned => None,
            Self::Incomplete(_)
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::NoCertificate(_)
            | Self::NoKey(_)
            | Self::NoProvider => None,
        }
    }
}

#[cfg(feature = "self-signed")]
/// Creates a certificate for the names of this machine.
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
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok(Identity {
        chain: vec![certificate.into()],
        key: key.into(),
    })
}

#[cfg(feature = "self-signed")]
/// How far the clock of a client can be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(feature = "self-signed")]
/// Some clients reject certificates that are valid for more than 398 days.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);

/// Checks that a file can be read again. A pipe, such as that of a shell's `<(...)`, has its text
/// once, and reading it again would wait forever.
pub(super) fn can_be_read_again(path: &Path) -> Result<(), CertificateError> {
    let found = fs::metadata(path).and_then(|found| match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::other(
            "it is not a file, so it is read only once",
        )),
    });
    found.map_err(|error| unreadable(path, pem::Error::Io(error)))
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|error| unreadable(path, pem::Error::Io(error)))
}

fn unreadable(path: &Path, source: pem::Error) -> CertificateError {
    let path = path.to_owned();
    match source {
        // These errors print the line as a list of numbers.
        pem::Error::MissingSectionEnd { .. } | pem::Error::IllegalSectionStart { .. } => {
            CertificateError::Incomplete(path)
        }
        source => CertificateError::Read { path, source },
    }
}

fn parse_chain(pem: &[u8], path: &Path) -> Result<Chain, CertificateError> {
    let chain: Chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(path, error))?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}

fn parse_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey(path.to_owned()),
        source => unreadable(path, source),
    })
}
