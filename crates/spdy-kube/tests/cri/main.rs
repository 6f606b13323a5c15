//! The streaming server of a container runtime, over transports in memory and on a virtual clock.

mod ends;
mod refusals;
mod sessions;

use std::{convert::Infallible, future::ready, time::Duration};

use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use hyper_util::rt::TokioIo;
use spdy_kube::{
    BoxError, Exit, Io, Status, Streams,
    client::{self, Client, ClientError, Forward, Remote, Transport},
    cri::{Attach, Ended, Exec, PortForward, Request, Runtime, Server},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, Empty, Sink, duplex},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::client::IntoClientRequest};

const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

const OUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: false,
    tty: false,
};

/// The transports of commands, and of ports that streams name.
const BOTH: [Transport; 2] = [Transport::Spdy, Transport::WebSocket];

/// A client that waits for longer than this hangs. The clock is virtual.
const SOON: Duration = Duration::from_secs(60);

/// Containers without processes.
struct Fake {
    /// Told when a command was dropped.
    dropped: mpsc::UnboundedSender<&'static str>,
}

/// Told when it is dropped.
struct Guard(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        _ = self.0.send(self.1);
    }
}

impl Runtime for Fake {
    type Connection = DuplexStream;

    async fn exec(&self, exec: Exec, mut io: Io) -> Result<Exit, BoxError> {
        let _guard = Guard(self.dropped.clone(), "exec");
        match exec.command[0].as_str() {
            "cat" => {
                let (near, far) = duplex(1024);
                let (from, to) = tokio::io::split(near);
                let (mut echo_from, mut echo_to) = tokio::io::split(far);
                tokio::spawn(async move {
                    _ = tokio::io::copy(&mut echo_from, &mut echo_to).await;
                    echo_to.shutdown().await
                });
                let exit = async { Ok(Exit::code(7)) };
                let stderr = &b"oops"[..];
                Ok(io.run(Some(to), Some(from), Some(stderr), exit).await?)
            }
            // Ends, but another process keeps the output open.
            "daemon" => {
                let (near, mut far) = duplex(100_000);
                far.write_all(&[b'x'; 100_000]).await?;
                let exit = async { Ok(Exit::code(3)) };
                let exit = io.run(None::<Sink>, Some(near), None::<Empty>, exit).await;
                drop(far);
                Ok(exit?)
            }
            // Writes when the client has paused, and fails.
            "late" => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                io.stdout
                    .as_mut()
                    .unwrap()
                    .write_all(&[b'x'; 60_000])
                    .await?;
                Ok(Exit::code(3))
            }
            // Writes for as long as the client reads.
            "flood" => loop {
                io.stdout.as_mut().unwrap().write_all(&[0; 1000]).await?;
            },
            "hang" => std::future::pending().await,
            // Writes a byte each 3 h, or reads what the client sends.
            "tick" => {
                for _ in 0..4 {
                    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
                    io.stdout.as_mut().unwrap().write_all(b"x").await?;
                }
                Ok(Exit::SUCCESS)
            }
            "read" => {
                let mut stdin = io.stdin.take().unwrap();
                while let Some(piece) = stdin.next().await {
                    piece?;
                }
                Ok(Exit::SUCCESS)
            }
            // Lasts, and is silent.
            "sleep" => {
                tokio::time::sleep(exec.command[1].parse().map(Duration::from_secs)?).await;
                Ok(Exit::SUCCESS)
            }
            other => Err(format!("{other}: not found").into()),
        }
    }

    async fn attach(&self, attach: Attach, mut io: Io) -> Result<(), BoxError> {
        let mut stdout = io.stdout.take().unwrap();
        stdout.write_all(attach.container.as_bytes()).await?;
        Ok(())
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<DuplexStream, BoxError> {
        if port == 9 {
            return Err(format!("{sandbox} has no port 9").into());
        }
        let (near, far) = duplex(1024);
        let guard = Guard(self.dropped.clone(), "port");
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(far);
            _ = tokio::io::copy(&mut from, &mut to).await;
            drop(guard);
        });
        Ok(near)
    }
}

