//! Reads the head of an HTTP request from the header block of a SYN_STREAM (protocol.md §9.1,
//! §9.2).

mod recent;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Uri,
    header::HOST,
    uri::{self, Authority, PathAndQuery, Scheme},
};
use spdy_frame::{Field, HeaderBlock, Version};

use self::recent::Recent;
use super::{
    fields::{self, ConnectionFields},
    malformed::Malformed,
    names::Meta,
};

/// Reads the heads of the requests of one session.
#[derive(Debug)]
pub(crate) struct Heads {
    version: Version,
    connection_fields: ConnectionFields,
    recent: Recent,
}

/// The checked head of a request, ready for the application.
#[derive(Debug)]
pub(crate) struct Head {
    /// The method, target, version and fields.
    pub(crate) request: Request<()>,
    /// The length of the body that the head announces, in bytes.
    pub(crate) content_length: Option<u64>,
}

impl Heads {
    pub(crate) const fn new(version: Version, connection_fields: ConnectionFields) -> Self {
        Self {
            version,
            connection_fields,
            recent: Recent::new(version),
        }
    }

    /// Reads the block of a SYN_STREAM. `has_body` is true if SYN_STREAM has no FIN.
    ///
    /// The target becomes the URI. If there are a scheme and a host, the URI has both, as hyper
    /// does it for HTTP/2. Without a scheme (SPDY/2 only) it is the path alone. The authority also
    /// becomes the `host` field, for applications that were written for HTTP/1.1.
    pub(crate) fn read(&mut self, block: &HeaderBlock, has_body: bool) -> Result<Head, Malformed> {
        if block.is_truncated() {
            return Err(Malformed::HeadersTooLarge);
        }
        let own = self.recent.compare(block);
        let head = match own.and_then(|own| self.recent.head(own)) {
            Some(head) => head,
            None => {
                let head = self.read_in_full(block)?;
                self.recent.remember(block, &head);
                head
            }
        };
        if !has_body && head.content_length.is_some_and(|bytes| bytes > 0) {
            return Err(Malformed::BodyMissing);
        }
        Ok(head)
    }

    fn read_in_full(&self, block: &HeaderBlock) -> Result<Head, Malformed> {
        let mut line = RequestLine::default();
        // Of the five meta headers, only the host becomes a field.
        let mut headers = fields::map_for(block.len().saturating_sub(4));
        for field in block.fields() {
            match Kind::of(self.version, field.name()) {
                Kind::Meta(meta) => line.set(meta, field)?,
                Kind::UnknownMeta => return Err(Malformed::UnknownMeta),
                // SPDY/3 uses `:host` for this, and a request must not have both (protocol.md
                // §9.4).
                Kind::Host => match self.connection_fields {
                    ConnectionFields::Drop => {}
                    ConnectionFields::Refuse => return Err(Malformed::ConnectionField),
                },
                Kind::Field => fields::receive(&mut headers, field, self.connection_fields)?,
            }
        }

        let mut request = Request::new(());
        *request.method_mut() = line.method()?;
        *request.version_mut() = line.http_version()?;
        let (uri, host) = line.target(self.version, request.method())?;
        *request.uri_mut() = uri;
        if let Some(host) = host {
            let host = HeaderValue::from_maybe_shared(host).map_err(|_| Malformed::Host)?;
            headers.insert(HOST, host);
        }
        let content_length = fields::content_length(&headers)?;
        *request.headers_mut() = headers;
        Ok(Head {
            request,
            content_length,
        })
    }
}

/// The purpose of a field in a block.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Meta(Meta),
    UnknownMeta,
    /// `host`, if it is not a meta header.
    Host,
    Field,
}

impl Kind {
    fn of(version: Version, name: &[u8]) -> Self {
        let has_colon = name.starts_with(b":");
        if version != Version::V2 && !has_colon {
            return if name == b"host" {
                Self::Host
            } else {
                Self::Field
            };
        }
        match Meta::find(&Meta::REQUEST, version, name) {
            Some(meta) => Self::Meta(meta),
            None if has_colon => Self::UnknownMeta,
            None => Self::Field,
        }
    }
}

/// The meta headers that arrived.
#[derive(Debug, Default)]
struct RequestLine<'a> {
    values: [Option<Field<'a>>; 5],
}

impl<'a> RequestLine<'a> {
    fn set(&mut self, meta: Meta, field: Field<'a>) -> Result<(), Malformed> {
        if field.is_joined() {
            return Err(Malformed::Repeated(meta.description()));
        }
        self.values[meta as usize] = Some(field);
        Ok(())
    }

