//! Tunnels of which one side breaks off. The other one never takes what came for the whole.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use spdy_server::app::{Proxy, proxy};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, client::TlsStream};

use super::{
    SWITCHED, WEBSOCKET, application, ask, before,
    common::server::{LONG, Running, connect, loopback, plain, tls},
    front, head,
};

/// Reads to the end, and returns how many bytes came and how the end looked.
async fn rest(io: &mut (impl AsyncRead + Unpin)) -> (usize, io::Result<usize>) {
    let mut all = Vec::new();
    let end = timeout(LONG, io.read_to_end(&mut all)).await;
    (all.len(), end.expect("no end came"))
}

fn assert_cut(length: usize, (came, end): (usize, io::Result<usize>)) {
    let error = end.expect_err("a part looks whole");
    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
    assert!(kinds.contains(&error.kind()), "{error}");
    assert_eq!(came, length, "bytes before the cut are lost");
}

/// Sends a part of something, waits until it was read, and breaks off.
async fn part_and_reset(mut io: TcpStream, length: usize) {
    io.write_all(&vec![7; length]).await.unwrap();
    // A reset takes away what has not left.
    sleep(Duration::from_millis(300)).await;
    io.set_zero_linger().unwrap();
}

/// Starts an application that switches, and breaks off after a part.
async fn breaking_off() -> SocketAddr {
    application(async |_, mut io: TcpStream| {
        io.write_all(SWITCHED.as_bytes()).await.unwrap();
        part_and_reset(io, 10).await;
    })
    .await
}

/// Starts an application that switches, and tells how much arrives there, and with which end.
async fn hearing() -> (
    SocketAddr,
    mpsc::UnboundedReceiver<(usize, io::Result<usize>)>,
) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = application(move |_, mut io: TcpStream| {
        let tell = tell.clone();
        async move {
            io.write_all(SWITCHED.as_bytes()).await.unwrap();
            tell.send(rest(&mut io).await).unwrap();
        }
    })
    .await;
    (address, told)
}

/// Starts a proxy that has TLS for an application, and switches there.
async fn ask_over_tls(test: &str, application: SocketAddr) -> (Running, TlsStream<TcpStream>) {
    let (config, roots) = tls(test);
    let front = front(&format!("http://{application}"), config, |_| {}).await;
    let mut io = connect(front.address, roots, &["http/1.1"]).await;
    let request = format!("GET /chat HTTP/1.1\r\nhost: a.test\r\n{WEBSOCKET}\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    head(&mut io).await.unwrap();
    (front, io)
}

#[tokio::test]
async fn an_application_that_breaks_off_does_not_look_whole() {
    let front = before(breaking_off().await).await;
    let (mut io, _) = ask(&front, WEBSOCKET).await;
    assert_cut(10, rest(&mut io).await);
}

#[tokio::test]
async fn a_client_that_breaks_off_does_not_look_whole() {
    let (address, mut told) = hearing().await;
    let front = before(address).await;
    let (io, _) = ask(&front, WEBSOCKET).await;
    part_and_reset(io, 10).await;
    assert_cut(10, told.recv().await.unwrap());
}

#[tokio::test]
async fn a_client_over_tls_whose_end_is_not_announced_does_not_look_whole() {
    let (address, mut told) = hearing().await;
    let (_front, mut io) = ask_over_tls("proxy-cut-client", address).await;
    io.write_all(&[7; 10]).await.unwrap();
    io.flush().await.unwrap();
    drop(io.into_inner());
    assert_cut(10, told.recv().await.unwrap());
}

#[tokio::test]
async fn an_application_that_breaks_off_does_not_look_whole_over_tls() {
    let address = breaking_off().await;
    let (_front, mut io) = ask_over_tls("proxy-cut-application", address).await;
    assert_cut(10, rest(&mut io).await);
}

/// Starts an application over TLS that switches, sends `length` bytes, and closes its socket
/// without a word. Returns its URL, and what trusts it.
async fn secured(length: usize) -> (String, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let server = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let client = builder.with_root_certificates(roots).with_no_client_auth();
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let mut io = acceptor.accept(io).await.unwrap();
        head(&mut io).await.unwrap();
        io.write_all(SWITCHED.as_bytes()).await.unwrap();
        io.write_all(&vec![7; length]).await.unwrap();
        io.flush().await.unwrap();
        io.into_inner().0.shutdown().await.unwrap();
    });
    (format!("https://localhost:{port}"), Arc::new(client))
}

/// The last bytes wait in the system when the proxy learns of the cut.
#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_that_an_application_has_sent_before_a_cut() {
    let (upstream, client) = secured(1_000_000).await;
    let mut options = Proxy::new(upstream.parse().unwrap());
    options.tls = Some(client);
    let front = Running::start(plain(Default::default()), proxy(options)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut io = socket.connect(front.address).await.unwrap();
    let request = format!("GET /chat HTTP/1.1\r\nhost: a.test\r\n{WEBSOCKET}\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    head(&mut io).await.unwrap();
    let (mut came, mut piece) = (0, vec![0; 16 * 1024]);
    let end = loop {
        match timeout(LONG, io.read(&mut piece))
            .await
            .expect("no end came")
        {
            Ok(0) => break Ok(0),
            Ok(bytes) => came += bytes,
            Err(error) => break Err(error),
        }
        sleep(Duration::from_millis(2)).await;
    };
    assert_cut(1_000_000, (came, end));
}
