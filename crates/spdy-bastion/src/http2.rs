//! Connections of clients over HTTP/2, and how they end.

use std::{convert::Infallible, pin::pin, time::Duration};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http2,
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use spdy_kube::BoxError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{cut::Cut, listener::until, unread::Tasks};

/// Why a connection ends.
pub(crate) struct Ends {
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) refused: watch::Receiver<bool>,
    /// How many requests have no complete response.
    pub(crate) busy: watch::Receiver<usize>,
    /// How long there may be no request, and how long the last bytes may then take to leave.
    pub(crate) limit: Duration,
}

impl Ends {
    /// Serves a connection to its end. It fails if the client does not get all of a response.
    pub(crate) async fn serve<IO, S, B>(
        self,
        io: IO,
        service: S,
        unread: Duration,
    ) -> Result<(), BoxError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        // There are no sessions over HTTP/2, which would cut it.
        let io = Cut::new().connection(io, unread);
        let flushed = io.flushed();
        let settings = settings(unread);
        let mut connection = pin!(settings.serve_connection(TokioIo::new(io), service));
        tokio::select! {
            served = &mut connection => return Ok(served?),
            () = until(self.stop) => {
                connection.as_mut().graceful_shutdown();
                return Ok(connection.await?);
            }
            () = until(self.refused) => {}
            () = idle(self.busy.clone(), self.limit) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A request can arrive meanwhile. A client that has not begun to speak HTTP/2 gets nothing,
        // and its connection would stay.
        tokio::select! {
            served = &mut connection => return Ok(served?),
            () = idle(self.busy, self.limit) => {}
        }
        if *flushed.borrow() {
            return Ok(());
        }
        // A client that reads on answers the PING that comes with GOAWAY, which ends the
        // connection. A socket that is closed before that answers what the client sends with a
        // reset, which destroys what the client has not read.
        match timeout(self.limit, connection).await {
            Ok(served) => Ok(served?),
            Err(_) if *flushed.borrow() => Ok(()),
            Err(_) => {
                let limit = self.limit.as_secs();
                Err(format!("client has not read the end of its responses for {limit} s").into())
            }
        }
    }
}

/// Returns the settings of a connection. `unread` is how long a client can leave a response unread.
pub(crate) fn settings(unread: Duration) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(Tasks { limit: unread });
    builder.timer(TokioTimer::new());
    builder.keep_alive_interval(PING);
    builder.max_concurrent_streams(REQUESTS);
    builder
}

/// Waits until there was no request for so long.
async fn idle(mut busy: watch::Receiver<usize>, limit: Duration) {
    loop {
        let is_idle = *busy.borrow_and_update() == 0;
        tokio::select! {
            changed = busy.changed() => if changed.is_err() {
                // The connection is gone.
                return;
            },
            () = sleep(limit), if is_idle => return,
        }
    }
}

/// How many requests a connection has at once.
const REQUESTS: u32 = 100;

