//! A client and a server of SPDY, with a relay between them that has a tap.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::HeaderValue;
use spdy_kube::{Status, Tap, client, relay};
use spdy_session::{HeaderBlock, Incoming, OpenOptions, Session, Side, Stream, StreamId, Version};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::timeout,
};

use super::{
    SOON,
    wires::{Wires, in_memory},
};

/// The calls of a tap, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Opened(u32),
    Closed(u32),
    Ended(Option<Status>),
}

/// A tap that records its calls, and panics in the call that is set.
#[derive(Clone)]
pub(crate) struct Watching {
    pub(crate) news: mpsc::UnboundedSender<Told>,
    pub(crate) panics_at: Option<&'static str>,
}

impl Watching {
    fn tell(&self, told: Told) {
        self.news.send(told).unwrap();
    }

    fn panic(&self, at: &str) {
        assert!(self.panics_at != Some(at), "on purpose");
    }
}

impl Tap for Watching {
    fn opened(&self, stream: StreamId, _: &HeaderBlock) {
        self.tell(Told::Opened(stream.get()));
        self.panic("opened");
    }

    fn passed(&self, _: StreamId, _: Side, _: &[u8]) {
        self.panic("passed");
    }

    fn closed(&self, stream: StreamId) {
        self.tell(Told::Closed(stream.get()));
        // Also while the panic above is unwound.
        assert!(self.panics_at.is_none(), "on purpose");
    }

    fn ended(&self, outcome: Option<&Status>) {
        self.tell(Told::Ended(outcome.cloned()));
        assert!(self.panics_at.is_none(), "on purpose");
    }
}

/// A client and a server, with a relay between them.
pub(crate) struct Chain {
    pub(crate) to_client: Wires,
    pub(crate) to_server: Wires,
    pub(crate) client: Session,
    pub(crate) server: Session,
    pub(crate) incoming: Incoming,
    told: mpsc::UnboundedReceiver<Told>,
    is_mute: Arc<AtomicBool>,
}

impl Chain {
    pub(crate) async fn new(protocol: &'static str) -> Self {
        Self::with(protocol, None).await
    }

    pub(crate) async fn with(protocol: &'static str, panics_at: Option<&'static str>) -> Self {
        let (to_client, to_server) = (Wires::default(), Wires::default());
        let (tell, mut sessions) = mpsc::unbounded_channel();
        let server = in_memory(&to_server, move |mut request| {
            let tell = tell.clone();
            async move {
                let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
                let name = HeaderValue::from_static(protocol);
                response.headers_mut().insert(VERSION, name);
                tokio::spawn(async move {
                    let transport = upgraded.await.unwrap();
                    let (session, incoming, driver) =
                        spdy_session::server(transport, Version::V3_1, spdy_kube::config());
                    tokio::spawn(driver);
                    tell.send((session, incoming)).unwrap();
                });
                response
            }
        });
        let (news, told) = mpsc::unbounded_channel();
        // The last one is that of the relay.
        let tap = Mutex::new(Some(Watching { news, panics_at }));
        let tap = Arc::new(tap);
        let relay = in_memory(&to_client, move |mut request| {
            let (server, tap) = (server.clone(), tap.lock().unwrap().take().unwrap());
            async move {
                let Ok(transport) = server().into_inner();
                let onward = client::request(request.uri());
                relay(&mut request, onward, transport.into_inner(), tap).await
            }
        });
        let Ok(transport) = relay().into_inner();
        let mut request = client::request(&"http://pod/exec".parse().unwrap());
        let name = HeaderValue::from_static(protocol);
        request.headers_mut().insert(VERSION, name);
        let upgraded = upgrade::connect(transport.into_inner(), request).await;
        let is_mute = Arc::new(AtomicBool::new(false));
        let transport = Mutable {
            io: upgraded.unwrap().1,
            is_mute: Arc::clone(&is_mute),
        };
        let (client, _, driver) =
            spdy_session::client(transport, Version::V3_1, spdy_kube::config());
        tokio::spawn(driver);
        let (server, incoming) = timeout(SOON, sessions.recv()).await.unwrap().unwrap();
        Self {
            to_client,
            to_server,
            client,
            server,
            incoming,
            told,
            is_mute,
        }
    }

    /// Nothing that the client sends from now on arrives.
    pub(crate) fn mute_the_client(&self) {
        self.is_mute.store(true, Ordering::Relaxed);
    }

    /// Opens a stream and answers it: the client's end, and the server's.
    pub(crate) async fn open(&mut self, headers: &HeaderBlock) -> (Stream, Stream) {
        let opened = self.client.open(headers.clone(), OpenOptions::default());
        let mut near = opened.await.unwrap();
        let far = self.incoming.accept().await.unwrap();
        let far = far.send_reply(HeaderBlock::new()).unwrap();
        near.response_headers().await.unwrap();
        (near, far)
    }

    /// Returns all calls of the tap. The end is the last one.
    pub(crate) async fn told(mut self) -> Vec<Told> {
        let told = async {
            let mut all = Vec::new();
            while let Some(told) = self.told.recv().await {
                all.push(told);
            }
            all
        };
        timeout(SOON, told).await.expect("the tap is dropped")
    }

    /// Returns the outcome that the tap got, after all other calls were checked.
    pub(crate) async fn outcome(self) -> Option<Status> {
        let mut told = self.told().await;
        let Some(Told::Ended(outcome)) = told.pop() else {
            panic!("{told:?}");
        };
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        for told in &told {
            match told {
                Told::Opened(id) => opened.push(*id),
                Told::Closed(id) => closed.push(*id),
                Told::Ended(_) => panic!("the end is reported once"),
            }
        }
        closed.sort_unstable();
        assert_eq!(opened, closed);
        outcome
    }
}

/// A transport that can throw away what is written to it.
struct Mutable<IO> {
    io: IO,
    is_mute: Arc<AtomicBool>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Mutable<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Mutable<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_mute.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pub(crate) const VERSION: &str = "x-stream-protocol-version";

pub(crate) fn kind(name: &str) -> HeaderBlock {
    HeaderBlock::from_pairs([("streamtype", name)]).unwrap()
}
