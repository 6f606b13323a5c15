//! The headers that give the purpose of a stream.

use spdy_session::HeaderBlock;

/// The types of streams of exec, attach and port-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamType {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
    /// The bytes of a forwarded connection.
    Data,
}

impl StreamType {
    /// Returns the type of a stream. Returns `None` if the header is missing, unknown, or has
    /// several values.
    ///
    /// Of several values, spdystream at the other end of a relay uses the first, and others use
    /// all. So a stream with several values would have two types at once.
    pub(crate) fn of(headers: &HeaderBlock) -> Option<Self> {
        match only(headers, "streamtype")? {
            b"error" => Some(Self::Error),
            b"stdin" => Some(Self::Stdin),
            b"stdout" => Some(Self::Stdout),
            b"stderr" => Some(Self::Stderr),
            b"resize" => Some(Self::Resize),
            b"data" => Some(Self::Data),
            _ => None,
        }
    }
}

/// Returns the value of a header, if it has exactly one.
pub(crate) fn only<'a>(headers: &'a HeaderBlock, name: &str) -> Option<&'a [u8]> {
    let mut values = headers
        .fields()
        .filter(|field| field.name() == name.as_bytes());
    let value = values.next()?.value();
    // On the wire, NUL separates two values.
    let is_one = values.next().is_none() && !value.contains(&0);
    is_one.then_some(value)
}

/// Returns whether the headers that give the purpose of a stream have one meaning for every reader.
pub(crate) fn is_clear(headers: &HeaderBlock) -> bool {
    let is_single = |name| headers.get(name).is_none() || only(headers, name).is_some();
    StreamType::of(headers).is_some() && is_single("port") && is_single("requestid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(pairs: &[(&str, &str)]) -> HeaderBlock {
        HeaderBlock::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_type_is_exactly_one_that_is_known() {
        let of = |value| StreamType::of(&block(&[("streamtype", value)]));
        assert_eq!(of("stdout"), Some(StreamType::Stdout));
        assert_eq!(of("data"), Some(StreamType::Data));
        for value in [
            "stdout\0x",
            "stdout\0stdin",
            "x\0stdout",
            "STDOUT",
            " stdout",
            "",
        ] {
            assert_eq!(of(value), None, "{value:?}");
        }
        assert_eq!(StreamType::of(&block(&[("port", "1")])), None);
        let twice = block(&[("streamtype", "stdout"), ("streamtype", "stdin")]);
        assert_eq!(StreamType::of(&twice), None);
    }

    #[test]
    fn a_port_and_a_request_have_one_value_too() {
        let data = [("streamtype", "data"), ("port", "80"), ("requestid", "0")];
        assert!(is_clear(&block(&data)));
        assert!(is_clear(&block(&data[..1])));
        for place in [1, 2] {
            let mut twice = data;
            twice[place].1 = "80\x0081";
            assert!(!is_clear(&block(&twice)));
        }
    }
}
