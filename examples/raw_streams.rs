//! Streams without HTTP: a server that answers every stream with what was sent on it, and a client
//! that checks it.
//!
//! Run with `cargo run --release -p spdy-examples --example raw_streams`.

use std::{error::Error, time::Instant};

use spdy_session::{Config, HeaderBlock, OpenOptions, Shutdown, Version};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(echo(socket));
        }
    });

    let socket = TcpStream::connect(address).await?;
    let (session, _pushes, driver) = spdy_session::client(socket, Version::V3_1, Config::default());
    tokio::spawn(driver);
    println!("a PING took {:?}", session.ping().await?);

    let mut tasks = Vec::new();
    for number in 0..STREAMS {
        let session = session.clone();
        tasks.push(tokio::spawn(async move {
            let sent = vec![number as u8; BYTES];
            let stream = session
                .open(HeaderBlock::new(), OpenOptions::default())
                .await?;
            let (mut receive, mut send) = stream.split();
            let mut received = Vec::new();
            let write = async {
                send.write_all(&sent).await?;
                // Finishes the stream, and waits until FIN is written.
                send.shutdown().await
            };
            tokio::try_join!(write, receive.read_to_end(&mut received))?;
            Ok::<_, Box<dyn Error + Send + Sync>>(received == sent)
        }));
    }
    let start = Instant::now();
    for task in tasks {
        assert!(
            task.await?.map_err(|error| error.to_string())?,
            "a stream came back changed"
        );
    }
    println!(
        "{STREAMS} streams of {BYTES} bytes each came back whole in {:?}",
        start.elapsed()
    );

    session.shutdown(Shutdown::Graceful { deadline: None });
    session.closed().await?;
    Ok(())
}

// ANCHOR: echo
async fn echo(socket: TcpStream) {
    let (_session, mut incoming, driver) =
        spdy_session::server(socket, Version::V3_1, Config::default());
    tokio::spawn(driver);
    while let Some(stream) = incoming.accept().await {
        tokio::spawn(async move {
            let (mut receive, mut send) = stream.send_reply(HeaderBlock::new())?.split();
            io::copy(&mut receive, &mut send).await?;
            send.shutdown().await
        });
    }
}
// ANCHOR_END: echo

const STREAMS: usize = 50;
const BYTES: usize = 1_000_000;
