//! Errors as sentences, with what to do about them.

use std::{error::Error, io, iter};

use rustls::{AlertDescription, CertificateError};
use spdy_tower::{
    client::{ConnectorError, FetchError, InvalidTarget},
    session::{ForeignProtocol, SessionError},
};

use crate::{
    failure::{Again, sentence},
    proxies,
};

/// Returns whether a connection may be possible later. A certificate stays as it is.
pub(super) fn again(error: &ConnectorError) -> Again {
    let mut causes = iter::successors(Some(error as &(dyn Error + 'static)), |&it| it.source());
    match error {
        ConnectorError::Transport(_) | ConnectorError::ProxyTls(_)
            if causes.all(|cause| !is_certificate(cause)) =>
        {
            Again::Safely
        }
        // The proxy may reach the server later.
        ConnectorError::Proxy(status) if status.is_server_error() => Again::Safely,
        _ => Again::Never,
    }
}

fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
}

/// Returns the reason why a request or the body of its response failed.
///
/// The text leaves out the outermost message, which only says that the request failed.
pub(crate) fn reason(error: &FetchError) -> String {
    match error.source() {
        Some(cause) => cured(cause),
        None => sentence(error),
    }
}

/// Returns an error as a sentence, with what to do about it if that is known.
pub(super) fn cured(error: &(dyn Error + 'static)) -> String {
    let mut causes = iter::successors(Some(error), |&error| error.source());
    let text = sentence(error);
    match causes.find_map(cure) {
        Some(cure) => format!("{text}: {cure}"),
        None => text,
    }
}

/// Returns what to do about an error.
fn cure(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(SessionError::Foreign(protocol)) = error.downcast_ref() {
        return Some(match protocol {
            ForeignProtocol::Http1 => "try --http1",
            ForeignProtocol::Http2 => "try --http2",
            ForeignProtocol::Tls => "try https://",
            _ => return None,
        });
    }
    match error.downcast_ref() {
        Some(ConnectorError::Proxy(status)) => return Some(proxies::cure(*status)),
        Some(ConnectorError::Target(InvalidTarget::Proxy)) => return Some(proxies::UNSUPPORTED),
        Some(ConnectorError::ProxyTls(error)) => return cure_of_tls(tls_error(&**error)?, &PROXY),
        _ => {}
    }
    cure_of_tls(tls_error(error)?, &SERVER)
}

/// What to do about TLS with a server or a proxy.
struct Cures {
    untrusted: &'static str,
    authority: &'static str,
    named: &'static str,
    unfit: &'static str,
    foreign: &'static str,
}

const SERVER: Cures = Cures {
    untrusted: "trust it by --cacert FILE, or accept any certificate by --insecure",
    authority: "it is one of an authority, and not of a server: make it with CA:FALSE, or accept any \
                certificate by --insecure",
    named: "use a name of the certificate in the URL, and --connect-to for the address",
    unfit: "accept any certificate by --insecure",
    foreign: "it does not speak TLS there: try http://",
};

const PROXY: Cures = Cures {
    untrusted: "trust it by --proxy-cacert FILE, or accept any certificate by --proxy-insecure",
    authority: "it is one of an authority, and not of a server: make it with CA:FALSE, or accept any \
                certificate by --proxy-insecure",
    named: "use a name of the certificate in --proxy, and --connect-to for the address",
    unfit: "accept any certificate by --proxy-insecure",
    foreign: "it does not speak TLS there: try http:// in --proxy",
};

fn cure_of_tls(error: &rustls::Error, cures: &Cures) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(reason) => Some(match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => cures.untrusted,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                cures.named
            }
            // openssl makes such a one if it is not told otherwise.
            CertificateError::Other(why) if why.to_string().contains("CaUsedAsEndEntity") => {
                cures.authority
            }
            _ => cures.unfit,
        }),
        rustls::Error::InvalidMessage(_) => Some(cures.foreign),
        // In TLS 1.3 this comes after the handshake, from either of them.
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Some("give a certificate by --cert, or to a proxy by --proxy-cert")
        }
        _ => None,
    }
}

/// Returns the error of TLS that this error is or contains.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref()?.downcast_ref(),
        None => error.downcast_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_is_found_below_other_errors() {
        let missing = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let error = ConnectorError::from(io::Error::other(missing));
        assert!(cured(&error).contains(": give a certificate by --cert"));
        let error = ConnectorError::from(io::Error::other("no cure"));
        assert!(cured(&error).ends_with("failed: no cure"));
    }
}
