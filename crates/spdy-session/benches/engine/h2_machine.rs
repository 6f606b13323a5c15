//! `h2` over two buffers, polled by hand, without a runtime and without wake-ups.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header::CONTENT_LENGTH};

use super::{
    Pair,
    data::{BODY, PIECE, REQUEST, RESPONSE, piece},
    pipe::Pipe,
};

/// A client and a server that share a thread.
pub(crate) struct H2Machine {
    requests: client::SendRequest<Bytes>,
    client: client::Connection<Pipe, Bytes>,
    server: server::Connection<Pipe, Bytes>,
    heads: Heads,
}

impl H2Machine {
    pub(crate) fn new() -> Self {
        let (near, far) = Pipe::pair();
        let cx = &mut Context::from_waker(Waker::noop());
        let connecting = client_builder();
        let mut connecting = pin!(connecting.handshake(near));
        let accepting = server_builder();
        let mut accepting = pin!(accepting.handshake(far));
        let Poll::Ready(client) = connecting.as_mut().poll(cx) else {
            panic!("a client does not wait for the server's preface");
        };
        let (requests, mut client) = client.expect("the transport works");
        let mut server = accepting.as_mut().poll(cx);
        while server.is_pending() {
            _ = Pin::new(&mut client).poll(cx);
            server = accepting.as_mut().poll(cx);
        }
        let Poll::Ready(Ok(server)) = server else {
            panic!("the client's preface is sound");
        };
        Self {
            requests,
            client,
            server,
            heads: Heads::new(),
        }
    }

    /// Sends a request, and begins the response to it.
    fn exchange(
        &mut self,
        answer: Response<()>,
        cx: &mut Context<'_>,
    ) -> (client::ResponseFuture, SendStream<Bytes>) {
        assert!(self.requests.poll_ready(cx).is_ready());
        let (response, _) = self
            .requests
            .send_request(self.heads.request(), true)
            .expect("the connection is open");
        _ = Pin::new(&mut self.client).poll(cx);
        let Poll::Ready(Some(Ok((request, mut respond)))) = self.server.poll_accept(cx) else {
            panic!("a request was sent");
        };
        assert_eq!(request.headers().len(), REQUEST.len());
        let send = respond
            .send_response(answer, false)
            .expect("it was opened now");
        (response, send)
    }

    /// Returns the body of a response whose head has arrived.
    fn head(&self, response: client::ResponseFuture, cx: &mut Context<'_>) -> RecvStream {
        let Poll::Ready(Ok(response)) = pin!(response).poll(cx) else {
            panic!("the response was sent");
        };
        assert!(response.headers().contains_key("server"));
        response.into_body()
    }

    /// Lets the server write and the client read.
    fn server_to_client(&mut self, cx: &mut Context<'_>) {
        assert!(self.server.poll_accept(cx).is_pending());
        assert!(Pin::new(&mut self.client).poll(cx).is_pending());
    }
}

impl Pair for H2Machine {
    fn requests(&mut self, count: usize) {
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..count {
            let (response, mut send) = self.exchange(self.heads.response(), cx);
            let sent = send.send_data(Bytes::from_static(&BODY), true);
            sent.expect("it is open");
            self.server_to_client(cx);
            let mut body = self.head(response, cx);
            assert_eq!(take(&mut body, cx), BODY.len());
            assert!(body.is_end_stream());
        }
    }

    fn download(&mut self, bytes: usize) {
        let cx = &mut Context::from_waker(Waker::noop());
        let (response, mut send) = self.exchange(self.heads.long_response(), cx);
        self.server_to_client(cx);
        let mut body = self.head(response, cx);
        let (mut queued, mut taken) = (0, 0);
        while !body.is_end_stream() {
            for _ in 0..4 {
                if queued < bytes {
                    queued += PIECE;
                    let sent = send.send_data(piece(), queued == bytes);
                    sent.expect("it is open");
                }
            }
            self.server_to_client(cx);
            taken += take(&mut body, cx);
            assert!(Pin::new(&mut self.client).poll(cx).is_pending());
        }
        assert_eq!(taken, bytes);
    }
}

/// Takes the bytes of a body that have arrived. Returns how many.
fn take(body: &mut RecvStream, cx: &mut Context<'_>) -> usize {
    let mut taken = 0;
    while let Poll::Ready(Some(data)) = body.poll_data(cx) {
        let bytes = data.expect("the server did not fail").len();
        let released = body.flow_control().release_capacity(bytes);
        released.expect("they had come");
        taken += bytes;
    }
    taken
}

/// Returns a client with the default windows of a SPDY session.
pub(crate) fn client_builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024);
    builder
}

/// Returns a server with the default windows of a SPDY session.
pub(crate) fn server_builder() -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024);
    builder
}

/// The heads of a request and a response, to be cloned.
pub(crate) struct Heads {
    uri: Uri,
    request: HeaderMap,
    response: HeaderMap,
}

impl Heads {
    pub(crate) fn new() -> Self {
        Self {
            uri: Uri::from_static(URI),
            request: map(&REQUEST),
            response: map(&RESPONSE),
        }
    }

    pub(crate) fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.request.clone();
        request
    }

    pub(crate) fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.headers_mut() = self.response.clone();
        response
    }

    /// Returns the head of a response without `content-length`, because `h2` would compare the body
    /// with it.
    pub(crate) fn long_response(&self) -> Response<()> {
        let mut response = self.response();
        response.headers_mut().remove(CONTENT_LENGTH);
        response
    }
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_static(name);
        map.append(name, HeaderValue::from_static(value));
    }
    map
}

const URI: &str = "https://www.example.com/assets/application.js";
