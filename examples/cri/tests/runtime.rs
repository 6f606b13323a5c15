//! The runtime as a program: requests over gRPC, as crictl and a kubelet send them, and streams.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use spdy_kube::{
    Exit, Size, Status, Streams,
    client::{self, Client, Remote, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    time::timeout,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use self::v1::{runtime_service_client::RuntimeServiceClient, *};

#[allow(clippy::all, clippy::pedantic)]
mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// A client that waits for longer than this hangs, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const PIPES: Streams = Streams::PIPES;

/// The program, and a client of it with a container.
struct Runtime {
    child: Child,
    socket: PathBuf,
    grpc: RuntimeServiceClient<Channel>,
    sandbox: String,
    container: String,
}

impl Runtime {
    async fn start(name: &str, command: &[&str]) -> Self {
        let name = format!("cri-runtime-{}-{name}", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let mut child = Command::new(env!("CARGO_BIN_EXE_cri-runtime"))
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints a line when it listens.
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.contains("crictl"), "{line}");
        let path = socket.clone();
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://runtime");
        let channel = endpoint.connect_with_connector(connect).await.unwrap();
        let mut runtime = Self {
            child,
            socket,
            grpc: RuntimeServiceClient::new(channel),
            sandbox: String::new(),
            container: String::new(),
        };
        runtime.create(command).await;
        runtime
    }

    /// Runs a sandbox with one container, in the order of a kubelet.
    async fn create(&mut self, command: &[&str]) {
        let metadata = PodSandboxMetadata {
            name: "demo".to_owned(),
            uid: "1".to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        };
        let config = PodSandboxConfig {
            metadata: Some(metadata),
            ..PodSandboxConfig::default()
        };
        let asked = RunPodSandboxRequest {
            config: Some(config),
        };
        let answer = self.grpc.run_pod_sandbox(asked).await.unwrap();
        self.sandbox = answer.into_inner().pod_sandbox_id;
        let config = ContainerConfig {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            stdin: true,
            ..ContainerConfig::default()
        };
        let asked = CreateContainerRequest {
            pod_sandbox_id: self.sandbox.clone(),
            config: Some(config),
        };
        let answer = self.grpc.create_container(asked).await.unwrap();
        self.container = answer.into_inner().container_id;
        assert_eq!(self.state().await, ContainerState::ContainerCreated);
        let container_id = self.container.clone();
        let asked = StartContainerRequest { container_id };
        self.grpc.start_container(asked).await.unwrap();
    }

    async fn state(&mut self) -> ContainerState {
        let asked = ListContainersRequest::default();
        let listed = self.grpc.list_containers(asked).await.unwrap();
        let containers = listed.into_inner().containers;
        assert_eq!(containers.len(), 1);
        containers[0].state()
    }

    fn exec_request(&self, command: &[&str], streams: Streams) -> ExecRequest {
        ExecRequest {
            container_id: self.container.clone(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        }
    }

    async fn exec(&mut self, command: &[&str], streams: Streams, transport: Transport) -> Remote {
        let asked = self.exec_request(command, streams);
        let url = self.grpc.exec(asked).await.unwrap().into_inner().url;
        open(&url, streams, transport).await
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.child.kill();
        _ = self.child.wait();
        _ = std::fs::remove_file(&self.socket);
    }
}

/// Returns a client of the server of a URL.
fn client_of(url: &str) -> Client<impl Fn() -> Connecting> {
    let url: http::Uri = url.parse().unwrap();
    let server = url.authority().unwrap().to_string();
    Client::new(move || -> Connecting {
        let server = server.clone();
        Box::pin(async move { TcpStream::connect(server).await.map(TokioIo::new) })
    })
}

type Connecting =
    std::pin::Pin<Box<dyn Future<Output = std::io::Result<TokioIo<TcpStream>>> + Send>>;

/// Asks for the streams of exec and attach.
async fn open(url: &str, streams: Streams, transport: Transport) -> Remote {
    let client = client_of(url).transport(transport);
    let request = client::request(&url.parse().unwrap());
    client.exec(request, streams).await.unwrap()
}

async fn copy(remote: Remote, input: &[u8]) -> (Status, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let copied = remote.copy(input, &mut stdout, &mut stderr);
    let outcome = timeout(SOON, copied).await.expect("it ends soon").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (outcome, text(stdout), text(stderr))
}

const BOTH: [Transport; 2] = [Transport::Spdy, Transport::WebSocket];

#[tokio::test]
async fn commands_run_over_streams() {
    let mut runtime = Runtime::start("exec", &[]).await;
    assert_eq!(runtime.state().await, ContainerState::ContainerRunning);
    for transport in BOTH {
        let remote = runtime.exec(&["tr", "a-z", "A-Z"], PIPES, transport).await;
        let expected = (Status::Success, "HELLO".to_owned(), String::new());
        assert_eq!(copy(remote, b"hello").await, expected);
        let script = ["sh", "-c", "echo oops >&2; exit 7"];
        let remote = runtime.exec(&script, PIPES, transport).await;
        let expected = (
            Status::Exit(Exit::code(7)),
            String::new(),
            "oops\n".to_owned(),
        );
        assert_eq!(copy(remote, b"").await, expected);
        let tty = Streams {
            stderr: false,
            tty: true,
            ..PIPES
        };
        let mut remote = runtime.exec(&["stty", "size"], tty, transport).await;
        let size = Size {
            width: 111,
            height: 33,
        };
        remote.resize.as_mut().unwrap().resize(size).await.unwrap();
        let (outcome, stdout, _) = copy(remote, b"").await;
        assert_eq!((outcome, stdout.trim_end()), (Status::Success, "33 111"));
    }
}

#[tokio::test]
async fn attach_joins_the_process_of_the_container() {
    let mut runtime = Runtime::start("attach", &["sh", "-c", "read line; echo got $line"]).await;
    let asked = AttachRequest {
        container_id: runtime.container.clone(),
        stdin: true,
        tty: false,
        stdout: true,
        stderr: true,
    };
    let url = runtime.grpc.attach(asked).await.unwrap().into_inner().url;
    let remote = open(&url, PIPES, Transport::Spdy).await;
    let (outcome, stdout, _) = copy(remote, b"a line\n").await;
    assert_eq!(
        (outcome, stdout.as_str()),
        (Status::Success, "got a line\n")
    );
    let ended = async {
        while runtime.state().await != ContainerState::ContainerExited {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, ended).await.expect("it ends soon");
}

#[tokio::test]
async fn ports_of_a_sandbox_are_forwarded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = socket.split();
        tokio::io::copy(&mut from, &mut to).await
    });
    let mut runtime = Runtime::start("forward", &[]).await;
    let asked = PortForwardRequest {
        pod_sandbox_id: runtime.sandbox.clone(),
        port: vec![port.into()],
    };
    let answer = runtime.grpc.port_forward(asked).await.unwrap();
    let url = answer.into_inner().url;
    let client = client_of(&url).transport(Transport::Spdy);
    let forward = client.forward(client::request(&url.parse().unwrap())).await;
    let forward = forward.unwrap();
    let mut connection = forward.open(port).await.unwrap();
    connection.write_all(b"hello").await.unwrap();
    connection.shutdown().await.unwrap();
    let mut back = String::new();
    let read = timeout(SOON, connection.read_to_string(&mut back)).await;
    read.expect("it ends soon").unwrap();
    assert_eq!(back, "hello");
}

