//! The examples of Kubernetes as programs, used by the example `kube_client` and by each other.

mod program;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Output, Stdio},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    process::Command,
};

use self::program::{Program, example, soon};

/// Runs `kube_client` with an input to its end.
async fn client(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(example("kube_client"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // A command might not read it.
    tokio::spawn(async move { stdin.write_all(&input).await });
    soon(child.wait_with_output()).await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// A folder of a test, which is deleted.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("spdy-examples-{}-{name}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the one file with this ending, when it has the text that a program still writes.
async fn file(folder: &Path, ending: &str, part: &str) -> String {
    soon(async {
        loop {
            let names = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let texts = names
                .filter(|path| path.to_str().unwrap().ends_with(ending))
                .map(|path| fs::read_to_string(path).unwrap());
            if let Some(text) = texts.into_iter().find(|text| text.contains(part)) {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Sends a request as it is, and returns everything that comes back.
async fn ask(mut io: impl AsyncRead + AsyncWrite + Unpin, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(io.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// Asks the example `cri_runtime` for a URL.
async fn url(socket: &str, target: &str) -> String {
    let answer = ask(UnixStream::connect(socket).await.unwrap(), target).await;
    let url = answer.lines().last().unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{answer}");
    url.to_owned()
}

/// Runs commands over a URL of exec of a pod.
async fn commands_are_run(exec: &str) {
    let upper = client(&[exec, "tr", "a-z", "A-Z"], b"hello\n").await;
    assert_eq!(text(&upper.stdout), "HELLO\n", "{exec}: {upper:?}");
    assert!(upper.status.success());
    let failed = client(&[exec, "sh", "-c", "echo oops >&2; exit 7"], b"").await;
    assert!(text(&failed.stderr).starts_with("oops\n"), "{failed:?}");
    assert!(text(&failed.stderr).contains("exit status 7"), "{failed:?}");
    assert_eq!(failed.status.code(), Some(1));
}

const POD: &str = "/api/v1/namespaces/default/pods/demo";

#[tokio::test]
async fn the_client_runs_commands_directly_and_through_both_bastions() {
    let mut kubelet = Program::start("kubelet", &["--listen", "127.0.0.1:0"]);
    let kubelet = kubelet.address().to_string();
    commands_are_run(&format!("http://{kubelet}{POD}/exec")).await;

    let folder = Folder::new("bastion");
    let mut bastion = Program::start_in(&folder.0, "kube_bastion", &["127.0.0.1:0", &kubelet]);
    commands_are_run(&format!("http://{}{POD}/exec", bastion.address())).await;
    file(&folder.0, ".cast", "HELLO").await;
    file(&folder.0, ".cast", "oops").await;

    for transport in [None, Some("spdy")] {
        let folder = Folder::new(transport.unwrap_or("websocket"));
        let recordings = folder.path("recordings");
        let mut arguments = vec!["127.0.0.1:0", &kubelet, &recordings];
        arguments.extend(transport);
        let mut relay = Program::start("relay", &arguments);
        commands_are_run(&format!("http://{}{POD}/exec", relay.address())).await;
        file(Path::new(&recordings), "-stdout", "HELLO").await;
        file(Path::new(&recordings), "-outcome", "Success").await;
    }
}

#[tokio::test]
async fn the_client_uses_the_urls_of_both_runtimes() {
    let mut runtime = Program::start("kube_runtime", &["cat"]);
    let url_once = runtime.line();
    let cat = client(&[&url_once], b"hello").await;
    assert_eq!(text(&cat.stdout), "hello", "{cat:?}");
    assert!(cat.status.success());
    let again = client(&[&url_once], b"").await;
    assert!(text(&again.stderr).contains("404"), "{again:?}");

    let folder = Folder::new("cri");
    let socket = folder.path("socket");
    let mut runtime = Program::start("cri_runtime", &[&socket]);
    runtime.line();
    let all = "stdin=1&stdout=1&stderr=1";
    let cat = client(
        &[&url(&socket, &format!("/exec?command=cat&{all}")).await],
        b"hello",
    )
    .await;
    assert_eq!(text(&cat.stdout), "hello", "{cat:?}");
    let attached = client(&[&url(&socket, &format!("/attach?{all}")).await], b"hello").await;
    assert_eq!(text(&attached.stdout), "attached\nhello", "{attached:?}");
}

/// hyper refuses such a target before any service sees it, with an empty response.
#[tokio::test]
async fn a_command_line_that_is_too_long_gets_a_status() {
    let folder = Folder::new("long");
    let (recordings, socket) = (folder.path("recordings"), folder.path("socket"));
    let mut kubelet = Program::start("kubelet", &["--listen", "127.0.0.1:0"]);
    let kubelet = kubelet.address();
    let behind = kubelet.to_string();
    let mut relay = Program::start("relay", &["127.0.0.1:0", &behind, &recordings]);
    let mut bastion = Program::start_in(&folder.0, "kube_bastion", &["127.0.0.1:0", &behind]);
    let mut runtime = Program::start("kube_runtime", &["true"]);
    let mut cri = Program::start("cri_runtime", &[&socket]);
    cri.line();
    let cri_url: http::Uri = url(&socket, "/portforward").await.parse().unwrap();
    let servers = [
        kubelet,
        relay.address(),
        bastion.address(),
        runtime.address(),
        cri_url.authority().unwrap().as_str().parse().unwrap(),
    ];
    // The second is more than a server of hyper takes at once.
    for (length, code) in [(66_000, "414 "), (600_000, "431 ")] {
        let target = format!("{POD}/exec?stdout=1&command={}", "a".repeat(length));
        for server in servers {
            let answer = ask(TcpStream::connect(server).await.unwrap(), &target).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
            assert!(answer.contains("\"kind\":\"Status\""), "{answer}");
            assert!(answer.contains("65534 bytes"), "{answer}");
        }
    }
}
