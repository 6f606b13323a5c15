//! What a client's drop ends, though the server takes nothing, on a virtual clock.

mod support;

use std::time::Duration;

use spdy_kube::{
    BoxError, Exit, Server, Streams,
    client::{self, Client, Transport},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, duplex},
    sync::mpsc,
    time::{Instant, timeout},
};

use self::support::wires::{Wires, in_memory};

const BOTH: [Transport; 2] = [Transport::Spdy, Transport::WebSocket];

/// How long the server may take to learn that its client is gone. It learns it by a probe.
const GONE: Duration = Duration::from_secs(20);

/// Writes until nothing is taken any more.
async fn fill(mut to: impl AsyncWrite + Unpin) {
    let filling = async {
        loop {
            to.write_all(&[7; 10_000]).await.unwrap();
        }
    };
    timeout(Duration::from_secs(1), filling).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_command_that_does_not_read_ends_when_its_client_is_dropped() {
    let streams = Streams {
        stdin: true,
        stdout: true,
        ..Streams::default()
    };
    for transport in BOTH {
        for finishes in [false, true] {
            let (tell, mut told) = mpsc::unbounded_channel();
            let way = in_memory(&Wires::default(), move |mut request| {
                let tell = tell.clone();
                async move {
                    Server::new().exec(&mut request, streams, move |mut io| async move {
                        let _unread = io.stdin.take();
                        tell.send("begun").unwrap();
                        io.client.gone().await;
                        tell.send("gone").unwrap();
                        Ok(Exit::SUCCESS)
                    })
                }
            });
            let client = Client::new(way).transport(transport);
            let request = client::request(&"http://pod/exec".parse().unwrap());
            let mut remote = client.exec(request, streams).await.unwrap();
            assert_eq!(told.recv().await, Some("begun"));
            let mut stdin = remote.stdin.take().unwrap();
            fill(&mut stdin).await;
            if finishes {
                // Over SPDY the end waits behind what was written.
                let end = Duration::from_secs(1);
                _ = timeout(end, stdin.shutdown()).await;
            }
            let dropped = Instant::now();
            drop((stdin, remote));
            assert_eq!(told.recv().await, Some("gone"));
            let after = dropped.elapsed();
            assert!(after <= GONE, "{transport:?}, {finishes}: {after:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_does_not_read_is_closed_when_its_client_is_dropped() {
    for transport in BOTH {
        let (tell, mut targets) = mpsc::unbounded_channel();
        let way = in_memory(&Wires::default(), move |mut request| {
            let tell = tell.clone();
            async move {
                Server::new().port_forward(&mut request, "demo", move |_| {
                    let (near, far) = duplex(1024);
                    tell.send(far).unwrap();
                    async { Ok::<_, BoxError>(near) }
                })
            }
        });
        let client = Client::new(way).transport(transport);
        let request = client::request(&"http://pod/forward".parse().unwrap());
        let forward = client.forward(request).await.unwrap();
        let mut connection = forward.open(80).await.unwrap();
        let mut target = targets.recv().await.unwrap();
        fill(&mut connection).await;
        let dropped = Instant::now();
        drop((connection, forward));
        // A target that is still connected takes nothing, since its own output is not read.
        while target.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let after = dropped.elapsed();
        assert!(after <= GONE, "{transport:?}: {after:?}");
    }
}
