//! The fields of a PROXY protocol header of version 2: what the proxy knows of the client beside
//! its address.

use ppp::v2::{ParseError, Type, TypeLengthValues};

use super::Invalid;

/// What a PROXY protocol header of version 2 says of the client, beside its address. The extensions
/// of every request of the connection contain it as `Arc<ProxyInfo>`, if the header says anything.
///
/// It is as true as the proxy: see [`Config::proxy_protocol`](crate::Config::proxy_protocol) and
/// [`Config::proxy_protocol_from`](crate::Config::proxy_protocol_from).
///
/// ```
/// use std::sync::Arc;
///
/// use axum::Extension;
/// use spdy_server::ProxyInfo;
///
/// async fn who(Extension(proxy): Extension<Arc<ProxyInfo>>) -> String {
///     let certificate = proxy.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
///     match certificate {
///         Some(it) if it.is_verified => format!("{:?}\n", it.common_name),
///         _ => "unknown\n".to_owned(),
///     }
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyInfo {
    /// The protocol that the proxy and the client have agreed on by ALPN, as it is on the wire.
    pub alpn: Option<Vec<u8>>,
    /// The host that the client has named to the proxy, by the server name of TLS (SNI).
    pub authority: Option<String>,
    /// The TLS connection between the client and the proxy. `None` if the client does not use TLS,
    /// or if the proxy does not say so (`send-proxy-v2-ssl` of HAProxy does).
    pub tls: Option<ProxyTls>,
}

/// The TLS connection between a client and the proxy in front of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyTls {
    /// The version, as the proxy writes it: `TLSv1.3`.
    pub version: Option<String>,
    /// The cipher suite, as the proxy writes it: `ECDHE-RSA-AES128-GCM-SHA256`.
    pub cipher: Option<String>,
    /// The certificate of the client. `None` if it has presented none, neither in this connection
    /// nor in the session that this one resumes.
    pub certificate: Option<ProxyCertificate>,
}

/// The certificate that a client has presented to the proxy in front of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyCertificate {
    /// Whether the proxy has verified the certificate.
    pub is_verified: bool,
    /// The common name of its subject.
    pub common_name: Option<String>,
}

impl ProxyInfo {
    /// Reads the fields. Those of other types are ignored.
    pub(super) fn read(fields: TypeLengthValues<'_>) -> Result<Self, Invalid> {
        let (mut info, mut tls) = (Self::default(), None);
        for field in fields {
            let field = field?;
            let (kind, value) = (field.kind, &*field.value);
            match kind {
                ALPN => once(kind, &mut info.alpn, value.to_vec())?,
                AUTHORITY => once(kind, &mut info.authority, text(kind, value)?)?,
                SSL => once(kind, &mut tls, ProxyTls::read(value)?)?,
                _ => {}
            }
        }
        info.tls = tls.flatten();
        Ok(info)
    }
}

impl ProxyTls {
    /// Reads the value of the field. Returns `None` if the client does not use TLS: proxies send
    /// the field for such a client, too.
    fn read(value: &[u8]) -> Result<Option<Self>, Invalid> {
        let Some((&[flags, verify @ ..], fields)) = value.split_first_chunk::<SSL_HEAD>() else {
            return Err(Invalid::Value(SSL));
        };
        let (mut tls, mut common_name) = (Self::default(), None);
        for field in TypeLengthValues::from(fields) {
            let field = field?;
            let (kind, value) = (field.kind, &*field.value);
            match kind {
                SSL_VERSION => once(kind, &mut tls.version, text(kind, value)?)?,
                SSL_CIPHER => once(kind, &mut tls.cipher, text(kind, value)?)?,
                SSL_COMMON_NAME => once(kind, &mut common_name, text(kind, value)?)?,
                _ => {}
            }
        }
        if flags & HAS_CERTIFICATE != 0 {
            tls.certificate = Some(ProxyCertificate {
                is_verified: verify == VERIFIED,
                common_name,
            });
        }
        Ok((flags & IS_TLS != 0).then_some(tls))
    }
}

/// Sets a value that the header must not have twice: two programs could take different ones.
pub(super) fn once<T>(kind: u8, place: &mut Option<T>, value: T) -> Result<(), Invalid> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Invalid::Twice(kind)),
    }
}

/// Returns a text for people and logs.
fn text(kind: u8, value: &[u8]) -> Result<String, Invalid> {
    let text = std::str::from_utf8(value).ok();
    text.filter(|text| !text.contains(char::is_control))
        .map(str::to_owned)
        .ok_or(Invalid::Value(kind))
}

