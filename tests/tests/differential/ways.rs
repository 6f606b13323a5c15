//! The ways to ask: clients of every protocol, each with a connection that serves many requests.

use std::{fmt, net::SocketAddr, sync::Mutex, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Uri,
    header::{HOST, TRANSFER_ENCODING},
};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_session::{Config, OpenOptions, Received, RecvStream, SendStream, Session, StreamError};
use spdy_tower::{
    Version,
    client::{SendRequest, handshake},
};
use tokio::{net::TcpStream, task::yield_now, time::timeout};

use crate::{
    answer::{Answer, End},
    form::{Form, Upload},
    fronts::Front,
    spdy,
};

/// How a request travels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By hyper's HTTP/1.1.
    Http1,
    /// By hyper's HTTP/2.
    Http2,
    /// By the handles of a SPDY session, which leave the form of a request to the test.
    Spdy(Version),
    /// By the client of spdy-tower.
    Tower(Version),
}

impl Way {
    pub(crate) const ALL: [Self; 8] = [
        Self::Http1,
        Self::Http2,
        Self::Spdy(Version::V2),
        Self::Spdy(Version::V3),
        Self::Spdy(Version::V3_1),
        Self::Tower(Version::V2),
        Self::Tower(Version::V3),
        Self::Tower(Version::V3_1),
    ];

    pub(crate) const fn is_version_2(self) -> bool {
        matches!(self, Self::Spdy(Version::V2) | Self::Tower(Version::V2))
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1 => f.write_str("HTTP/1.1"),
            Self::Http2 => f.write_str("HTTP/2"),
            Self::Spdy(version) => version.fmt(f),
            Self::Tower(version) => write!(f, "{version:?} by spdy-tower"),
        }
    }
}

/// A client's connection to one server.
pub(crate) enum Line {
    Http1(SocketAddr, Mutex<Vec<http1::SendRequest<Upload>>>),
    Http2(http2::SendRequest<Upload>),
    Spdy(Session),
    Tower(SendRequest),
}

impl Line {
    pub(crate) async fn new(front: &Front, way: Way) -> Self {
        let address = front.address(way);
        match way {
            Way::Http1 => Self::Http1(address, Mutex::default()),
            Way::Http2 => {
                let io = TokioIo::new(connect(address).await);
                let (requests, connection) = http2::handshake(TokioExecutor::new(), io)
                    .await
                    .expect("the server speaks HTTP/2");
                tokio::spawn(connection);
                Self::Http2(requests)
            }
            Way::Spdy(version) => {
                let (session, incoming, driver) =
                    spdy_session::client(connect(address).await, version, Config::default());
                tokio::spawn(async {
                    _ = driver.await;
                    drop(incoming);
                });
                Self::Spdy(session)
            }
            Way::Tower(version) => {
                let (requests, _, driver) =
                    handshake(connect(address).await, version, Config::default());
                tokio::spawn(driver);
                Self::Tower(requests)
            }
        }
    }

    /// Whether the connection goes on after what it has seen so far.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Http1(..) => true,
            Self::Http2(requests) => !requests.is_closed(),
            Self::Spdy(session) => session.can_open(),
            Self::Tower(requests) => requests.is_ready(),
        }
    }

    /// Asks, and waits for the whole answer.
    pub(crate) async fn ask(&self, form: &Form) -> Answer {
        let asked = async {
            match self {
                Self::Http1(address, idle) => ask_http1(*address, idle, form).await,
                Self::Http2(requests) => {
                    let mut requests = requests.clone();
                    answered(requests.send_request(request(form, true)).await, form).await
                }
                Self::Spdy(session) => ask_spdy(session, form).await,
                Self::Tower(requests) => {
                    answered(requests.send(request(form, true)).await, form).await
                }
            }
        };
        let answer = timeout(HANGS, asked).await;
        answer.unwrap_or_else(|_| Answer::none(End::Hangs))
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let io = TcpStream::connect(address)
        .await
        .expect("the server listens");
    io.set_nodelay(true).expect("TCP has this option");
    io
}

fn request(form: &Form, is_absolute: bool) -> Request<Upload> {
    let mut request = Request::new(form.body());
    let uri = if is_absolute {
        Uri::builder()
            .scheme("http")
            .authority(AUTHORITY)
            .path_and_query(form.target.as_str())
            .build()
    } else {
        Uri::builder().path_and_query(form.target.as_str()).build()
    };
    *request.method_mut() = form.method.clone();
    *request.uri_mut() = uri.expect("forms have sound targets");
    *request.headers_mut() = form.header_map();
    request
}

