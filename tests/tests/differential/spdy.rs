//! Requests and answers as the header blocks of SPDY.

use spdy_frame::HeaderBlock;
use spdy_tower::Version;

use crate::{answer::Answer, form::Form, ways::AUTHORITY};

/// The block of a request.
pub(crate) fn head(version: Version, form: &Form) -> HeaderBlock {
    let names = match version {
        Version::V2 => ["method", "url", "version", "host", "scheme"],
        Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
    };
    let values = [
        form.method.as_str(),
        &form.target,
        "HTTP/1.1",
        AUTHORITY,
        "http",
    ];
    let mut block = HeaderBlock::from_pairs(names.into_iter().zip(values)).expect("it is sound");
    for (name, value) in form.headers() {
        block.append(name, value).expect("forms have sound fields");
    }
    if form.body.as_ref().is_some_and(|body| body.is_announced) {
        let length = form.length().to_string();
        block.append("content-length", length).expect("it is sound");
    }
    block
}

pub(crate) fn trailers() -> HeaderBlock {
    HeaderBlock::from_pairs([("x-end", "reached")]).expect("it is sound")
}

/// The head of an answer.
pub(crate) fn answer(block: &HeaderBlock) -> Answer {
    let mut fields = listed(block);
    let mut take = |name: &str| {
        let place = fields
            .iter()
            .position(|field| field.0.trim_start_matches(':') == name)?;
        Some(fields.remove(place).1)
    };
    let status = take("status").and_then(|status| status.get(..3)?.parse().ok());
    _ = take("version");
    Answer::head(status.unwrap_or(0), fields)
}

/// The fields of a block with each value on a line of its own, sorted by name.
pub(crate) fn listed(block: &HeaderBlock) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut listed = Vec::new();
    for field in block.fields() {
        listed.extend(
            field
                .values()
                .map(|value| (text(field.name()), text(value))),
        );
    }
    listed.sort_by(|one, other| one.0.cmp(&other.0));
    listed
}
