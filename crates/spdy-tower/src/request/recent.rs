//! What the requests of a session have in common.

use http::{
    HeaderMap, HeaderName, Method, Request,
    uri::{Authority, Scheme},
};
use spdy_frame::{Field, HeaderBlock, Version};

use super::{Head, Kind, MAX_TARGET, Meta, content_length, method, origin_form};
use crate::fields;

/// A request that others of its session are held against. Most clients send the same fields again and again, with
/// another path, and another value here and there: then all that was found out about the others holds, and is copied.
///
/// A request that is like none before costs next to nothing here: what came of it is kept when the next one is alike.
/// It is kept until one that is not alike takes its place, within [`MAX_FIELDS`] and [`MAX_SIZE`].
#[derive(Debug)]
pub(super) struct Recent {
    version: Version,
    latest: Option<Latest>,
}

#[derive(Debug)]
struct Latest {
    block: HeaderBlock,
    /// Where method and target are in the block.
    method: usize,
    target: usize,
    common: Option<Common>,
}

/// What a head has beside its method and its path.
#[derive(Debug)]
struct Common {
    version: http::Version,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    headers: HeaderMap,
    content_length: Option<u64>,
}

/// What a block that is alike does not share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    method: Field<'a>,
    target: Field<'a>,
    changes: [Option<Field<'a>>; MAX_CHANGES],
}

impl Recent {
    pub(super) const fn new(version: Version) -> Self {
        Self {
            version,
            latest: None,
        }
    }

    /// What is a block's own, if it is like the one that is kept: it has the same fields, and the same values of nearly
    /// all.
    pub(super) fn compare<'a>(&self, block: &'a HeaderBlock) -> Option<Own<'a>> {
        let latest = self.latest.as_ref()?;
        if block.len() != latest.block.len() {
            return None;
        }
        let (mut method, mut target) = (None, None);
        let mut changes = [None; MAX_CHANGES];
        let mut room = changes.iter_mut();
        for (place, (field, known)) in block.fields().zip(latest.block.fields()).enumerate() {
            if field.name() != known.name() {
                return None;
            }
            if place == latest.target {
                target = Some(field);
            } else if place == latest.method {
                method = Some(field);
            } else if field.value() != known.value() {
                if field.is_joined() || !self.may_change(field.name()) {
                    return None;
                }
                *room.next()? = Some(field);
            }
        }
        let (method, target) = (method?, target?);
        is_path(method, target).then_some(Own {
            method,
            target,
            changes,
        })
    }

    /// Whether nothing else depends on a field.
    fn may_change(&self, name: &[u8]) -> bool {
        matches!(Kind::of(self.version, name), Kind::Field)
            && !fields::is_of_connection(name)
            && name != b"te"
    }

    /// The head of a request that is alike. `None` if it is not known yet, or what is its own is malformed.
    pub(super) fn head(&self, own: Own<'_>) -> Option<Head> {
        let common = self.latest.as_ref()?.common.as_ref()?;
        let (scheme, authority) = (common.scheme.clone(), common.authority.clone());
        let mut request = Request::new(());
        *request.method_mut() = method(own.method).ok()?;
        *request.uri_mut() = origin_form(own.target, scheme, authority).ok()?;
        *request.version_mut() = common.version;
        let mut head = Head {
            request,
            content_length: common.content_length,
        };
        let headers = head.request.headers_mut();
        *headers = common.headers.clone();
        for field in own.changes.into_iter().map_while(|field| field) {
            let name = HeaderName::from_bytes(field.name()).ok()?;
            let value = fields::value(field.value_bytes()).ok()?;
            // It takes the place of all values that there were.
            headers.insert(name, value);
        }
        if own.changes[0].is_some() {
            head.content_length = content_length(headers).ok()?;
        }
        Some(head)
    }

    /// Keeps a request that was read in full. `is_alike`: to the one that was kept before.
    pub(super) fn remember(&mut self, block: &HeaderBlock, is_alike: bool, head: &Head) {
        self.latest = Latest::of(self.version, block);
        if let Some(latest) = self.latest.as_mut().filter(|_| is_alike) {
            latest.common = Some(Common::of(head));
        }
    }
}

impl Latest {
    /// `None` if it is too large, or has no path.
    fn of(version: Version, block: &HeaderBlock) -> Option<Self> {
        if block.len() > MAX_FIELDS || block.size() > MAX_SIZE {
            return None;
        }
        let (mut method, mut target) = (None, None);
        for (place, field) in block.fields().enumerate() {
            match Kind::of(version, field.name()) {
                Kind::Meta(Meta::Method) => method = Some((place, field)),
                Kind::Meta(Meta::Target) => target = Some((place, field)),
                _ => {}
            }
        }
        let (method, target) = (method?, target?);
        is_path(method.1, target.1).then(|| Self {
            block: block.clone(),
            method: method.0,
            target: target.0,
            common: None,
        })
    }
}

impl Common {
    fn of(head: &Head) -> Self {
        let (uri, content_length) = (head.request.uri(), head.content_length);
        Self {
            version: head.request.version(),
            scheme: uri.scheme().cloned(),
            authority: uri.authority().cloned(),
            headers: head.request.headers().clone(),
            content_length,
        }
    }
}

/// Whether the target is a path, so that nothing else depends on it or on the method.
fn is_path(method: Field<'_>, target: Field<'_>) -> bool {
    let path = target.value();
    path.starts_with(b"/")
        && path.len() <= MAX_TARGET
        && !target.is_joined()
        && method.value() != Method::CONNECT.as_str().as_bytes()
}

/// The most fields with a value of its own that a request has which is alike.
const MAX_CHANGES: usize = 4;

/// The most fields of a request that is kept.
const MAX_FIELDS: usize = 16;

/// The most octets of the block of a request that is kept, with 32 for each field. About the same goes to the map of
/// its fields.
const MAX_SIZE: usize = 2048;