async fn answered<B, E>(response: Result<http::Response<B>, E>, form: &Form) -> Answer
where
    B: http_body::Body<Data: AsRef<[u8]>>,
{
    match response {
        Ok(response) => Answer::read(response, enough(form)).await,
        Err(_) => Answer::none(End::Cut),
    }
}

/// How much of an answer without an end is read.
fn enough(form: &Form) -> Option<usize> {
    let size = form.shape.strip_prefix("endless:")?;
    (form.method != "HEAD").then(|| size.parse().expect("it is a number"))
}

async fn ask_http1(
    address: SocketAddr,
    idle: &Mutex<Vec<http1::SendRequest<Upload>>>,
    form: &Form,
) -> Answer {
    let used = || idle.lock().expect("no lock is held across a panic").pop();
    while let Some(mut requests) = used() {
        if requests.ready().await.is_err() {
            continue;
        }
        let answer = ask_over(&mut requests, form).await;
        // A server may close a connection that rests, just when it is used again.
        if answer.status.is_some() {
            give_back(requests, &answer, idle).await;
            return answer;
        }
    }
    let io = TokioIo::new(connect(address).await);
    let (mut requests, connection) = http1::handshake(io)
        .await
        .expect("there is nothing to agree on");
    tokio::spawn(connection);
    let answer = ask_over(&mut requests, form).await;
    give_back(requests, &answer, idle).await;
    answer
}

async fn ask_over(requests: &mut http1::SendRequest<Upload>, form: &Form) -> Answer {
    let mut request = request(form, false);
    let host = AUTHORITY.parse().expect("it is a value");
    request.headers_mut().insert(HOST, host);
    if form.body.as_ref().is_some_and(|body| !body.is_announced) {
        // Otherwise hyper leaves the body of a GET out.
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
    answered(requests.send_request(request).await, form).await
}

async fn give_back(
    mut requests: http1::SendRequest<Upload>,
    answer: &Answer,
    idle: &Mutex<Vec<http1::SendRequest<Upload>>>,
) {
    if answer.end == End::Whole && requests.ready().await.is_ok() {
        idle.lock()
            .expect("no lock is held across a panic")
            .push(requests);
    }
}

async fn ask_spdy(session: &Session, form: &Form) -> Answer {
    let version = session.version();
    let fin = form.body.as_ref().is_none();
    let how = OpenOptions::new().fin(fin);
    let Ok(stream) = session.open(spdy::head(version, form), how).await else {
        return Answer::none(End::Cut);
    };
    let (mut receive, mut send) = stream.split();
    let upload = async {
        if !fin {
            // What went wrong the answer tells.
            _ = upload(&mut send, form).await;
        }
    };
    // The answer may come long before the body has gone, and may be all that comes.
    let mut reading = std::pin::pin!(read_spdy(&mut receive, form));
    let mut upload = std::pin::pin!(upload);
    let mut is_sent = false;
    loop {
        tokio::select! {
            answer = &mut reading => return answer,
            () = &mut upload, if !is_sent => is_sent = true,
        }
    }
}

async fn upload(send: &mut SendStream, form: &Form) -> Result<(), StreamError> {
    let Some(plan) = &form.body else {
        return Ok(());
    };
    let mut pieces = form.pieces();
    let is_apart = plan.ends_apart || plan.has_trailers;
    let last = if is_apart { None } else { pieces.pop() };
    for piece in pieces {
        if plan.has_pauses {
            yield_now().await;
        }
        send.ready().await?;
        send.send_data(piece, false)?;
    }
    if plan.has_pauses {
        yield_now().await;
    }
    match last {
        Some(last) => {
            send.ready().await?;
            send.send_data(last, true)
        }
        None if plan.has_trailers && send_trailers(send)? => Ok(()),
        None => send.finish(),
    }
}

/// Returns whether FIN went with the trailers, which SPDY/2 cannot do.
fn send_trailers(send: &mut SendStream) -> Result<bool, StreamError> {
    send.send_headers(spdy::trailers(), true)?;
    Ok(true)
}

async fn read_spdy(receive: &mut RecvStream, form: &Form) -> Answer {
    let Ok(block) = receive.response_headers().await else {
        return Answer::none(End::Cut);
    };
    let mut answer = spdy::answer(&block);
    while let Some(received) = receive.next().await {
        match received {
            Ok(Received::Data(piece)) => {
                answer.body.extend_from_slice(&piece as &Bytes);
                if enough(form).is_some_and(|enough| answer.leave(enough)) {
                    break;
                }
            }
            Ok(Received::Headers(block)) => answer.trailers = spdy::listed(&block),
            Err(_) => {
                answer.end = End::Cut;
                break;
            }
        }
    }
    answer
}

pub(crate) const AUTHORITY: &str = "app.test";

/// No answer takes this long, even on a busy machine.
const HANGS: Duration = Duration::from_secs(60);
