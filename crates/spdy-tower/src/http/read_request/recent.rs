//! Copies what a request has in common with an earlier one of its session.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    mem,
};

use http::{HeaderMap, Method, Request, Uri};
use spdy_frame::{Field, HeaderBlock, Version};

use super::{Head, Kind, MAX_TARGET, Meta, method, origin_form};
use crate::http::{fields, list::is_hop_by_hop};

/// A request with which later requests of its session are compared. Most clients send the same
/// fields repeatedly, with another path and a few other values. Then the result for the earlier
/// request is valid for all other fields, and is copied.
///
/// A request is kept only if it has the same names as the one before; of others only a hash of the
/// names is kept. So a request that differs from all earlier ones costs almost nothing here, and a
/// session with a single request holds nothing of it. A kept request stays until one that is not
/// similar comes, within [`MAX_FIELDS`] and [`MAX_SIZE`].
#[derive(Debug)]
pub(super) struct Recent {
    version: Version,
    /// The hash of the names of the last request that was read in full.
    names: Option<u64>,
    kept: Option<Box<Kept>>,
}

/// A request and its result.
#[derive(Debug)]
struct Kept {
    block: HeaderBlock,
    /// The places of the method and the target in the block.
    method: usize,
    target: usize,
    http_method: Method,
    uri: Uri,
    version: http::Version,
    headers: HeaderMap,
    content_length: Option<u64>,
    /// The place of each field's value in the map.
    places: [Option<u8>; MAX_FIELDS],
}

/// Where a similar block differs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own<'a> {
    method: Option<Field<'a>>,
    target: Option<Field<'a>>,
    /// The values that differ, with their places in the block.
    changes: [Option<(usize, Field<'a>)>; MAX_CHANGES],
}

impl Recent {
    pub(super) const fn new(version: Version) -> Self {
        Self {
            version,
            names: None,
            kept: None,
        }
    }

    /// Returns where a block differs, if it is similar: it has the same fields, and nearly all
    /// values are the same.
    pub(super) fn compare<'a>(&self, block: &'a HeaderBlock) -> Option<Own<'a>> {
        let kept = self.kept.as_ref()?;
        if block.len() != kept.block.len() {
            return None;
        }
        let mut own = Own::default();
        let mut room = own.changes.iter_mut();
        let mut place = 0;
        loop {
            place += block.matching_fields(&kept.block, place);
            let Some(field) = block.fields().nth(place) else {
                break;
            };
            let known = kept.block.fields().nth(place)?;
            if field.name() != known.name() {
                return None;
            }
            if place == kept.target {
                own.target = Some(field);
            } else if place == kept.method {
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

    /// Returns whether a change of the field changes nothing else.
    fn may_change(&self, name: &[u8]) -> bool {
        matches!(Kind::of(self.version, name), Kind::Field) && !is_hop_by_hop(name) && name != b"te"
    }

    /// Returns the head of a similar request. Returns `None` if one of its own values is malformed.
    pub(super) fn head(&self, own: Own<'_>) -> Option<Head> {
        let kept = self.kept.as_ref()?;
        let mut request = Request::new(());
        *request.method_mut() = match own.method {
            None => kept.http_method.clone(),
            Some(field) => method(field).ok()?,
        };
        *request.uri_mut() = match own.target {
            None => kept.uri.clone(),
            Some(field) => {
                let (scheme, authority) = (kept.uri.scheme(), kept.uri.authority());
                origin_form(field, scheme.cloned(), authority.cloned()).ok()?
            }
        };
        *request.version_mut() = kept.version;
        let headers = request.headers_mut();
        *headers = kept.headers.clone();
        for (place, field) in own.changes.into_iter().map_while(|change| change) {
            let place = usize::from(kept.places[place]?);
            let (_, value) = headers.iter_mut().nth(place)?;
            *value = fields::value(field.value_bytes()).ok()?;
            value.set_sensitive(field.is_sensitive());
        }
        let content_length = match own.changes[0] {
            None => kept.content_length,
            Some(_) => fields::content_length(headers).ok()?,
        };
        Some(Head {
            request,
            content_length,
        })
    }

    /// Remembers a request that was read in full, because it is not similar to the kept one.
    pub(super) fn remember(&mut self, block: &HeaderBlock, head: &Head) {
        // A request whose names are those of the kept one differs in too much else. If many such
        // requests come, each second one is kept for nothing.
        let had_kept = self.kept.take().is_some();
        let before = mem::replace(&mut self.names, hash_of_names(block));
        if !had_kept && self.names.is_some() && self.names == before {
            self.kept = Kept::of(self.version, block, head).map(Box::new);
        }
    }
}

impl Kept {
    /// Returns `None` if the request has no path.
    fn of(version: Version, block: &HeaderBlock, head: &Head) -> Option<Self> {
        let (mut method, mut target) = (None, None);
        for (place, field) in block.fields().enumerate() {
            match Kind::of(version, field.name()) {
                Kind::Meta(Meta::Method) => method = Some((place, field)),
                Kind::Meta(Meta::Target) => target = Some((place, field)),
                _ => {}
            }
        }
        let ((method, takes_target), (target, path)) = (method?, target?);
        if !is_path(path) || !takes_path(takes_target) {
            return None;
        }
        let request = &head.request;
        let mut places = [None; MAX_FIELDS];
        for (place, field) in places.iter_mut().zip(block.fields()) {
            *place = place_of(request.headers(), field.name());
        }
        Some(Self {
            block: block.clone(),
            method,
            target,
            http_method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            content_length: head.content_length,
            places,
        })
    }
}

/// Returns a hash of the names of a block in their order, or `None` if the block is too large to be
/// kept. It only says which requests are worth comparing, so a collision does no harm.
fn hash_of_names(block: &HeaderBlock) -> Option<u64> {
    if block.len() > MAX_FIELDS || block.size() > MAX_SIZE {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    block
        .fields()
        .for_each(|field| field.name().hash(&mut hasher));
    Some(hasher.finish())
}

/// Returns the place of a field's value in the map, if it has exactly one.
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

/// Returns whether requests with a method have paths as targets, and nothing else depends on the
/// method.
fn takes_path(method: Field<'_>) -> bool {
    method.value() != Method::CONNECT.as_str().as_bytes()
}

/// How many values of a similar request may differ.
const MAX_CHANGES: usize = 4;

/// The largest number of fields of a kept request.
const MAX_FIELDS: usize = 16;

/// The largest size of the block of a kept request, with 32 bytes added for each field. The map of
/// its fields has about the same size.
const MAX_SIZE: usize = 2048;
