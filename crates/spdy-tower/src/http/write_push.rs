//! Writes the head of a pushed response to a header block (protocol.md §10.1).

use http::{Method, response::Parts};
use spdy_frame::Version;

use super::{
    fields,
    names::{Message, Meta},
    origin::Origin,
    write_response::{ResponseForm, Written, put_head},
};

/// Returns the head of a push: the meta headers of the request that it answers, and the
/// response.
///
/// Deployed clients require one block that contains a method (protocol.md §10.1, §19).
pub(crate) fn head(
    form: ResponseForm,
    origin: &Origin,
    path: &str,
    head: Parts,
    size: Option<u64>,
) -> Option<Written> {
    let version = form.version;
    let (scheme, host) = (origin.scheme.as_str(), origin.host.as_str());
    let mut block = fields::block_for(head.headers.len() + 8);
    let mut put = |meta: Meta, value: &str| fields::put(&mut block, meta.name(version), value);
    put(Meta::Method, "GET");
    match version {
        Version::V2 => put(Meta::Target, &format!("{scheme}://{host}{path}")),
        Version::V3 | Version::V3_1 => {
            put(Meta::Scheme, scheme);
            put(Meta::Host, host);
            put(Meta::Target, path);
        }
    }
    let announced = put_head(&mut block, form, &Method::GET, head, size, Message::Push);
    fields::fits(version, &block).then_some(Written { block, announced })
}