/// How often a client is sent a PING. It has 20 s to answer, which is hyper's default.
const PING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty, Full};
    use hyper::{client::conn::http2 as client, service::service_fn};
    use hyper_util::rt::TokioExecutor;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex},
        sync::Notify,
        time::Instant,
    };

    use super::*;
    use crate::pieces::{Busy, Pieces};

    const UNREAD: Duration = Duration::from_secs(100);

    const IDLE: Duration = Duration::from_secs(10);

    const SECOND: Duration = Duration::from_secs(1);

    /// More than the transport of these tests has room for.
    const LENGTH: usize = 8 * 1024;

    /// Carries bytes both ways, and those to the client slowly and only while it reads.
    async fn carry(near: DuplexStream, far: DuplexStream, reads: watch::Receiver<bool>) {
        let (mut from_client, mut to_client) = tokio::io::split(near);
        let (mut from_server, mut to_server) = tokio::io::split(far);
        let to_the_client = async {
            let mut space = [0; 512];
            while let Ok(length @ 1..) = from_server.read(&mut space).await {
                until(reads.clone()).await;
                sleep(SECOND / 20).await;
                // What comes after the client has closed is lost.
                _ = to_client.write_all(&space[..length]).await;
            }
            _ = to_client.shutdown().await;
        };
        let to_the_server = async {
            _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            _ = to_server.shutdown().await;
        };
        tokio::join!(to_the_client, to_the_server);
    }

    /// A response whose length is in a field or in its payload.
    fn long(has_payload: bool, busy: Busy) -> Response<Pieces> {
        let text = Full::from(if has_payload {
            "x".repeat(LENGTH)
        } else {
            String::new()
        });
        let body = text.map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(Pieces::new(body, busy));
        if !has_payload {
            let value = "x".repeat(LENGTH).parse().unwrap();
            response.headers_mut().insert("x-long", value);
        }
        response
    }

    /// Returns the length of a response of which the client reads nothing for some time, how its
    /// connection ended, and when.
    async fn read_after(
        time: Duration,
        has_payload: bool,
        is_refused: bool,
    ) -> (Option<usize>, Result<(), BoxError>, Duration) {
        let (stop, refused) = (watch::Sender::new(false), watch::Sender::new(false));
        let (busy, respond) = (watch::Sender::new(0), Arc::new(Notify::new()));
        let ends = Ends {
            stop: stop.subscribe(),
            refused: refused.subscribe(),
            busy: busy.subscribe(),
            limit: IDLE,
        };
        let responds = Arc::clone(&respond);
        let service = service_fn(move |_: Request<Incoming>| {
            let (busy, respond) = (Busy::new(&busy), Arc::clone(&responds));
            let refused = refused.clone();
            async move {
                respond.notified().await;
                refused.send_replace(is_refused);
                Ok::<_, Infallible>(long(has_payload, busy))
            }
        });
        let ((io, near), (far, taker)) = (duplex(65_536), duplex(LENGTH / 2));
        let (reads, is_read) = watch::channel(true);
        tokio::spawn(carry(near, far, is_read));
        // As TLS does, it takes more than the socket has room for.
        let taker = BufStream::with_capacity(1024, 64 * 1024, taker);
        let served = tokio::spawn(async move {
            let end = ends.serve(taker, service, UNREAD).await;
            (end, Instant::now())
        });
        let handshake = client::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        let asked = tokio::spawn(async move {
            let request = Request::new(Empty::<Bytes>::new());
            let response = sender.send_request(request).await.ok()?;
            let field = response
                .headers()
                .get("x-long")
                .map_or(0, |value| value.len());
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some(body.len().max(field))
        });
        sleep(SECOND).await;
        reads.send_replace(false);
        respond.notify_one();
        let paused = Instant::now();
        sleep(time).await;
        reads.send_replace(true);
        let length = asked.await.unwrap();
        let read = Instant::now();
        let ended = timeout(10 * UNREAD, served).await.expect("it ends");
        drop(stop);
        let (end, time) = ended.unwrap();
        // If it is refused, the PING can come before the response.
        assert!(
            end.is_err() || is_refused || read <= time,
            "the client reads for {:?} more",
            read - time
        );
        (length, end, paused.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_on_in_time_gets_all_although_its_connection_ends() {
        for has_payload in [false, true] {
            for (is_refused, time) in [(false, 25), (true, 15)] {
                let (length, end, _) = read_after(time * SECOND, has_payload, is_refused).await;
                let what = (has_payload, is_refused);
                assert_eq!(length, Some(LENGTH), "{what:?}: {end:?}");
                assert!(end.is_ok(), "{what:?}: {end:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_no_more_is_cut_and_that_is_an_error() {
        for has_payload in [false, true] {
            for is_refused in [false, true] {
                let (_, end, lasted) = read_after(UNREAD, has_payload, is_refused).await;
                let what = (has_payload, is_refused);
                assert!(end.is_err(), "{what:?}: {end:?}");
                assert!(lasted <= UNREAD + SECOND, "{what:?}: {lasted:?}");
            }
        }
    }
}
