//! What the requests of a session have in common.

use http::{HeaderMap, Method, Request, Uri};
use spdy_frame::{Field, HeaderBlock, Version};

use super::{Head, Kind, MAX_TARGET, Meta, method, origin_form};
use crate::http::{fields, list::is_hop_by_hop};

/// A request that others of its session are held against. Most clients send the same fields again
/// and again, with another path, and another value here and there: then all that was found out
/// about the others holds, and is copied.
///
/// A request that is like none before costs next to nothing here: what came of it is kept when the
/// next one is alike. It is kept until one that is not alike takes its place, within [`MAX_FIELDS`]
/// and [`MAX_SIZE`].
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

/// What became of the request that is kept.
#[derive(Debug)]
struct Common {
    method: Method,
    uri: Uri,
    version: http::Version,
    headers: HeaderMap,
    content_length: Option<u64>,
    /// For each field of the block, where the map has its one value.
    places: [Option<u8>; MAX_FIELDS],
}

/// Where a block that is alike differs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own<'a> {
    method: Option<Field<'a>>,
    target: Option<Field<'a>>,
    /// With their places in the block.
    changes: [Option<(usize, Field<'a>)>; MAX_CHANGES],
}

impl Recent {
    pub(super) const fn new(version: Version) -> Self {
        Self {
            version,
            latest: None,
        }
    }

    /// Where a block differs, if it is like the one that is kept: it has the same fields, and the
    /// same values of nearly all.
    pub(super) fn compare<'a>(&self, block: &'a HeaderBlock) -> Option<Own<'a>> {
        let latest = self.latest.as_ref()?;
        if block.len() != latest.block.len() {
            return None;
        }
        let mut own = Own::default();
        let mut room = own.changes.iter_mut();
        let mut place = 0;
        loop {
            place += block.matching_fields(&latest.block, place);
            let Some(field) = block.fields().nth(place) else {
                break;
            };
            let known = latest.block.fields().nth(place)?;
            if field.name() != known.name() {
                return None;
            }
            if place == latest.target {
                own.target = Some(field);
            } else if place == latest.method {
                own.method = Some(field);
            } else if field.is_joined() || !self.may_change(field.name()) {
                return None;
            } else {
                *room.next()? = Some((place, field));
            }
            place += 1;
        }
        let is_path = own.target.is_none_or(is_path) && own.method.is_none_or(takes_path);
        is_path.then_some(own)
    }

    /// Returns whether nothing else depends on a field.
    fn may_change(&self, name: &[u8]) -> bool {
        matches!(Kind::of(self.version, name), Kind::Field) && !is_hop_by_hop(name) && name != b"te"
    }

    /// The head of a request that is alike. `None` if it is not known yet, or what is its own is
    /// malformed.
    pub(super) fn head(&self, own: Own<'_>) -> Option<Head> {
        let common = self.latest.as_ref()?.common.as_ref()?;
        let mut request = Request::new(());
        *request.method_mut() = match own.method {
            None => common.method.clone(),
            Some(field) => method(field).ok()?,
        };
        *request.uri_mut() = match own.target {
            None => common.uri.clone(),
            Some(field) => {
                let (scheme, authority) = (common.uri.scheme(), common.uri.authority());
                origin_form(field, scheme.cloned(), authority.cloned()).ok()?
            }
        };
        *request.version_mut() = common.version;
        let headers = request.headers_mut();
        *headers = common.headers.clone();
        for (place, field) in own.changes.into_iter().map_while(|change| change) {
            let place = usize::from(common.places[place]?);
            let (_, value) = headers.iter_mut().nth(place)?;
            *value = fields::value(field.value_bytes()).ok()?;
            value.set_sensitive(field.is_sensitive());
        }
        let content_length = match own.changes[0] {
            None => common.content_length,
            Some(_) => fields::content_length(headers).ok()?,
        };
        Some(Head {
            request,
            content_length,
        })
    }

    /// Keeps a request that was read in full. `is_alike`: to the one that was kept before.
    pub(super) fn remember(&mut self, block: &HeaderBlock, is_alike: bool, head: &Head) {
        self.latest = Latest::of(self.version, block);
        if let Some(latest) = self.latest.as_mut().filter(|_| is_alike) {
            latest.common = Some(Common::of(block, head));
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
        let ((method, takes_target), (target, path)) = (method?, target?);
        (is_path(path) && takes_path(takes_target)).then(|| Self {
            block: block.clone(),
            method,
            target,
            common: None,
        })
    }
}

impl Common {
    fn of(block: &HeaderBlock, head: &Head) -> Self {
        let request = &head.request;
        let mut places = [None; MAX_FIELDS];
        for (place, field) in places.iter_mut().zip(block.fields()) {
            *place = place_of(request.headers(), field.name());
        }
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            content_length: head.content_length,
            places,
        }
    }
}

/// Where in the order of the map the value of a field is, if it has one and no more.
fn place_of(headers: &HeaderMap, name: &[u8]) -> Option<u8> {
    let names = headers.iter().map(|(name, _)| name.as_str().as_bytes());
    let mut places = names.enumerate().filter(|&(_, key)| key == name);
    let (place, _) = places.next()?;
    match places.next() {
        None => u8::try_from(place).ok(),
        Some(_) => None,
    }
}

/// Returns whether a target is a path, so that nothing else depends on it.
fn is_path(target: Field<'_>) -> bool {
    let path = target.value();
    path.starts_with(b"/") && path.len() <= MAX_TARGET && !target.is_joined()
}

/// Returns whether requests with a method have paths for targets, and nothing else depends on it.
fn takes_path(method: Field<'_>) -> bool {
    method.value() != Method::CONNECT.as_str().as_bytes()
}

/// The most fields with a value of its own that a request has which is alike.
const MAX_CHANGES: usize = 4;

/// The most fields of a request that is kept.
const MAX_FIELDS: usize = 16;

/// The most bytes of the block of a request that is kept, with 32 for each field. About the same
/// goes to the map of its fields.
const MAX_SIZE: usize = 2048;
