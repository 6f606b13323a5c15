//! Connections in memory.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
};

use http::{Request, Response, header::SEC_WEBSOCKET_PROTOCOL};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    task::AbortHandle,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

/// Connections in memory, which can be cut.
#[derive(Clone, Default)]
pub(crate) struct Wires(Arc<Mutex<Vec<AbortHandle>>>);

impl Wires {
    pub(crate) fn wire(&self) -> (DuplexStream, DuplexStream) {
        let (near, mut left) = duplex(4096);
        let (mut right, far) = duplex(4096);
        let copying = tokio::spawn(async move {
            _ = tokio::io::copy_bidirectional(&mut left, &mut right).await;
        });
        self.0.lock().unwrap().push(copying.abort_handle());
        (near, far)
    }

    /// Cuts all connections without a goodbye.
    pub(crate) fn cut(&self) {
        for wire in self.0.lock().unwrap().drain(..) {
            wire.abort();
        }
    }
}

pub(crate) type Connecting = Ready<Result<TokioIo<DuplexStream>, Infallible>>;

/// Serves HTTP on connections in memory, and returns them.
pub(crate) fn in_memory<H, R>(
    wires: &Wires,
    handler: H,
) -> impl Fn() -> Connecting + Clone + Send + Sync + use<H, R>
where
    H: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<String>> + Send + 'static,
{
    let wires = wires.clone();
    move || {
        let (near, far) = wires.wire();
        let handler = handler.clone();
        let service = service_fn(move |request| {
            let response = handler(request);
            async { Ok::<_, Infallible>(response.await) }
        });
        let server = http1::Builder::new().serve_connection(TokioIo::new(far), service);
        tokio::spawn(server.with_upgrades());
        ready(Ok(TokioIo::new(near)))
    }
}

/// The server's end of a WebSocket.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A server that upgrades to a sub-protocol of WebSocket, and runs `talk`.
pub(crate) fn websocket_server<F>(
    wires: &Wires,
    name: &'static str,
    talk: fn(Socket) -> F,
) -> impl Fn() -> Connecting + Clone + Send + Sync + use<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    in_memory(wires, move |mut request| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        let key = request.headers()["sec-websocket-key"].as_bytes();
        let accept = derive_accept_key(key);
        tokio::spawn(async move {
            let transport = TokioIo::new(upgraded.await.unwrap());
            talk(WebSocketStream::from_raw_socket(transport, Role::Server, None).await).await;
        });
        Response::builder()
            .status(101)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", accept)
            .header(SEC_WEBSOCKET_PROTOCOL, name)
            .body(String::new())
            .unwrap()
    })
}
