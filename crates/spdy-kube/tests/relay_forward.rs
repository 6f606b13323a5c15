//! Port-forward through a relay. Each side uses SPDY, in the messages of a WebSocket or directly.

mod support;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use axum::{Router, extract::Request, routing::any};
use http::StatusCode;
use hyper_util::rt::TokioIo;
use spdy_kube::{
    BoxError, Relay, Server, Tap,
    client::{self, Client, Transport},
};
use spdy_session::{Side, StreamId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    runtime::{Builder, Handle},
    sync::mpsc,
    task::yield_now,
    time::{sleep, timeout},
};

use self::support::{
    PAIRS, SOON, serve,
    wires::{Connecting, Wires, in_memory},
};

const MUCH: usize = 8 << 20;

/// A tap that counts what passes.
#[derive(Clone, Default)]
struct Count(Arc<Mutex<[usize; 2]>>);

impl Tap for Count {
    fn passed(&self, _: StreamId, from: Side, bytes: &[u8]) {
        self.0.lock().unwrap()[usize::from(from == Side::Server)] += bytes.len();
    }
}

/// The far end of a connection, and the session of the server that has made it.
type Target = (DuplexStream, Weak<()>);

/// A server that sends the far end of each connection to a receiver, and a relay in front of it.
async fn relay(
    transport: Transport,
    count: Count,
) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<Target>) {
    let (targets, incoming) = mpsc::unbounded_channel();
    let forward = move |mut request: Request| {
        let targets = targets.clone();
        async move {
            let session = Arc::new(());
            Server::new().port_forward(&mut request, "demo", move |_| {
                let (near, far) = duplex(4096);
                let sent = targets.send((far, Arc::downgrade(&session)));
                async { sent.map(|()| near).map_err(BoxError::from) }
            })
        }
    };
    let server = serve(Router::new().fallback(any(forward))).await;
    let connect = move || async move {
        Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect(server).await?))
    };
    let relay = move |mut request: Request| {
        let relay = Relay::new(Server::new(), Client::new(connect).transport(transport));
        let count = count.clone();
        async move {
            let onward = client::request(request.uri());
            relay.port_forward(&mut request, onward, count).await
        }
    };
    (serve(Router::new().fallback(any(relay))).await, incoming)
}

fn request() -> http::Request<()> {
    client::request(&"http://pod/forward".parse().unwrap())
}

#[tokio::test]
async fn connections_pass_between_any_two_and_are_half_closed() {
    for pair in PAIRS {
        let count = Count::default();
        let (address, mut targets) = relay(pair.1, count.clone()).await;
        let connect = move || async move {
            Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect(address).await?))
        };
        let client = Client::new(connect).transport(pair.0);
        let forward = client.forward(request()).await.unwrap();
        let mut connection = forward.open(80).await.unwrap();
        let (mut target, _) = timeout(SOON, targets.recv()).await.unwrap().unwrap();
        // The answer begins when the input has ended.
        let echo = tokio::spawn(async move {
            let mut bytes = Vec::new();
            target.read_to_end(&mut bytes).await.unwrap();
            target.write_all(&bytes).await.unwrap();
        });
        let sent: Vec<u8> = (0..MUCH).map(|at| (at / 11) as u8).collect();
        connection.write_all(&sent).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut received = Vec::new();
        let read = timeout(SOON, connection.read_to_end(&mut received)).await;
        read.expect("it ends").unwrap();
        assert!(received == sent, "{pair:?}");
        echo.await.unwrap();
        assert_eq!(*count.0.lock().unwrap(), [MUCH, MUCH], "{pair:?}");
    }
}

#[tokio::test]
async fn a_client_that_is_gone_ends_the_connections() {
    for pair in PAIRS {
        let (address, mut targets) = relay(pair.1, Count::default()).await;
        let connect = move || async move {
            Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect(address).await?))
        };
        let client = Client::new(connect).transport(pair.0);
        let forward = client.forward(request()).await.unwrap();
        let connection = forward.open(80).await.unwrap();
        let (mut target, session) = timeout(SOON, targets.recv()).await.unwrap().unwrap();
        drop((connection, forward));
        let read = timeout(SOON, target.read(&mut [0])).await;
        assert_eq!(read.expect("it ends").unwrap(), 0, "{pair:?}");
        let ended = async {
            while session.strong_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, ended).await.expect("the session ends too");
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_502() {
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let nowhere = || async { Err::<TokioIo<TcpStream>, _>(std::io::Error::other("no")) };
        let relay = move |mut request: Request| async move {
            let client = Client::new(nowhere).timeout(Some(Duration::from_secs(30)));
            let onward = client::request(request.uri());
            let relay = Relay::new(Server::new(), client);
            Ok::<_, Infallible>(relay.port_forward(&mut request, onward, ()).await)
        };
        let address = serve(Router::new().fallback(any(relay))).await;
        let connect = move || async move {
            Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect(address).await?))
        };
        let client = Client::new(connect).transport(transport);
        let refused = client.forward(request()).await.unwrap_err();
        assert_eq!(refused.http_status(), Some(StatusCode::BAD_GATEWAY));
    }
}

/// A way to a relay before a server, in memory. The targets echo.
fn way_to_relay(transport: Transport) -> impl Fn() -> Connecting + Clone + Send + Sync + use<> {
    let server = in_memory(&Wires::default(), |mut request| async move {
        Server::new().port_forward(&mut request, "demo", |_| {
            let (near, far) = duplex(1024);
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(far);
                _ = tokio::io::copy(&mut from, &mut to).await;
                _ = to.shutdown().await;
            });
            async { Ok::<_, BoxError>(near) }
        })
    });
    in_memory(&Wires::default(), move |mut request| {
        let relay = Relay::new(
            Server::new(),
            Client::new(server.clone()).transport(transport),
        );
        async move {
            let onward = client::request(request.uri());
            relay.port_forward(&mut request, onward, ()).await
        }
    })
}

#[test]
fn a_client_that_is_dropped_at_any_moment_leaves_nothing() {
    // One task at a time, so that there are many moments.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .event_interval(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        for pair in PAIRS {
            let mut moment = 0;
            loop {
                let before = Handle::current().metrics().num_alive_tasks();
                let client = Client::new(way_to_relay(pair.1)).transport(pair.0);
                let session = tokio::spawn(async move {
                    let forward = client.forward(request()).await.unwrap();
                    let mut connection = forward.open(80).await.unwrap();
                    let (mut from, mut to) = tokio::io::split(&mut connection);
                    let writing = async {
                        to.write_all(&[7; 20_000]).await.unwrap();
                        to.shutdown().await.unwrap();
                    };
                    let mut echo = Vec::new();
                    let ((), read) = tokio::join!(writing, from.read_to_end(&mut echo));
                    read.unwrap();
                    assert_eq!(echo.len(), 20_000);
                });
                for _ in 0..moment {
                    yield_now().await;
                }
                let was_over = session.is_finished();
                session.abort();
                let ended = session.await;
                assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
                sleep(Duration::from_secs(200)).await;
                let alive = Handle::current().metrics().num_alive_tasks();
                assert_eq!(alive, before, "{pair:?} at {moment}: tasks are left");
                if was_over {
                    break;
                }
                moment += 1 + moment / 50;
            }
            assert!(moment > 50, "there are few moments");
        }
    });
}
