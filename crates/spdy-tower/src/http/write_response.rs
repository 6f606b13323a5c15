//! Writes the head of an HTTP response to the header block of a SYN_REPLY (protocol.md §9.3, §9.4).

use std::sync::LazyLock;

use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LENGTH, DATE},
    response::Parts,
};
use spdy_frame::{HeaderBlock, Version};

use super::{
    date::with_date,
    fields::{self, put, put_block, put_number},
    framing,
    names::{Message, Meta},
};

/// The settings for the heads of a session's responses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseForm {
    pub(crate) version: Version,
    /// Whether `date` is added if it is missing.
    pub(crate) adds_date: bool,
}

/// The head of a response to be sent.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) block: HeaderBlock,
    /// The length that `content-length` announces, if it is one number.
    pub(crate) announced: Option<u64>,
}

/// Returns the head of a response: its status and its fields.
///
/// `size` is the size hint of the body, for `content-length` if the application has not set it.
/// Returns `None` if SPDY/2 cannot carry a value, because its lengths have 16 bits.
pub(crate) fn head(
    form: ResponseForm,
    method: &Method,
    head: Parts,
    size: Option<u64>,
) -> Option<Written> {
    let version = form.version;
    let mut block = fields::block_for(head.headers.len() + 4);
    let announced = put_head(&mut block, form, method, head, size, Message::Response);
    fields::fits(version, &block).then_some(Written { block, announced })
}

/// Adds the head of a response. Returns the length that it announces, if that is one number.
pub(super) fn put_head(
    block: &mut HeaderBlock,
    form: ResponseForm,
    method: &Method,
    head: Parts,
    size: Option<u64>,
    message: Message,
) -> Option<u64> {
    let (status, mut headers) = (head.status, head.headers);
    framing::remove_false_length(method, status, &mut headers);
    put_status(block, form.version, status);
    fields::send(block, &headers, message.reserved(form.version));
    let announced = if fields::has(&headers, &CONTENT_LENGTH) {
        fields::content_length(&headers).ok().flatten()
    } else {
        let known = size.filter(|&bytes| framing::is_length(method, status, bytes));
        if let Some(bytes) = known {
            put_number(block, CONTENT_LENGTH.as_str(), bytes);
        }
        known
    };
    // `date` is last, because it changes. The fields in front of it compress as one piece.
    if form.adds_date && !fields::has(&headers, &DATE) {
        put_date(block);
    }
    announced
}

/// Returns a complete response of this crate: a status without a body.
pub(crate) fn bare(form: ResponseForm, status: StatusCode) -> HeaderBlock {
    let mut block = fields::block_for(4);
    put_status(&mut block, form.version, status);
    put(&mut block, CONTENT_LENGTH.as_str(), "0");
    if form.adds_date {
        put_date(&mut block);
    }
    block
}

/// The status has no reason phrase, because no client needs one.
fn put_status(block: &mut HeaderBlock, version: Version, status: StatusCode) {
    if status == StatusCode::OK {
        return put_block(block, &OK[usize::from(version == Version::V2)]);
    }
    put_any_status(block, version, status);
}

fn put_any_status(block: &mut HeaderBlock, version: Version, status: StatusCode) {
    put(block, Meta::Status.name(version), status.as_str());
    put(block, Meta::HttpVersion.name(version), "HTTP/1.1");
}

/// The status of most responses, in SPDY/3 and in SPDY/2.
static OK: LazyLock<[HeaderBlock; 2]> = LazyLock::new(|| {
    [Version::V3, Version::V2].map(|version| {
        let mut block = HeaderBlock::new();
        put_any_status(&mut block, version, StatusCode::OK);
        block
    })
});

fn put_date(block: &mut HeaderBlock) {
    with_date(|date| put_block(block, date));
}

