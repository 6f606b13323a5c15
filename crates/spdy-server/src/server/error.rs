//! Why a server does not start.

use std::{error::Error, fmt, io, path::PathBuf};

use crate::config::Address;
#[cfg(feature = "rustls")]
use crate::tls::CertificateError;
#[cfg(doc)]
use crate::{Config, Inherited};

/// The reason why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The server cannot listen on an address.
    Listen {
        /// The address.
        address: Address,
        /// The error of the system.
        source: io::Error,
    },
    /// A socket of [`Inherited`] cannot be used.
    Inherited(io::Error),
    /// No certificate is available for TLS.
    #[cfg(feature = "rustls")]
    Certificate(CertificateError),
    /// The access log cannot be opened.
    AccessLog {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// [`Config::binds`] is empty, or every address in it was left out.
    NoListener,
    /// The configuration needs the cargo feature of this name, which this build does not have.
    Feature(&'static str),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, .. } => write!(f, "cannot listen on {address}"),
            Self::Inherited(_) => f.write_str("cannot listen on a socket passed to the process"),
            #[cfg(feature = "rustls")]
            Self::Certificate(error) => error.fmt(f),
            Self::Feature(name) => write!(f, "this build does not have the feature `{name}`"),
            Self::AccessLog { path, .. } => {
                write!(f, "cannot open the access log {}", path.display())
            }
            Self::NoListener => f.write_str("no address to listen on"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Listen { source, .. } | Self::AccessLog { source, .. } => Some(source),
            Self::Inherited(source) => Some(source),
            #[cfg(feature = "rustls")]
            Self::Certificate(error) => error.source(),
            Self::NoListener | Self::Feature(_) => None,
        }
    }
}

#[cfg(feature = "rustls")]
impl From<CertificateError> for StartError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}
