//! Runs many sessions. None of them leaves a task or a descriptor behind.

mod support;

use std::{net::SocketAddr, time::Duration};

use spdy_kube::{Exit, Server, Status, Streams, client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    time::{sleep, timeout},
};

use self::support::{SOON, exec_server};

const STREAMS: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

/// Runs an echo with some input, from the request to the outcome.
async fn session(address: SocketAddr) {
    let uri = format!("http://{address}/exec?command=x&stdin=1&stdout=1&stderr=1");
    let transport = TcpStream::connect(address).await.unwrap();
    let request = client::request(&uri.parse().unwrap());
    let mut remote = client::exec(transport, request, STREAMS).await.unwrap();
    let mut stdin = remote.stdin.take().unwrap();
    stdin.write_all(&[b'x'; 10_000]).await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut output = Vec::new();
    let stdout = remote.stdout.as_mut().unwrap();
    stdout.read_to_end(&mut output).await.unwrap();
    assert_eq!(output.len(), 10_000);
    assert_eq!(remote.outcome().await.unwrap(), Status::Success);
}

async fn echo_server() -> SocketAddr {
    exec_server(Server::new(), |mut io| async move {
        let (mut stdin, mut stdout) = (io.stdin.take().unwrap(), io.stdout.take().unwrap());
        tokio::io::copy(&mut stdin, &mut stdout).await?;
        Ok(Exit::SUCCESS)
    })
    .await
}

/// The tasks and descriptors that are alive in this process.
fn alive() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    (Handle::current().metrics().num_alive_tasks(), descriptors)
}

/// Returns what is alive, once it has not changed for a while.
async fn settled() -> (usize, usize) {
    loop {
        let before = alive();
        sleep(Duration::from_millis(1500)).await;
        if alive() == before {
            return before;
        }
    }
}

async fn comes_back_to(before: (usize, usize)) {
    let back = async {
        while alive() != before {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(SOON, back).await.is_err() {
        panic!("{:?} tasks and descriptors of {before:?}", alive());
    }
}

#[tokio::test]
async fn sessions_leave_nothing_behind() {
    let address = echo_server().await;
    session(address).await;
    // The first session creates what is created once per process. It is over when nothing more goes
    // away.
    let before = settled().await;
    for _ in 0..1000 {
        session(address).await;
    }
    comes_back_to(before).await;
    let sessions = (0..100).map(|_| tokio::spawn(session(address)));
    for session in sessions.collect::<Vec<_>>() {
        session.await.unwrap();
    }
    comes_back_to(before).await;
}
