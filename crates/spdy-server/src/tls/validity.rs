//! The time in which a certificate is valid, and the first of its names.

use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// The reason why a certificate is not valid at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// It has not been valid since this time.
    Since(SystemTime),
    /// It will be valid from this time on.
    Until(SystemTime),
}

/// Checks that a certificate is valid now. One that cannot be read counts as valid: rustls decides
/// about it.
pub(super) fn check(certificate: &CertificateDer<'_>) -> Result<(), Invalid> {
    check_at(certificate, UnixTime::now())
}

/// Returns the end of the time in which a certificate is valid. `None` if it cannot be read.
#[cfg(any(feature = "metrics", test))]
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let end_of_time = UnixTime::since_unix_epoch(Duration::MAX);
    match check_at(certificate, end_of_time) {
        Err(Invalid::Since(time)) => Some(time),
        _ => None,
    }
}

/// Returns the first name of a certificate, if it has one.
#[cfg(any(feature = "metrics", test))]
pub(super) fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().next().map(str::to_owned)
}

/// Asks for the verification of a certificate that nothing vouches for. The time comes before
/// everything else.
fn check_at(certificate: &CertificateDer<'_>, time: UnixTime) -> Result<(), Invalid> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Ok(());
    };
    let usage = KeyUsage::server_auth();
    let verified = certificate.verify_for_usage(&[], &[], &[], time, usage, None, None);
    match verified.err() {
        Some(webpki::Error::CertExpired { not_after, .. }) => Err(Invalid::Since(at(not_after))),
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => {
            Err(Invalid::Until(at(not_before)))
        }
        _ => Ok(()),
    }
}

fn at(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(from: i32, to: i32, names: &[&str], is_authority: bool) -> CertificateDer<'static> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        if is_authority {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().into()
    }

    #[test]
    fn the_times_of_a_certificate_are_found() {
        let year = |years: u64, leap_days: u64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs((years * 365 + leap_days) * 86_400)
        };
        let (in_2000, in_2100) = (year(30, 7), year(130, 32));
        for is_authority in [false, true] {
            let good = made(2000, 2100, &["b.test", "a.test"], is_authority);
            assert_eq!(check(&good), Ok(()));
            assert_eq!(not_after(&good), Some(in_2100));
            assert_eq!(name(&good).as_deref(), Some("b.test"));
            let old = made(1999, 2000, &[], is_authority);
            assert_eq!(check(&old), Err(Invalid::Since(in_2000)));
            assert_eq!(not_after(&old), Some(in_2000));
            assert_eq!(name(&old), None);
            let early = made(2100, 2101, &[], is_authority);
            assert_eq!(check(&early), Err(Invalid::Until(in_2100)));
        }
        let nothing = CertificateDer::from(vec![0; 9]);
        assert_eq!((check(&nothing), not_after(&nothing)), (Ok(()), None));
    }
}
