//! NPN, by OpenSSL, for clients without ALPN (protocol.md §3.2). This module has all unsafe code of
//! the workspace.
//!
//! NPN is a part of TLS up to version 1.2 that rustls does not support. The crate `openssl` does
//! not wrap it, so this module calls the two functions of OpenSSL directly. OpenSSL has NPN unless
//! it is built without it.
//!
//! Only clients without ALPN come here. TLS 1.2 is the only version, because TLS 1.3 has no NPN.

mod record;

use std::{
    error::Error,
    ffi::{c_int, c_uchar, c_uint, c_void},
    fmt, io,
    pin::Pin,
    ptr, slice,
};

use foreign_types::ForeignTypeRef;
use openssl::{
    error::ErrorStack,
    pkey::PKey,
    ssl::{Ssl, SslContext, SslMethod, SslMode, SslOptions, SslRef, SslVersion},
    x509::X509,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use self::record::Records;
use super::{TlsInfo, certificate::Identity};
use crate::negotiate::Protocol;

/// A transport whose protocol was chosen by NPN.
pub(super) type NpnStream<IO> = Records<SslStream<IO>>;

/// The configuration that accepts NPN connections.
#[derive(Clone)]
pub(super) struct Npn(SslContext);

impl Npn {
    pub(super) fn new(identity: &Identity) -> Result<Self, ErrorStack> {
        let mut context = SslContext::builder(SslMethod::tls_server())?;
        context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_cipher_list(CIPHERS)?;
        context.set_options(
            SslOptions::CIPHER_SERVER_PREFERENCE
                | SslOptions::NO_RENEGOTIATION
                | SslOptions::NO_COMPRESSION,
        );
        context.set_mode(SslMode::RELEASE_BUFFERS);
        let mut chain = identity.chain.iter();
        let certificate = chain.next().expect("a chain is never empty");
        context.set_certificate(&*X509::from_der(certificate)?)?;
        for intermediate in chain {
            context.add_extra_chain_cert(X509::from_der(intermediate)?)?;
        }
        let key = PKey::private_key_from_der(identity.key.secret_der())?;
        context.set_private_key(&key)?;
        context.check_private_key()?;
        // SAFETY: the pointer is that of a live context. The callback has the signature that
        // OpenSSL declares, lives forever, and does not use its argument.
        #[allow(unsafe_code)]
        unsafe {
            openssl_sys::SSL_CTX_set_next_protos_advertised_cb(
                context.as_ptr(),
                advertise,
                ptr::null_mut(),
            );
        }
        Ok(Self(context.build()))
    }

    /// Performs the handshake. The caller has to set a time limit. The error is `InvalidData` if
    /// the client selects a protocol that was not offered.
    pub(super) async fn accept<IO>(&self, io: IO) -> io::Result<(NpnStream<IO>, Protocol, TlsInfo)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut io = SslStream::new(Ssl::new(&self.0)?, io)?;
        Pin::new(&mut io).accept().await.map_err(|error| {
            error
                .into_io_error()
                .unwrap_or_else(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        let protocol = match selected(io.ssl()) {
            Some(id) => {
                offered(id).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, NotOffered))?
            }
            // The client supports NPN but has selected no protocol, which means HTTP/1.1.
            None => Protocol::Http1,
        };
        let info = TlsInfo {
            version: "TLS 1.2",
            cipher_suite: io
                .ssl()
                .current_cipher()
                .and_then(|cipher| cipher.standard_name())
                .unwrap_or("unknown"),
        };
        Ok((Records::new(io), protocol, info))
    }
}

impl fmt::Debug for Npn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Npn")
    }
}

/// Returns the protocol that the client has selected in a completed handshake.
fn selected(ssl: &SslRef) -> Option<&[u8]> {
    let (mut id, mut length): (*const c_uchar, c_uint) = (ptr::null(), 0);
    // SAFETY: the pointer is that of a live connection, and both places are writable. OpenSSL makes
    // `id` point to `length` bytes that live as long as the connection, which the slice borrows, or
    // leaves it null. The bytes only change during a handshake, which is over: there is no
    // renegotiation.
    #[allow(unsafe_code)]
    unsafe {
        openssl_sys::SSL_get0_next_proto_negotiated(ssl.as_ptr(), &raw mut id, &raw mut length);
        (!id.is_null()).then(|| slice::from_raw_parts(id, length as usize))
    }
}

/// Passes the list of protocols to OpenSSL.
extern "C" fn advertise(
    _: *mut openssl_sys::SSL,
    list: *mut *const c_uchar,
    length: *mut c_uint,
    _: *mut c_void,
) -> c_int {
    // SAFETY: OpenSSL calls this with two writable places for the list. The list is static.
    #[allow(unsafe_code)]
    unsafe {
        *list = OFFERED.as_ptr();
        *length = OFFERED.len() as c_uint;
    }
    openssl_sys::SSL_TLSEXT_ERR_OK
}

/// Returns the protocol of an id, if it is in the list.
fn offered(id: &[u8]) -> Option<Protocol> {
    Protocol::from_alpn(id).filter(|protocol| *protocol != Protocol::Http2)
}

/// The error for a client that selected a protocol that was not offered.
#[derive(Debug)]
struct NotOffered;

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client selected a protocol by NPN that was not offered")
    }
}

impl Error for NotOffered {}

/// The protocols in the order of preference, each with its length. Clients never selected HTTP/2 by
/// NPN.
static OFFERED: [u8; 32] = *b"\x08spdy/3.1\x06spdy/3\x06spdy/2\x08http/1.1";

/// The TLS 1.2 ciphers that rustls also has.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_what_can_be_selected() {
        let (mut list, mut ids) = (&OFFERED[..], Vec::new());
        while let [length, rest @ ..] = list {
            let (id, rest) = rest.split_at(usize::from(*length));
            ids.push(id);
            list = rest;
        }
        assert_eq!(ids, [&b"spdy/3.1"[..], b"spdy/3", b"spdy/2", b"http/1.1"]);
        assert!(ids.into_iter().all(|id| offered(id).is_some()));
        for id in [&b"h2"[..], b"spdy/4", b""] {
            assert_eq!(offered(id), None);
        }
    }
}
