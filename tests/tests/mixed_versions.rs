//! Peers that take a session for SPDY/3 and for SPDY/3.1. In plain text the two look the same; the
//! session that is held up says what is wrong.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use spdy_session::{Config, HeaderBlock, OpenOptions, Version};
use tokio::{
    io::{AsyncReadExt, duplex},
    time::timeout,
};
use tracing::{Event, Level, Metadata, Subscriber, field::Field, span};

/// The warnings of a thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Downloads from a server that speaks SPDY/3.1. Returns how much came, and what was warned of.
async fn download(client: Version) -> (usize, Vec<String>) {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let (near, far) = duplex(64 * 1024);
    let (session, _pushes, driver) = spdy_session::client(near, client, Config::default());
    tokio::spawn(driver);
    let (_server, mut incoming, driver) =
        spdy_session::server(far, Version::V3_1, Config::default());
    tokio::spawn(driver);
    tokio::spawn(async move {
        let (_, reply) = incoming.accept().await.unwrap().split();
        let mut send = reply.send_reply(HeaderBlock::new(), false).unwrap();
        for _ in 0..SIZE / PIECE {
            if send.ready().await.is_err() {
                return;
            }
            _ = send.send_data(Bytes::from_static(&[7; PIECE]), false);
        }
        _ = send.finish();
        _ = send.written().await;
    });
    let open = OpenOptions::new().fin(true);
    let mut stream = session.open(HeaderBlock::new(), open).await.unwrap();
    let mut body = Vec::new();
    _ = timeout(Duration::from_secs(1000), stream.read_to_end(&mut body)).await;
    let warned = warnings.0.lock().unwrap().clone();
    (body.len(), warned)
}

const PIECE: usize = 10_000;
const SIZE: usize = 500_000;

#[tokio::test(start_paused = true)]
async fn a_spdy_3_1_server_warns_of_a_client_that_seems_to_speak_spdy_3() {
    let (received, warned) = download(Version::V3).await;
    assert_eq!(received, 65_536, "the window that is never granted again");
    assert!(
        matches!(&warned[..], [one] if one.contains("seems to speak SPDY/3")
            && one.contains("--plain-version spdy/3")),
        "{warned:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_warning_about_a_client_of_the_same_version() {
    let (received, warned) = download(Version::V3_1).await;
    assert_eq!((received, &warned[..]), (SIZE, &[][..]));
}
