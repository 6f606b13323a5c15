//! The certificates that applications behind the proxy can have.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};

/// Returns a configuration that trusts the authorities in a file, or else those of the system. The
/// error is a sentence.
pub(super) fn config(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match authorities {
        Some(path) => of_file(path)?,
        None => of_the_system()?,
    };
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn of_file(path: &Path) -> Result<RootCertStore, String> {
    let place = path.display();
    let invalid = |reason: &str| format!("cannot use the certificates in {place}: {reason}");
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| match error {
        // These errors print the line as a list of numbers.
        pem::Error::MissingSectionEnd { .. } | pem::Error::IllegalSectionStart { .. } => {
            invalid("the file is not complete; copy the whole file again")
        }
        error => invalid(&error.to_string()),
    })?;
    if certificates.is_empty() {
        return Err(format!(
            "no certificate found in {place}; it has to be in PEM form"
        ));
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| invalid(&error.to_string()))?;
    }
    Ok(roots)
}

/// Returns the authorities that the system trusts. Many systems have some whose certificates cannot
/// be parsed. Those are left out.
fn of_the_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this system trusts no certificates; name those to trust with --proxy-ca".into(),
        );
    }
    Ok(roots)
}
