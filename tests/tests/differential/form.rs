//! A request in one of its many forms, made from a seed.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body::{Body, Frame, SizeHint};

use crate::random::Random;

/// One request, whatever protocol will carry it.
#[derive(Clone)]
pub(crate) struct Form {
    pub(crate) seed: u64,
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    /// What the handler is to do, as `application` reads it.
    pub(crate) shape: String,
    pub(crate) fields: Vec<(&'static str, Vec<u8>)>,
    pub(crate) body: Option<Payload>,
}

/// A body that is there, if perhaps empty.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// The lengths of its pieces.
    pub(crate) pieces: Vec<usize>,
    /// The head has `content-length`.
    pub(crate) is_announced: bool,
    /// The end comes apart from the last piece: on an empty DATA frame where there are such.
    pub(crate) ends_apart: bool,
    /// Other tasks get their turn between the pieces.
    pub(crate) has_pauses: bool,
    pub(crate) has_trailers: bool,
}

impl Form {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shape = shape(&mut random);
        let method = method(&mut random, &shape);
        let body = random.chance(3, 5).then(|| Payload::new(&mut random));
        let mut fields = fields(&mut random);
        if let Some(body) = &body {
            // The clients of these tests do not wait for the 100. A handler that does not ask for
            // the body is one that they give no chance.
            if random.chance(1, 3) && matches!(shape.as_str(), "read" | "echo") {
                fields.push(("expect", b"100-continue".to_vec()));
            }
            if body.has_trailers {
                fields.push(("trailer", b"x-end".to_vec()));
            }
        }
        Self {
            seed,
            method,
            target: target(&mut random),
            shape,
            fields,
            body,
        }
    }

    /// The name of what the handler does, without its numbers.
    pub(crate) fn kind(&self) -> &str {
        self.shape.split(':').next().unwrap_or_default()
    }

    /// The bytes of the body.
    pub(crate) fn length(&self) -> usize {
        self.body
            .as_ref()
            .map_or(0, |body| body.pieces.iter().sum())
    }

    /// The fields of the head, but for those that frame or route the request.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        [("x-shape", self.shape.as_bytes()), ("te", b"trailers")]
            .into_iter()
            .chain(
                self.fields
                    .iter()
                    .map(|(name, value)| (*name, value.as_slice())),
            )
    }

    pub(crate) fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in self.headers() {
            let value = HeaderValue::from_bytes(value).expect("forms have sound values");
            map.append(name, value);
        }
        map
    }

    /// The pieces of the body; none without one.
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        let mut at = 0;
        let lengths = self.body.iter().flat_map(|body| &body.pieces);
        lengths
            .map(|&length| {
                let piece = (at..at + length).map(|place| (place % 251) as u8).collect();
                at += length;
                piece
            })
            .collect()
    }

    /// The body as clients of hyper take it.
    pub(crate) fn body(&self) -> Upload {
        Upload {
            pieces: self.pieces().into_iter().rev().collect(),
            left: self.length() as u64,
            plan: self.body.clone(),
            is_paused: false,
        }
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} x-shape: {}", self.method, self.target, self.shape)?;
        for (name, value) in &self.fields {
            let shown = String::from_utf8_lossy(value);
            let start: String = shown.chars().take(60).collect();
            writeln!(f, "    {name}: {start} ({} bytes)", value.len())?;
        }
        write!(f, "    body: {:?}", self.body)
    }
}

impl Payload {
    fn new(random: &mut Random) -> Self {
        let count = random.below(6);
        let most = *random.one_of(&[1, 100, 5_000, 40_000]);
        let has_trailers = random.chance(1, 8);
        Self {
            pieces: (0..count).map(|_| 1 + random.below(most)).collect(),
            // HTTP/1.1 has no trailers behind a length.
            is_announced: !has_trailers && random.chance(1, 2),
            ends_apart: random.chance(1, 2),
            has_pauses: random.chance(1, 3),
            has_trailers,
        }
    }
}

