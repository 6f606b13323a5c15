//! Which API server is trusted.

use std::sync::Arc;

use rustls::{ClientConfig, Error as TlsError, RootCertStore, crypto::ring};
use spdy_tower::client::danger_accept_invalid_certs;

use crate::{Error, kubeconfig::Tls};

/// Returns the configuration for connections to the API server.
pub(super) fn client_config(tls: &Tls) -> Result<ClientConfig, Error> {
    let refused = |error: TlsError| Error::because("client certificate cannot be used", error);
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let roots = match tls.is_insecure {
        true => RootCertStore::empty(),
        false => roots(tls)?,
    };
    let builder = builder.with_root_certificates(roots);
    let mut config = match &tls.identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(refused)?,
        None => builder.with_no_client_auth(),
    };
    // This has to be asked for twice: in the kubeconfig, and of the bastion.
    if tls.is_insecure {
        danger_accept_invalid_certs(&mut config);
    }
    Ok(config)
}

fn roots(tls: &Tls) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(trusted) = &tls.roots else {
        let native = rustls_native_certs::load_native_certs();
        let (valid, _) = roots.add_parsable_certificates(native.certs);
        return match valid {
            0 => Err(Error::new(
                "no authority is named, and the system trusts none",
            )),
            _ => Ok(roots),
        };
    };
    for root in trusted {
        let invalid = |error| Error::because("certificate authority cannot be used", error);
        roots.add(root.clone()).map_err(invalid)?;
    }
    Ok(roots)
}
