//! The two text formats of metrics, and the choice between them.

use axum::http::{HeaderMap, header::ACCEPT};
use prometheus_client::{
    encoding::{prometheus_text, text},
    registry::Registry,
};

/// A text format, which a client chooses by `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own text format, for clients that do not ask for another.
    Prometheus,
    /// OpenMetrics, for clients that name it and do not like the other one better.
    OpenMetrics,
}

impl Format {
    /// Returns the format for a request with these fields.
    pub(super) fn wanted(fields: &HeaderMap) -> Self {
        let lines = fields.get_all(ACCEPT).iter();
        let ranges: Vec<_> = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .map(Range::new)
            .collect();
        let best = |names: &[&str]| {
            let named = ranges.iter().filter(|range| names.contains(&range.name));
            named.map(|range| range.weight).max().unwrap_or(0)
        };
        let openmetrics = best(&["application/openmetrics-text"]);
        match openmetrics > 0 && openmetrics >= best(&["text/plain", "text/*"]) {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// Returns the value of `content-type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns all metrics as they are now.
    pub(super) fn text(self, registry: &Registry) -> String {
        let mut out = String::new();
        let written = match self {
            Self::Prometheus => prometheus_text::encode(&mut out, registry),
            Self::OpenMetrics => text::encode(&mut out, registry),
        };
        written.expect("a String takes any text");
        out
    }
}

/// A media range of `accept`.
struct Range<'a> {
    name: &'a str,
    /// The weight in thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    fn new(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(Some(1.0), |weight| weight.parse::<f32>().ok())
            .filter(|weight| (0.0..=1.0).contains(weight));
        Self {
            name,
            // A range whose weight is not valid counts as one that is not there.
            weight: weight.map_or(0, |weight| (weight * 1000.0) as u16),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_prefer_it() {
        for (accept, expected) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            // Prometheus 2.42, and one that is configured for the old format alone.
            (
                "application/openmetrics-text;version=1.0.0,\
                 application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Prometheus,
            ),
            (
                "application/openmetrics-text; q=0.4, text/plain; q=0.5",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Format::wanted(&fields), expected, "{accept}");
        }
        assert_eq!(Format::wanted(&HeaderMap::new()), Format::Prometheus);
    }
}