    fn get(&self, meta: Meta) -> Option<Field<'a>> {
        self.values[meta as usize]
    }

    fn require(&self, meta: Meta) -> Result<Field<'a>, Malformed> {
        self.get(meta)
            .ok_or_else(|| Malformed::Missing(meta.description()))
    }

    fn method(&self) -> Result<Method, Malformed> {
        method(self.require(Meta::Method)?)
    }

    fn http_version(&self) -> Result<http::Version, Malformed> {
        match self.require(Meta::HttpVersion)?.value() {
            b"HTTP/1.1" => Ok(http::Version::HTTP_11),
            b"HTTP/1.0" => Ok(http::Version::HTTP_10),
            _ => Err(Malformed::HttpVersion),
        }
    }

    /// Returns the request target in the form that the method requires, and the value for the
    /// `host` field.
    fn target(&self, version: Version, method: &Method) -> Result<(Uri, Option<Bytes>), Malformed> {
        let target = self.require(Meta::Target)?;
        if target.value().len() > MAX_TARGET {
            return Err(Malformed::TargetTooLong);
        }
        let host = self.get(Meta::Host).map(|host| host.value_bytes());
        let authority = host.as_ref().map(authority).transpose()?;
        let scheme = self
            .get(Meta::Scheme)
            .map(|scheme| self::scheme(scheme.value()))
            .transpose()?;
        if *method == Method::CONNECT {
            return authority_form(&target.value_bytes());
        }
        if version != Version::V2 {
            self.require(Meta::Host)?;
            self.require(Meta::Scheme)?;
        }
        match target.value() {
            [b'/', ..] => Ok((origin_form(target, scheme, authority)?, host)),
            b"*" if *method == Method::OPTIONS => Ok((Uri::from_static("*"), host)),
            _ => absolute_form(&target.value_bytes()),
        }
    }
}

fn method(field: Field<'_>) -> Result<Method, Malformed> {
    Method::from_bytes(field.value()).map_err(|_| Malformed::Method)
}

/// `a.test:443`: the target of a tunnel.
fn authority_form(target: &Bytes) -> Result<(Uri, Option<Bytes>), Malformed> {
    let authority = authority(target).map_err(|_| Malformed::Target)?;
    if authority.port().is_none() {
        return Err(Malformed::Target);
    }
    Ok((Uri::from(authority), Some(target.clone())))
}

/// `/path?query`: the target of most requests.
fn origin_form(
    target: Field<'_>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
) -> Result<Uri, Malformed> {
    let length = target.value().len();
    let path =
        PathAndQuery::from_maybe_shared(target.value_bytes()).map_err(|_| Malformed::Target)?;
    // The URI parser has cut off the fragment behind `#`.
    if path.as_str().len() != length {
        return Err(Malformed::Target);
    }
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(path);
    // Clients of SPDY/2 may leave out the scheme, the host, or both, as node-spdy 1 does.
    if let (Some(scheme), Some(authority)) = (scheme, authority) {
        parts.scheme = Some(scheme);
        parts.authority = Some(authority);
    }
    Uri::from_parts(parts).map_err(|_| Malformed::Target)
}

/// `http://a.test/path`: the target of a request to a proxy. It takes precedence over the meta
/// headers.
fn absolute_form(target: &Bytes) -> Result<(Uri, Option<Bytes>), Malformed> {
    let uri = Uri::from_maybe_shared(target.clone()).map_err(|_| Malformed::Target)?;
    let Some(authority) = uri
        .authority()
        .filter(|_| uri.scheme().is_some() && !target.contains(&b'#'))
    else {
        return Err(Malformed::Target);
    };
    check_authority(authority).map_err(|_| Malformed::Target)?;
    let host = Bytes::copy_from_slice(authority.as_str().as_bytes());
    Ok((uri, Some(host)))
}

fn authority(bytes: &Bytes) -> Result<Authority, Malformed> {
    let authority = Authority::from_maybe_shared(bytes.clone()).map_err(|_| Malformed::Host)?;
    check_authority(&authority)?;
    Ok(authority)
}

/// Returns whether this is a host with an optional port, as in a `host` field or in the target of a
/// request. All protocols use this rule.
#[must_use]
pub fn is_authority(bytes: &[u8]) -> bool {
    Authority::try_from(bytes).is_ok_and(|authority| check_authority(&authority).is_ok())
}

/// A host has a name, no user name, and an optional port number.
fn check_authority(authority: &Authority) -> Result<(), Malformed> {
    let whole = authority.as_str();
    // Nearly all hosts are only a name.
    let is_sign = |byte| matches!(byte, b'@' | b':' | b'[');
    if !whole.is_empty() && !whole.bytes().any(is_sign) {
        return Ok(());
    }
    let name = authority.host();
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let behind = whole.strip_prefix(name).ok_or(Malformed::Host)?;
    match behind.strip_prefix(':') {
        _ if name.is_empty() || whole.contains('@') => Err(Malformed::Host),
        None if behind.is_empty() => Ok(()),
        Some(port) if is_port(port) => Ok(()),
        _ => Err(Malformed::Host),
    }
}

fn scheme(bytes: &[u8]) -> Result<Scheme, Malformed> {
    match bytes {
        b"http" => return Ok(Scheme::HTTP),
        b"https" => return Ok(Scheme::HTTPS),
        _ => {}
    }
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !bytes.first().is_some_and(u8::is_ascii_alphabetic) || !bytes.iter().all(is_scheme) {
        return Err(Malformed::Scheme);
    }
    Scheme::try_from(bytes).map_err(|_| Malformed::Scheme)
}

/// The longest URI that the `http` crate can represent.
const MAX_TARGET: usize = 65_534;

#[cfg(test)]
mod tests;