#[tokio::test]
async fn short_commands_need_no_streams() {
    let mut runtime = Runtime::start("sync", &[]).await;
    let mut asked = ExecSyncRequest {
        container_id: runtime.container.clone(),
        cmd: ["sh", "-c", "echo out; echo err >&2; exit 3"]
            .map(str::to_owned)
            .to_vec(),
        timeout: 0,
    };
    let answer = runtime
        .grpc
        .exec_sync(asked.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (&answer.stdout[..], &answer.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(answer.exit_code, 3);
    asked.cmd = ["sleep", "1000"].map(str::to_owned).to_vec();
    asked.timeout = 1;
    let late = runtime.grpc.exec_sync(asked).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn what_cri_forbids_and_what_is_not_there_gets_no_url() {
    let mut runtime = Runtime::start("refused", &[]).await;
    let all = Streams { tty: true, ..PIPES };
    let asked = runtime.exec_request(&["cat"], all);
    let refused = runtime.grpc.exec(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut asked = runtime.exec_request(&["cat"], PIPES);
    asked.container_id = "none".to_owned();
    let missing = runtime.grpc.exec(asked).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    let container_id = runtime.container.clone();
    let stopped = StopContainerRequest {
        container_id,
        timeout: 0,
    };
    runtime.grpc.stop_container(stopped).await.unwrap();
    let ended = async {
        while runtime.state().await != ContainerState::ContainerExited {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, ended).await.expect("it ends soon");
    let asked = runtime.exec_request(&["cat"], PIPES);
    let ended = runtime.grpc.exec(asked).await.unwrap_err();
    assert_eq!(ended.code(), Code::FailedPrecondition, "{ended}");
}

/// Each client learns the reason, and nothing is left.
#[tokio::test]
async fn a_shutdown_tells_clients_and_leaves_nothing() {
    let mut runtime = Runtime::start("shutdown", &[]).await;
    let mode = std::fs::metadata(&runtime.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let remote = runtime.exec(&["cat"], PIPES, Transport::Spdy).await;
    let kill = Command::new("kill")
        .args(["-TERM", &runtime.child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let outcome = timeout(
        SOON,
        remote.copy(Never, tokio::io::sink(), tokio::io::sink()),
    )
    .await;
    let outcome = outcome.expect("it ends soon").unwrap();
    assert!(
        outcome.to_string().contains("runtime is shutting down"),
        "{outcome}"
    );
    let ended = async {
        while runtime.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, ended).await.expect("it ends soon");
    assert!(!runtime.socket.exists());
}

/// An input that does not end.
struct Never;

impl tokio::io::AsyncRead for Never {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Pending
    }
}
