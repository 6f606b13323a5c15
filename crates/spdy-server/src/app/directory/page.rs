//! The page that lists a directory. It is written while it is sent, from a list that all responses
//! share.

use std::{
    convert::Infallible,
    fmt::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{
        HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
        response::Response,
    },
};
use bytes::Bytes;
use http_body::Frame;
use httpdate::HttpDate;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    entry::{Entry, Kind},
    list::{Item, Key, List, Order},
    root::Below,
};

/// Returns the response with a list. For HEAD, `axum` leaves out the body, whose length is unknown.
pub(super) fn response(page: Page) -> Response<Body> {
    let mut response = Response::new(Body::new(page));
    let fields = response.headers_mut();
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    fields.insert(CONTENT_TYPE, kind);
    // All names are escaped. If one were not, it could still not run a script.
    let nothing_else = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    fields.insert(CONTENT_SECURITY_POLICY, nothing_else);
    response
}

/// A page as a body. It holds the list, which it shares, and no text.
#[derive(Debug)]
pub(super) struct Page {
    entry: Arc<Entry>,
    path: Below,
    order: Order,
    /// The next thing to write: the head, each item, the end.
    next: usize,
}

impl Page {
    /// Returns the page for a list in this order.
    pub(super) const fn new(entry: Arc<Entry>, path: Below, order: Order) -> Self {
        Self {
            entry,
            path,
            order,
            next: 0,
        }
    }

    fn list(&self) -> &List {
        let Kind::List(list) = &self.entry.kind else {
            unreachable!("the answer to what is in a directory is a list")
        };
        list
    }

    /// Writes the next part.
    fn write(&self, text: &mut String) {
        let Some(at) = self.next.checked_sub(1) else {
            return self.head(text);
        };
        match self.list().get(self.order, at) {
            Some(item) => row(text, item),
            None => self.end(text),
        }
    }

    fn head(&self, text: &mut String) {
        let path = escaped(&self.path.shown());
        *text += "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n";
        *text += "<meta name=\"viewport\" content=\"width=device-width\">\n";
        *text += "<meta name=\"color-scheme\" content=\"light dark\">\n";
        add(text, format_args!("<title>{path}/</title>\n"));
        *text += STYLE;
        add(text, format_args!("<h1>{path}/</h1>\n<table>\n<thead><tr>"));
        for (key, name) in [
            (Key::Name, "Name"),
            (Key::Size, "Size"),
            (Key::Time, "Time"),
        ] {
            self.column(text, key, name);
        }
        *text += "</tr></thead>\n<tbody>\n";
        if !self.path.is_root() {
            *text += "<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n";
        }
    }

    /// Writes the head of a column, with a link to the other order if it is the order of the page.
    fn column(&self, text: &mut String, key: Key, name: &str) {
        let is_current = self.order.key == key;
        let order = Order {
            key,
            is_descending: is_current && !self.order.is_descending,
        };
        let (state, sign) = match (is_current, self.order.is_descending) {
            (false, _) => ("", ""),
            (true, false) => (" aria-sort=\"ascending\"", " ↑"),
            (true, true) => (" aria-sort=\"descending\"", " ↓"),
        };
        let query = escaped(&order.query());
        let cell = format_args!("<th{state}><a href=\"{query}\">{name}</a>{sign}</th>");
        add(text, cell);
    }

    fn end(&self, text: &mut String) {
        *text += "</tbody>\n</table>\n";
        if !self.list().is_whole {
            let number = self.list().len();
            let note =
                format_args!("<p>The list ends after {number} entries. There are more.</p>\n");
            add(text, note);
        }
    }
}

impl http_body::Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut text = String::new();
        while !self.is_end_stream() && text.len() < PIECE {
            self.write(&mut text);
            self.next += 1;
        }
        let piece = (!text.is_empty()).then(|| Ok(Frame::data(text.into())));
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.list().len() + 2
    }
}

/// A piece of a page ends with the row that reaches this length.
const PIECE: usize = 12 << 10;

fn row(text: &mut String, item: &Item) {
    let slash = match item.facts.is_dir() {
        true => "/",
        false => "",
    };
    // The dot keeps a colon in a name from ending a scheme.
    let link = utf8_percent_encode(&item.name, ESCAPED);
    let name = escaped(&item.name);
    add(
        text,
        format_args!("<tr><td><a href=\"./{link}{slash}\">{name}{slash}</a></td><td>"),
    );
    if !item.facts.is_dir() {
        add(text, format_args!("{}", item.facts.len()));
    }
    *text += "</td><td>";
    if let Some(modified) = item.facts.modified() {
        add(text, format_args!("{}", HttpDate::from(modified)));
    }
    *text += "</td></tr>\n";
}

/// All but the letters, digits and signs that have no meaning in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes any text");
}

const STYLE: &str = "<style>\
    body{font-family:sans-serif;margin:1em 2em}\
    th,td{text-align:left;padding:.1em 1em .1em 0}\
    td:nth-child(2){text-align:right}\
    td:nth-child(n+2){white-space:nowrap}\
    </style>\n";