/// Returns the block of a HEADERS frame after the body.
pub(crate) fn trailers(version: Version, trailers: &HeaderMap) -> Option<HeaderBlock> {
    let mut block = fields::block_for(trailers.len());
    fields::send(&mut block, trailers, Message::Response.reserved(version));
    fields::fits(version, &block).then_some(block)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    }

    fn undated(version: Version) -> ResponseForm {
        ResponseForm {
            version,
            adds_date: false,
        }
    }

    fn ok(headers: HeaderMap) -> Parts {
        let mut head = http::Response::new(()).into_parts().0;
        head.headers = headers;
        head
    }

    /// Returns the block of a response to GET with status 200.
    fn block(version: Version, headers: HeaderMap, size: Option<u64>) -> Option<HeaderBlock> {
        let head = head(undated(version), &Method::GET, ok(headers), size)?;
        Some(head.block)
    }

    fn listed(block: &HeaderBlock) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        block
            .fields()
            .map(|field| (text(field.name()), text(field.value())))
            .collect()
    }

    /// Returns the fields of a response with status 200, after its status and version.
    fn sent(version: Version, fields: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        listed(&block(version, map(fields), None).unwrap()).split_off(2)
    }

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect()
    }

    #[test]
    fn c151_status_and_version_come_first() {
        for version in Version::ALL {
            let expected = match version {
                Version::V2 => [("status", "404"), ("version", "HTTP/1.1"), ("x-a", "b")],
                _ => [(":status", "404"), (":version", "HTTP/1.1"), ("x-a", "b")],
            };
            let mut head = ok(map(&[("x-a", "b")]));
            head.status = StatusCode::NOT_FOUND;
            let block = super::head(undated(version), &Method::GET, head, None)
                .unwrap()
                .block;
            assert_eq!(listed(&block), pairs(&expected));
            assert_eq!(
                listed(&bare(undated(version), StatusCode::NOT_FOUND))[..2],
                pairs(&expected[..2])
            );
        }
    }

    #[test]
    fn c152_fields_of_one_connection_are_not_sent() {
        for version in Version::ALL {
            let fields = [
                ("connection", "close, X-Hop"),
                ("connection", "x-other"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "close"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("te", "trailers"),
                ("x-hop", "1"),
                ("x-other", "2"),
                ("x-end", "3"),
            ];
            assert_eq!(sent(version, &fields), pairs(&[("x-end", "3")]));
        }
    }

    #[test]
    fn c142_repeated_fields_become_one_pair() {
        for version in Version::ALL {
            let fields = [
                ("set-cookie", "a=1"),
                ("vary", "accept"),
                ("set-cookie", "b=2; path=/"),
            ];
            let expected = [("set-cookie", "a=1\0b=2; path=/"), ("vary", "accept")];
            assert_eq!(sent(version, &fields), pairs(&expected));
        }
    }

    #[test]
    fn empty_values_do_not_leave_stray_separators() {
        for fields in [
            &[("x-a", ""), ("x-a", "1"), ("x-a", "")][..],
            &[("x-a", "1")],
        ] {
            assert_eq!(sent(Version::V3_1, fields), pairs(&[("x-a", "1")]));
        }
        assert_eq!(
            sent(Version::V3_1, &[("x-a", ""), ("x-a", "")]),
            pairs(&[("x-a", "")])
        );
    }

    #[test]
    fn an_application_cannot_disturb_the_meta_headers_of_version_2() {
        let fields = [("status", "500"), ("version", "2"), ("url", "/")];
        assert_eq!(sent(Version::V2, &fields), pairs(&[("url", "/")]));
        assert_eq!(sent(Version::V3, &fields), pairs(&fields));
    }

    #[test]
    fn secrets_are_marked_for_the_compressor() {
        let mut headers = map(&[("x-plain", "1"), ("x-token", "2")]);
        headers.get_mut("x-token").unwrap().set_sensitive(true);
        let block = block(Version::V3_1, headers, None).unwrap();
        let secret: Vec<_> = block
            .fields()
            .filter(|field| field.is_sensitive())
            .map(|field| field.name())
            .collect();
        assert_eq!(secret, [b"x-token"]);
    }

    #[test]
    fn content_length_is_added_where_it_is_missing() {
        let length = |fields: &[(&'static str, &'static str)], known| {
            let block = block(Version::V3, map(fields), known).unwrap();
            block
                .get("content-length")
                .map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        assert_eq!(length(&[], Some(0)).as_deref(), Some("0"));
        assert_eq!(
            length(&[], Some(u64::MAX)).as_deref(),
            Some("18446744073709551615")
        );
        assert_eq!(
            length(&[("content-length", "7")], Some(8)).as_deref(),
            Some("7")
        );
        assert_eq!(length(&[], None), None);
    }

    #[test]
    fn content_length_is_left_out_where_it_would_be_wrong() {
        let length = |method, status, own: &'static str| {
            let mut head = ok(map(&[("content-length", own)]));
            if own.is_empty() {
                head.headers.clear();
            }
            head.status = status;
            let head = super::head(undated(Version::V3), &method, head, Some(5)).unwrap();
            let block = head.block;
            block
                .get("content-length")
                .map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        let ok = StatusCode::OK;
        assert_eq!(length(Method::HEAD, ok, "").as_deref(), Some("5"));
        assert_eq!(length(Method::HEAD, ok, "7").as_deref(), Some("7"));
        for own in ["", "7"] {
            assert_eq!(length(Method::GET, StatusCode::NO_CONTENT, own), None);
            assert_eq!(length(Method::HEAD, StatusCode::NO_CONTENT, own), None);
            assert_eq!(length(Method::CONNECT, ok, own), None);
        }
        for own in ["", "0"] {
            assert_eq!(length(Method::GET, StatusCode::NOT_MODIFIED, own), None);
        }
        assert_eq!(
            length(Method::GET, StatusCode::NOT_MODIFIED, "7").as_deref(),
            Some("7")
        );
        assert_eq!(
            length(Method::CONNECT, StatusCode::BAD_GATEWAY, "").as_deref(),
            Some("5")
        );
    }

    #[test]
    fn date_is_the_last_field_where_the_application_sets_none() {
        for version in Version::ALL {
            let form = ResponseForm {
                version,
                adds_date: true,
            };
            let dated = |headers| {
                let head = head(form, &Method::GET, ok(headers), Some(5)).unwrap();
                listed(&head.block).split_off(2)
            };
            let own = pairs(&[("date", "yesterday"), ("content-length", "5")]);
            assert_eq!(dated(map(&[("date", "yesterday")])), own);
            for mut fields in [dated(map(&[])), listed(&bare(form, StatusCode::NOT_FOUND))] {
                let (name, value) = fields.pop().unwrap();
                assert_eq!(name, "date");
                assert!(httpdate::parse_http_date(&value).is_ok(), "{value}");
                assert_eq!(fields.pop().unwrap().0, "content-length");
            }
        }
    }

    #[test]
    fn version_2_does_not_carry_values_above_65535_bytes() {
        let half = HeaderValue::from_bytes(&[b'a'; 32_767]).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-long", half.clone());
        headers.append("x-long", half.clone());
        assert!(block(Version::V2, headers.clone(), None).is_some());
        assert!(trailers(Version::V2, &headers).is_some());
        headers.append("x-long", half);
        assert!(block(Version::V2, headers.clone(), None).is_none());
        assert!(trailers(Version::V2, &headers).is_none());
        assert!(block(Version::V3, headers.clone(), None).is_some());
    }
}
