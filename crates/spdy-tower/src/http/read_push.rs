//! Reads the request that a push answers from its header block (protocol.md §10.2).

use http::{
    Method, Request, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use spdy_frame::{HeaderBlock, RstStatus, Version};

use super::{fields::VALUE_SEPARATOR, names::Meta, origin::Origin};

/// Why a push is not accepted, and the status for the server.
pub(crate) struct Unfit(pub(crate) RstStatus, pub(crate) &'static str);

const fn malformed(reason: &'static str) -> Unfit {
    Unfit(RstStatus::PROTOCOL_ERROR, reason)
}

/// The request that a push answers.
pub(crate) fn request(
    version: Version,
    block: &HeaderBlock,
    asked: &Origin,
) -> Result<Request<()>, Unfit> {
    let method = block.get(Meta::Method.name(version));
    if method.is_some_and(|method| method != b"GET") {
        return Err(malformed("method of a push is not GET"));
    }
    let (origin, path) = match version {
        Version::V2 => whole_url(block, asked)?,
        Version::V3 | Version::V3_1 => parts(version, block)?,
    };
    if !origin.is_same(asked) {
        return Err(Unfit(
            RstStatus::REFUSED_STREAM,
            "push belongs to another origin",
        ));
    }
    let uri = Uri::builder()
        .scheme(origin.scheme)
        .authority(origin.host)
        .path_and_query(path);
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri
        .build()
        .map_err(|_| malformed("invalid URI of a push"))?;
    Ok(request)
}

type Target = (Origin, PathAndQuery);

/// SPDY/2 has one field. A path alone belongs to the origin of the associated request.
fn whole_url(block: &HeaderBlock, asked: &Origin) -> Result<Target, Unfit> {
    let url = block
        .get(Meta::Target.name(Version::V2))
        .ok_or(malformed("missing url of a push"))?;
    let url = Uri::try_from(url)
        .map_err(|_| malformed("invalid url of a push"))?
        .into_parts();
    let path = url
        .path_and_query
        .ok_or(malformed("missing path in url of a push"))?;
    match (url.scheme, url.authority) {
        (Some(scheme), Some(host)) => Ok((Origin { scheme, host }, path)),
        (None, None) => Ok((asked.clone(), path)),
        _ => Err(malformed("invalid url of a push")),
    }
}

/// Since SPDY/3 there are three fields.
fn parts(version: Version, block: &HeaderBlock) -> Result<Target, Unfit> {
    let get = |meta: Meta| {
        let value = block
            .get(meta.name(version))
            .filter(|value| !value.contains(&VALUE_SEPARATOR));
        value.ok_or(malformed("missing or repeated meta header of a push"))
    };
    let path = get(Meta::Target)?;
    if !path.starts_with(b"/") {
        return Err(malformed("invalid path of a push"));
    }
    let origin = Origin {
        scheme: Scheme::try_from(get(Meta::Scheme)?)
            .map_err(|_| malformed("invalid scheme of a push"))?,
        host: Authority::try_from(get(Meta::Host)?)
            .map_err(|_| malformed("invalid host of a push"))?,
    };
    let path = PathAndQuery::try_from(path).map_err(|_| malformed("invalid path of a push"))?;
    Ok((origin, path))
}

/// Returns whether a block already contains the head of the response. Other servers send it later.
pub(crate) fn has_response(version: Version, block: &HeaderBlock) -> bool {
    block.get(Meta::Status.name(version)).is_some()
}