fn shape(random: &mut Random) -> String {
    let size = *random.one_of(&[0, 1, 10, 1_000, 20_000, 70_000, 300_000]);
    let (few, code) = (1 + random.below(5), 200 + random.below(399));
    match random.below(30) {
        0..4 => "fields".into(),
        4 => "ignore".into(),
        5 | 6 => "read".into(),
        7 => format!("half:{}", random.below(10_000)),
        8 | 9 => "echo".into(),
        10 => "early".into(),
        11 | 12 => format!("sized:{size}"),
        13 | 14 => format!("stream:{few}:{size}"),
        15 => format!("endless:{size}"),
        16 => format!("trailers:{few}:{size}"),
        17 => "panic".into(),
        18 => "panic-late".into(),
        19 => format!("panic-body:{few}"),
        20 => format!("error-body:{}", few - 1),
        21 => format!("status:{}", random.one_of(&[204, 304, 205, code])),
        22 => format!("status-body:{}", random.one_of(&[204, 304, code])),
        23 => format!("status-length:{}", random.one_of(&[204, 304, code])),
        24 => "hop".into(),
        25 => "date".into(),
        26 => format!("cookies:{few}"),
        27 => "long-fields".into(),
        28 => format!("wrong-length:{}", random.one_of(&[0, 5, 10])),
        _ => random.one_of(&["peer", "interim", "multiple"]).to_string(),
    }
}

fn method(random: &mut Random, shape: &str) -> Method {
    let methods = [
        "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS",
        "PROPFIND",
    ];
    let method = random.one_of(&methods);
    // HEAD has no body in which a handler could fail.
    let method = if *method == "HEAD" && shape.contains("-body:") {
        "GET"
    } else {
        method
    };
    method.parse().expect("it is a method")
}

fn target(random: &mut Random) -> String {
    let paths = [
        "/",
        "/a",
        "/a/b.c",
        "//a",
        "/a//b",
        "/a/",
        "/a/../b",
        "/./a",
        "/%2e%2e/a",
        "/%00",
        "/a%2fb",
        "/a;b=c",
        "/@:!$&'()*+,=~",
        "/%C3%A4",
        "/a|b",
        "/%zz",
    ];
    let queries = [
        "", "", "", "?", "?a=b", "?a=b&a=c", "?%26=%3d", "?a=/?", "?a+b", "?a[]=1",
    ];
    let mut target = format!("{}{}", random.one_of(&paths), random.one_of(&queries));
    if random.chance(1, 20) {
        target = format!("/{}?{}", "long/".repeat(300), "q".repeat(500));
    }
    target
}

fn fields(random: &mut Random) -> Vec<(&'static str, Vec<u8>)> {
    let mut fields = vec![("user-agent", b"differential/1".to_vec())];
    for _ in 0..random.below(4) {
        fields.push(match random.below(6) {
            0 => ("x-empty", Vec::new()),
            1 => ("x-spaces", b"a  b\tc".to_vec()),
            2 => ("x-high", vec![b'a', 0xe4, 0xff]),
            3 => ("x-long", vec![b'l'; 1 + random.below(8_000)]),
            4 => ("accept", b"text/html, */*;q=0.1".to_vec()),
            _ => (
                "x-several",
                format!("value {}", random.below(1_000)).into_bytes(),
            ),
        });
    }
    // One value may be empty, but several with an empty one among them have no form in SPDY.
    fields.sort_by_key(|field| field.0);
    fields.dedup_by(|one, other| one.0 == "x-empty" && other.0 == "x-empty");
    if random.chance(1, 4) {
        for number in 0..1 + random.below(20) {
            fields.push((
                "cookie",
                format!("c{number}=v{}", random.below(9)).into_bytes(),
            ));
        }
    }
    fields
}

/// The body of a form.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The last one first.
    pieces: Vec<Bytes>,
    left: u64,
    plan: Option<Payload>,
    is_paused: bool,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(plan) = &self.plan else {
            return Poll::Ready(None);
        };
        if plan.has_pauses && !self.is_paused {
            self.is_paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_paused = false;
        if let Some(piece) = self.pieces.pop() {
            self.left -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let plan = self.plan.take();
        let trailers = plan.is_some_and(|plan| plan.has_trailers).then(trailers);
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let is_over = |plan: &Payload| {
            self.pieces.is_empty() && self.left == 0 && !plan.ends_apart && !plan.has_trailers
        };
        self.plan.as_ref().is_none_or(is_over)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.plan {
            Some(plan) if !plan.is_announced => SizeHint::default(),
            _ => SizeHint::with_exact(self.left),
        }
    }
}

pub(crate) fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("x-end"),
        HeaderValue::from_static("reached"),
    )])
}