impl From<ParseError> for Invalid {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::InvalidTLV(kind, length) => Self::Field { kind, length },
            _ => Self::Rest,
        }
    }
}

const ALPN: u8 = Type::ALPN as u8;
const AUTHORITY: u8 = Type::Authority as u8;
const SSL: u8 = Type::SSL as u8;
const SSL_VERSION: u8 = Type::SSLVersion as u8;
const SSL_COMMON_NAME: u8 = Type::SSLCommonName as u8;
const SSL_CIPHER: u8 = Type::SSLCipher as u8;

/// The flags and the result of the verification, before the fields inside of [`SSL`].
const SSL_HEAD: usize = 5;

/// The client uses TLS.
const IS_TLS: u8 = 0x01;

/// The client has presented a certificate, in this connection or in the session that it resumes.
const HAS_CERTIFICATE: u8 = 0x02 | 0x04;

/// The result of a verification that has succeeded. Any other is the reason of a failure.
const VERIFIED: [u8; 4] = [0; 4];

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind][..], &length, value].concat()
    }

    fn read(fields: &[u8]) -> Result<ProxyInfo, Invalid> {
        ProxyInfo::read(TypeLengthValues::from(fields))
    }

    #[test]
    fn what_the_proxy_knows_is_read() {
        let inside = |flags: u8, verify: u32| {
            [
                &[flags][..],
                &verify.to_be_bytes(),
                &field(SSL_VERSION, b"TLSv1.3"),
                &field(SSL_COMMON_NAME, b"caf\xc3\xa9"),
                &field(SSL_CIPHER, b"TLS_AES_128_GCM_SHA256"),
                &field(0x25, b"RSA2048"),
            ]
            .concat()
        };
        let of = |flags, verify| {
            let fields = [
                field(ALPN, b"spdy/3"),
                field(0x05, b"unique"),
                field(AUTHORITY, b"a.test"),
                field(SSL, &inside(flags, verify)),
                field(0x04, b""),
            ];
            read(&fields.concat()).unwrap()
        };
        for (flags, verify, is_verified) in [(3, 0, true), (5, 0, true), (7, 18, false)] {
            let info = of(flags, verify);
            assert_eq!(info.alpn.as_deref(), Some(&b"spdy/3"[..]));
            assert_eq!(info.authority.as_deref(), Some("a.test"));
            let tls = info.tls.unwrap();
            assert_eq!(tls.version.as_deref(), Some("TLSv1.3"));
            assert_eq!(tls.cipher.as_deref(), Some("TLS_AES_128_GCM_SHA256"));
            let certificate = tls.certificate.unwrap();
            assert_eq!(certificate.is_verified, is_verified);
            assert_eq!(certificate.common_name.as_deref(), Some("café"));
        }
        assert_eq!(of(1, 0).tls.unwrap().certificate, None);
        assert_eq!(of(0, 1).tls, None);
        assert_eq!(read(b"").unwrap(), ProxyInfo::default());
    }

    #[test]
    fn a_field_that_is_malformed_is_named() {
        for (fields, reason) in [
            (
                vec![ALPN, 0, 9, b'h'],
                "field 0x01 of the PROXY protocol header has 9 bytes, which are more than follow",
            ),
            (
                vec![ALPN, 0],
                "the PROXY protocol header ends with bytes that are no field",
            ),
            (
                [field(ALPN, b"h2"), field(ALPN, b"h2")].concat(),
                "the PROXY protocol header has field 0x01 twice",
            ),
            (
                field(AUTHORITY, b"a\r\nb"),
                "field 0x02 of the PROXY protocol header is not valid",
            ),
            (
                field(AUTHORITY, b"\xff"),
                "field 0x02 of the PROXY protocol header is not valid",
            ),
            (
                field(SSL, &[1, 0, 0, 0]),
                "field 0x20 of the PROXY protocol header is not valid",
            ),
            (
                field(SSL, &[1, 0, 0, 0, 0, SSL_VERSION, 0, 1]),
                "field 0x21 of the PROXY protocol header has 1 bytes, which are more than follow",
            ),
            (
                field(SSL, &[&[1, 0, 0, 0, 0][..], &field(0x22, b"\0")].concat()),
                "field 0x22 of the PROXY protocol header is not valid",
            ),
        ] {
            assert_eq!(read(&fields).unwrap_err().to_string(), reason);
        }
    }
}
