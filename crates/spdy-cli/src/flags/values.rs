//! The values of options. Each message says what a right value is.

use std::{num::NonZeroU64, str::FromStr, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, Method};
use spdy_frame::Version;

use super::WarmUp;
use crate::{get::Start, whole::MAX_WHOLE};

/// Parses a whole number, which can be zero.
pub(super) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| {
        format!(
            "must be a whole number of up to {} bits",
            8 * size_of::<T>()
        )
    })
}

/// Parses a whole number above zero.
pub(super) fn positive<T: TryFrom<NonZeroU64>>(text: &str) -> Result<T, String> {
    let most = u64::MAX >> (64 - 8 * size_of::<T>());
    let number = text.parse().ok();
    number
        .and_then(|number: NonZeroU64| T::try_from(number).ok())
        .ok_or_else(|| format!("must be a whole number from 1 to {most}"))
}

/// Parses the length of a body that is kept in memory.
pub(super) fn length(text: &str) -> Result<u32, String> {
    let length = text.parse().ok();
    let length = length.filter(|length| u64::from(*length) <= MAX_WHOLE);
    length.ok_or_else(|| format!("must be a whole number from 0 to {MAX_WHOLE}"))
}

/// Parses a time above zero: a number of seconds, or of another unit that follows it.
pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    let end = text.find(|letter: char| letter.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(TIME),
    };
    let number: f64 = number.parse().map_err(|_| TIME)?;
    let seconds = number * seconds;
    if seconds > LONGEST {
        return Err("must be at most 1000 hours");
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(TIME),
    }
}

const TIME: &str = "must be a time above zero, such as 10, 1.5s, 200ms, 2m or 1h";

/// In seconds: a time that every clock can be moved by.
const LONGEST: f64 = 3_600_000.0;

pub(super) fn version(text: &str) -> Result<Version, &'static str> {
    let number = text.strip_prefix("spdy/").unwrap_or(text);
    let id = format!("spdy/{number}");
    Version::from_alpn(id.as_bytes()).ok_or("the version must be 2, 3 or 3.1")
}

/// Parses a header field. As in curl, `NAME:` takes a field away, and `NAME;` is an empty one.
pub(super) fn header(text: &str) -> Result<(HeaderName, Option<HeaderValue>), &'static str> {
    let (name, value) = match text.split_once(':') {
        Some((name, value)) => (name, Some(value.trim()).filter(|value| !value.is_empty())),
        None => {
            let name = text.strip_suffix(';');
            let name = name.ok_or("a header field must have the form NAME: VALUE")?;
            (name, Some(""))
        }
    };
    let name = name
        .trim()
        .parse()
        .map_err(|_| "the name of a header field must have letters, digits and \"-\" alone")?;
    Ok((name, value.map(field).transpose()?))
}

/// Parses the value of a header field.
pub(super) fn field(text: &str) -> Result<HeaderValue, &'static str> {
    HeaderValue::from_str(text).map_err(|_| "a header field must not contain control characters")
}

pub(super) fn method(text: &str) -> Result<Method, &'static str> {
    match text.parse() {
        Ok(Method::CONNECT) => Err("the method CONNECT is not supported"),
        Ok(method) => Ok(method),
        Err(_) => Err("the method must be one word, such as PUT"),
    }
}

/// Returns the field `authorization` for a user and a password.
pub(super) fn user(text: &str) -> Result<HeaderValue, &'static str> {
    if !text.contains(':') {
        return Err("must have the form USER:PASSWORD");
    }
    let value = format!("Basic {}", BASE64_STANDARD.encode(text));
    let mut value = HeaderValue::from_str(&value).expect("base64 is ASCII");
    value.set_sensitive(true);
    Ok(value)
}

/// Parses the byte at which a download begins.
pub(super) fn start(text: &str) -> Result<Start, &'static str> {
    match text {
        "-" => Ok(Start::End),
        text => text
            .parse()
            .map(Start::Byte)
            .map_err(|_| "must be a number of bytes, or - for the end of the file"),
    }
}

/// Parses a number of requests, or a time with a unit.
pub(super) fn warm_up(text: &str) -> Result<WarmUp, &'static str> {
    if let Ok(requests) = text.parse() {
        return Ok(WarmUp::Requests(requests));
    }
    match time(text) {
        Ok(time) if text.ends_with(|last: char| last.is_ascii_alphabetic()) => {
            Ok(WarmUp::Time(time))
        }
        _ => Err("must be a number of requests, or a time with a unit, such as 2s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_no_control_characters() {
        for text in ["", "a\tb", "Gr\u{fc}\u{df}e"] {
            assert_eq!(field(text).unwrap().as_bytes(), text.as_bytes());
        }
        for text in ["a\nb", "a\rb", "a\0b", "\u{7f}"] {
            assert!(field(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_has_a_unit() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("1.5s", 1500),
            ("200ms", 200),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in [
            "", "s", "0", "-1", "1d", "NaN", "inf", "1e300", "1 s", "0.0ms",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_of_warming_up_has_a_unit() {
        assert_eq!(warm_up("0"), Ok(WarmUp::Requests(0)));
        assert_eq!(warm_up("2s"), Ok(WarmUp::Time(Duration::from_secs(2))));
        for text in ["", "1.5", "-1", "0s", "x"] {
            assert!(warm_up(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_body_fits_in_memory() {
        assert_eq!(length("0"), Ok(0));
        assert_eq!(length("1073741824"), Ok(1 << 30));
        for text in ["1073741825", "4294967296", "-1", "x", ""] {
            let refused = length(text).unwrap_err();
            assert_eq!(
                refused, "must be a whole number from 0 to 1073741824",
                "{text}"
            );
        }
    }

    #[test]
    fn a_number_has_bounds() {
        assert_eq!(positive("65535"), Ok(std::num::NonZeroU16::MAX));
        for text in ["0", "-1", "65536", "x", "", "1.0"] {
            let refused = positive::<std::num::NonZeroU16>(text).unwrap_err();
            assert_eq!(refused, "must be a whole number from 1 to 65535", "{text}");
        }
    }
}
