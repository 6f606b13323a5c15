//! The names of the meta headers, by version (protocol.md §9.1, §9.3). This is their only table.

use spdy_frame::Version;

/// A meta header of a request or of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    Method,
    Target,
    HttpVersion,
    Host,
    Scheme,
    Status,
}

impl Meta {
    /// The meta headers of a request, in the order of the variants.
    pub(super) const REQUEST: [Self; 5] = [
        Self::Method,
        Self::Target,
        Self::HttpVersion,
        Self::Host,
        Self::Scheme,
    ];

    /// The meta headers of a response.
    pub(super) const RESPONSE: [Self; 2] = [Self::Status, Self::HttpVersion];

    /// The meta headers that name the request which a push answers. They are not fields of its
    /// response.
    pub(super) const PROMISE: [Self; 4] = [Self::Method, Self::Target, Self::Host, Self::Scheme];

    /// Returns the name in a version.
    pub(crate) const fn name(self, version: Version) -> &'static str {
        let names = match version {
            Version::V2 => &V2,
            Version::V3 | Version::V3_1 => &V3,
        };
        names[self as usize]
    }

    /// Returns the meta header in `all` that has a name.
    #[inline]
    pub(super) fn find(all: &[Self], version: Version, name: &[u8]) -> Option<Self> {
        if version != Version::V2 && !name.starts_with(b":") {
            return None;
        }
        let is_it = |meta: &&Self| meta.name(version).as_bytes() == name;
        all.iter().find(is_it).copied()
    }

    /// Returns the name in words, for messages.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Target => "target",
            Self::HttpVersion => "HTTP version",
            Self::Host => "host",
            Self::Scheme => "scheme",
            Self::Status => "status",
        }
    }
}

/// In the order of [`Meta`].
static V2: [&str; 6] = ["method", "url", "version", "host", "scheme", "status"];

/// In the order of [`Meta`].
static V3: [&str; 6] = [
    ":method", ":path", ":version", ":host", ":scheme", ":status",
];

/// What a header block is the head of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Request,
    Response,
    Push,
}

impl Message {
    /// Returns the names that fields of the application must not have. In SPDY/2, meta headers look
    /// like other fields (protocol.md §9.1). The host and the cookies of a request are written
    /// separately.
    pub(super) const fn reserved(self, version: Version) -> &'static [&'static str] {
        match (self, version) {
            (Self::Request, Version::V2) => {
                &["method", "url", "version", "host", "scheme", "cookie"]
            }
            (Self::Request, Version::V3 | Version::V3_1) => &["host", "cookie"],
            (Self::Response, Version::V2) => &["status", "version"],
            (Self::Push, Version::V2) => &["status", "version", "method", "url"],
            (Self::Response | Self::Push, Version::V3 | Version::V3_1) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_one_name_for_each_meta_header() {
        for version in Version::ALL {
            for (place, meta) in Meta::REQUEST.into_iter().enumerate() {
                assert_eq!(meta as usize, place);
                let name = meta.name(version);
                assert_eq!(
                    Meta::find(&Meta::REQUEST, version, name.as_bytes()),
                    Some(meta)
                );
                assert_eq!(name.starts_with(':'), version != Version::V2);
            }
            assert_eq!(Meta::find(&Meta::REQUEST, version, b"accept"), None);
        }
    }

    #[test]
    fn names_of_meta_headers_are_reserved_in_version_2_only() {
        for (message, metas) in [
            (Message::Request, &Meta::REQUEST[..]),
            (Message::Response, &Meta::RESPONSE),
            (Message::Push, &[Meta::Method, Meta::Target]),
            (Message::Push, &Meta::RESPONSE),
        ] {
            for meta in metas {
                let name = meta.name(Version::V2);
                assert!(message.reserved(Version::V2).contains(&name), "{name}");
            }
        }
    }
}
