//! Where answers may differ, and why. What is not in this table is a fault.

use std::cell::Cell;

use http::Method;

use crate::{
    answer::{Answer, End},
    form::Form,
    ways::Way,
};

/// One exchange, as the table looks at it.
pub(crate) struct Case<'a> {
    pub(crate) form: &'a Form,
    pub(crate) way: Way,
}

/// A difference that is no fault.
struct Difference {
    reason: &'static str,
    /// Makes one of the answers that may differ of all of them.
    level: fn(&Case<'_>, &mut Answer),
}

/// The differences, and which of them have been seen.
#[derive(Default)]
pub(crate) struct Differences([Cell<bool>; TABLE.len()]);

impl Differences {
    /// Takes all out of an answer that may differ between one way and the expected one.
    pub(crate) fn level(&self, case: &Case<'_>, answer: &Answer) -> Answer {
        let mut answer = answer.clone();
        for (difference, seen) in TABLE.iter().zip(&self.0) {
            let before = answer.clone();
            (difference.level)(case, &mut answer);
            seen.set(seen.get() || answer != before);
        }
        answer
    }

    /// The reasons of those that no answer needed.
    pub(crate) fn unseen(&self) -> Vec<&'static str> {
        let pairs = TABLE.iter().zip(&self.0);
        let unseen = pairs.filter(|(_, seen)| !seen.get());
        unseen.map(|(difference, _)| difference.reason).collect()
    }
}

const TABLE: [Difference; 12] = [
    Difference {
        reason: "the fields with which HTTP/1.1 frames a message and keeps a connection have no place elsewhere",
        level: |_, answer| {
            for name in ["transfer-encoding", "connection", "keep-alive"] {
                answer.remove(name);
            }
        },
    },
    Difference {
        reason: "the time of day goes on",
        level: |case, answer| {
            if case.form.kind() != "date"
                && let Some(date) = answer.fields.iter_mut().find(|field| field.0 == "date")
            {
                date.1 = httpdate::parse_http_date(&date.1)
                    .map_or("no date", |_| "a date")
                    .into();
            }
        },
    },
    Difference {
        reason: "how much came before an answer was cut depends on buffers",
        level: |_, answer| {
            if answer.end == End::Cut {
                answer.body.clear();
                answer.trailers.clear();
            }
        },
    },
    Difference {
        reason: "hyper ends a connection, or a stream, in which a handler panics; spdy-tower answers 500, a proxy 502",
        level: |case, answer| {
            if matches!(case.form.kind(), "panic" | "panic-late") {
                fail(answer);
            }
        },
    },
    Difference {
        reason: "spdy-tower holds the head of an answer back until its body has begun, and answers 500 if that fails; a \
                 proxy has perhaps not passed on the head, and answers 502",
        level: |case, answer| {
            if matches!(case.form.kind(), "panic-body" | "error-body") {
                fail(answer);
            }
        },
    },
    Difference {
        reason: "a body that has another length than its content-length says fails by another status, or is cut; \
                 HTTP/1.1 sends the announced number of bytes of a longer one",
        level: |case, answer| {
            let is_wrong = match case.form.kind() {
                "wrong-length" => case.form.shape != "wrong-length:5",
                "status-length" => true,
                _ => false,
            };
            if is_wrong && !is_bodyless(case.form, answer) {
                // The HTTP/2 of hyper holds no body against its length that is empty.
                let is_short_by_http2 = case.way == Way::Http2 && answer.body.is_empty();
                // That of HTTP/1.1 states the right length instead.
                let is_mended = case.form.kind() == "status-length" && has_length(answer, "0");
                if answer.body.len() == 5 || is_short_by_http2 || is_mended {
                    answer.end = End::Cut;
                }
                fail(answer);
            }
        },
    },
    Difference {
        reason: "an interim status is no answer: hyper's HTTP/1.1 closes the connection behind a 500",
        level: |case, answer| {
            if case.form.kind() == "interim" {
                fail(answer);
            }
        },
    },
    Difference {
        reason: "hyper's HTTP/1.1 leaves the length of a 304 out",
        level: |_, answer| {
            if answer.status == Some(304) {
                answer.remove("content-length");
            }
        },
    },
    Difference {
        reason: "hyper's HTTP/1.1 announces no trailers where it sends no chunks",
        level: |case, answer| {
            if is_bodyless(case.form, answer) {
                answer.remove("trailer");
            }
        },
    },
    Difference {
        reason: "what `connection` names is for the next hop, which in HTTP/1.1 is the client",
        level: |case, answer| {
            if case.form.kind() == "hop" {
                answer.remove("x-hop");
            }
        },
    },
    Difference {
        reason: "some clients state the length of no body",
        level: |case, answer| {
            let is_empty = case.form.kind() == "echo" && case.form.length() == 0;
            if is_empty && has_length(answer, "0") {
                answer.remove("content-length");
            }
        },
    },
    Difference {
        reason: "SPDY/2 has no trailers",
        level: |case, answer| {
            if case.way.is_version_2() {
                answer.trailers.clear();
            }
        },
    },
];

/// Makes one failure of all of them. What looks like a success stays what it is.
fn fail(answer: &mut Answer) {
    if answer.end == End::Cut || matches!(answer.status, None | Some(500 | 502)) {
        *answer = Answer::none(End::Cut);
    }
}

fn has_length(answer: &Answer, length: &str) -> bool {
    let mut fields = answer.fields.iter();
    fields.any(|(name, value)| name == "content-length" && value == length)
}

/// Whether no body is expected.
fn is_bodyless(form: &Form, answer: &Answer) -> bool {
    form.method == Method::HEAD || matches!(answer.status, Some(204 | 304))
}