/// A server, and what it reports.
struct Bench {
    server: Server<Fake>,
    ended: mpsc::UnboundedReceiver<(Request, Ended)>,
    dropped: mpsc::UnboundedReceiver<&'static str>,
}

fn bench(set: impl FnOnce(Server<Fake>) -> Server<Fake>) -> Bench {
    let (tell, ended) = mpsc::unbounded_channel();
    let (told, dropped) = mpsc::unbounded_channel();
    let server = Server::new(Fake { dropped: told }, "http://node").unwrap();
    let server = set(server).on_end(move |request, ended| {
        _ = tell.send((request.clone(), ended));
    });
    Bench {
        server,
        ended,
        dropped,
    }
}

fn exec(command: &[&str], streams: Streams) -> Exec {
    Exec {
        container: "c1".to_owned(),
        command: command
            .iter()
            .map(|&argument| argument.to_owned())
            .collect(),
        streams,
    }
}

fn ports(ports: &[i32]) -> PortForward {
    PortForward {
        sandbox: "s1".to_owned(),
        ports: ports.to_owned(),
    }
}

impl Bench {
    /// Returns the client's end of a connection to the server.
    fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(4096);
        let server = self.server.clone();
        tokio::spawn(async move { server.serve_connection(far).await });
        near
    }

    /// Asks for a command at a URL.
    async fn ask(
        &self,
        transport: Transport,
        url: &str,
        streams: Streams,
    ) -> Result<Remote, ClientError> {
        self.ask_with(transport, url, streams, None).await
    }

    /// Asks for a command, and sends PINGs.
    async fn ask_with(
        &self,
        transport: Transport,
        url: &str,
        streams: Streams,
        ping: Option<Duration>,
    ) -> Result<Remote, ClientError> {
        let connect = || ready(Ok::<_, Infallible>(TokioIo::new(self.connect())));
        let client = Client::new(connect).transport(transport).ping(ping);
        let request = client::request(&url.parse().unwrap());
        client.exec(request, streams).await
    }

    async fn exec(&self, transport: Transport, exec: Exec) -> Remote {
        let streams = exec.streams;
        let url = self.server.prepare_exec(exec).unwrap();
        self.ask(transport, &url, streams).await.unwrap()
    }

    /// Starts a session whose streams name the ports.
    async fn forward(&self, transport: Transport) -> Forward {
        let url = self.server.prepare_port_forward(ports(&[])).unwrap();
        let connect = || ready(Ok::<_, Infallible>(TokioIo::new(self.connect())));
        let client = Client::new(connect).transport(transport).ping(None);
        let request = client::request(&url.parse().unwrap());
        client.forward(request).await.unwrap()
    }

    /// Asks for a WebSocket with a sub-protocol.
    async fn web_socket(&self, url: &str, name: &str) -> WebSocketStream<DuplexStream> {
        let url = url.replacen("http", "ws", 1);
        let mut request = url.into_client_request().unwrap();
        let name = HeaderValue::from_str(name).unwrap();
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
        client_async(request, self.connect()).await.unwrap().0
    }

    /// Returns what the server reports next.
    async fn ended(&mut self) -> (Request, Ended) {
        let ended = timeout(SOON, self.ended.recv()).await;
        ended.expect("it ends soon").unwrap()
    }

    async fn dropped(&mut self) -> &'static str {
        let dropped = timeout(SOON, self.dropped.recv()).await;
        dropped.expect("it is dropped soon").unwrap()
    }

    /// Nothing more is reported.
    async fn is_silent(&mut self) {
        assert_eq!(self.server.sessions(), 0);
        tokio::time::sleep(SOON).await;
        assert!(self.ended.try_recv().is_err());
    }
}

/// Returns the outcome and all output of a command.
async fn outcome(mut remote: Remote) -> (Status, String, String) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    if let Some(mut from) = remote.stdout.take() {
        from.read_to_string(&mut stdout).await.unwrap();
    }
    if let Some(mut from) = remote.stderr.take() {
        from.read_to_string(&mut stderr).await.unwrap();
    }
    (remote.outcome().await.unwrap(), stdout, stderr)
}

fn failure(code: u16, reason: &str, message: &str) -> Status {
    Status::Failure {
        reason: reason.to_owned(),
        message: message.to_owned(),
        code,
    }
}
