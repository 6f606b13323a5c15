//! Connections in memory.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    task::AbortHandle,
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
