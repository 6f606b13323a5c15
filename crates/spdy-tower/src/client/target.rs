//! Where a request says that it goes. Only this file decides it.
//!
//! A request names a host in its URI, and perhaps another one in a `host` field, for the server.
//! What is sent names one host. So no proxy on the way can take the request to another host than
//! the one that the caller has connected to or has named to a proxy.

use http::{
    HeaderValue, Method, Request, Uri,
    header::HOST,
    request::Parts,
    uri::{Authority, PathAndQuery},
};

use super::{
    ConnectorError, InvalidTarget,
    origin::{Origin, without_user},
};

/// Returns whether a proxy cannot send a request on, because the server is to get another host than
/// the one to which the request goes. In a request for a proxy there is no room for both.
pub(super) fn needs_tunnel<B>(request: &Request<B>, origin: &Origin) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    request.method() == Method::CONNECT || hosts.any(|host| !origin.has_name(host))
}

/// Rejects a request that tells a proxy no target.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), ConnectorError> {
    let uri = request.uri();
    let is_absolute = uri.scheme().is_some() || request.method() == Method::CONNECT;
    match uri.authority().filter(|_| is_absolute) {
        Some(authority) => without_user(authority),
        None => Err(ConnectorError::Target(InvalidTarget::NotAbsolute)),
    }
}

/// Makes the URI the only part of a request that names a host, and completes its target.
///
/// A proxy and the end of a tunnel go by the URI. A server gets the host of the field.
pub(super) fn settle(head: &mut Parts, to_proxy: bool) {
    let is_connect = head.method == Method::CONNECT;
    if is_connect {
        keep_authority(&mut head.uri);
    }
    give_path(&mut head.uri);
    if to_proxy || is_connect {
        head.headers.remove(HOST);
    } else if let Some(host) = own_host(head) {
        head.headers.remove(HOST);
        change(&mut head.uri, |parts| parts.authority = Some(host));
    }
}

/// In HTTP/1.1 the host is in a field, and the request line has only the path, except for a proxy.
pub(super) fn for_http1<B>(request: &mut Request<B>, to_proxy: bool) {
    let host = request.uri().authority();
    if let Some(Ok(host)) = host.map(|host| HeaderValue::from_str(host.as_str())) {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    if request.method() != Method::CONNECT && !to_proxy {
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = target.map(Uri::from).unwrap_or_default();
    }
    *request.version_mut() = http::Version::HTTP_11;
}

fn own_host(head: &Parts) -> Option<Authority> {
    let host = Authority::try_from(head.headers.get(HOST)?.as_bytes()).ok()?;
    without_user(&host).is_ok().then_some(host)
}

/// The target of CONNECT is only host and port.
fn keep_authority(uri: &mut Uri) {
    change(uri, |parts| {
        parts.scheme = None;
        parts.path_and_query = None;
    });
}

/// `http://host?query` has a query without a path, which no protocol can express.
fn give_path(uri: &mut Uri) {
    let target = uri.path_and_query().map(PathAndQuery::as_str);
    if let Some(query) = target.filter(|target| target.starts_with('?')) {
        let target = format!("/{query}").parse::<PathAndQuery>();
        let target = target.expect("a query may follow a path");
        change(uri, |parts| parts.path_and_query = Some(target));
    }
}

fn change(uri: &mut Uri, change: impl FnOnce(&mut http::uri::Parts)) {
    let mut parts = std::mem::take(uri).into_parts();
    change(&mut parts);
    *uri = Uri::from_parts(parts).expect("each change leaves a URI");
}
