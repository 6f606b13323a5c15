//! Runs the cases of the crate kube: `kube-client URL FOLDER`.
//!
//! Prints a line for each case: PASS, or FAIL with the reason. The exit status is 0 only if no case
//! has failed. The variable `PATH_NAME` is printed after the name of the library.
//!
//! With the words `hang PIDFILE` it runs a command that never ends, for a case that kills it.

use std::{
    env,
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api, Client, Config,
    api::{AttachParams, AttachedProcess, ListParams, TerminalSize},
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

/// Fails with a message unless a condition holds.
macro_rules! expect {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!($($why)*).into());
        }
    };
}

#[derive(Clone)]
struct Library {
    pods: Api<Pod>,
    url: String,
    folder: PathBuf,
}

/// What a command has left.
#[derive(Debug, PartialEq)]
struct Done {
    out: Vec<u8>,
    err: Vec<u8>,
    code: i32,
}

#[tokio::main]
async fn main() -> Outcome<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, folder, rest @ ..] = &arguments[..] else {
        return Err("usage: kube-client URL FOLDER [hang PIDFILE]".into());
    };
    let client = Client::try_from(Config::new(url.parse()?))?;
    let library = Library {
        pods: Api::namespaced(client, "default"),
        url: url.clone(),
        folder: folder.into(),
    };
    if let [_, file] = rest {
        let script = format!("echo $$ >{file}.new; mv {file}.new {file}; sleep 600");
        library.run(&["sh", "-c", &script], None).await?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(library.check().await)
}

impl Library {
    async fn check(&self) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        macro_rules! cases {
            ($($case:ident)*) => {$(
                let case = tokio::spawn(timeout(LIMIT, self.clone().$case()));
                let failed = match case.await {
                    Ok(Ok(Ok(()))) => None,
                    Ok(Ok(Err(error))) => Some(error.to_string()),
                    Ok(Err(_)) => Some("it hangs".to_owned()),
                    Err(panic) => Some(panic.to_string()),
                };
                let (word, why) = match failed {
                    None => ("PASS", String::new()),
                    Some(why) => ("FAIL", format!(": {why}")),
                };
                if word == "FAIL" {
                    code = ExitCode::FAILURE;
                }
                let path = env::var("PATH_NAME").unwrap_or_default();
                println!("{word} kube{path}: {}{why}", stringify!($case).replace('_', " "));
                _ = std::io::stdout().flush();
            )*};
        }
        cases! {
            the_pod_is_ready echo exit_codes_0_1_137 arguments_are_kept input_to_its_end much_output
            errors_are_apart a_terminal_has_its_size_and_is_resized no_such_pod no_such_container
            no_such_command attach forward_one forward_20_at_once forward_much
            forward_to_a_closed_port killed_client_ends_the_command
        }
        code
    }

    async fn run(&self, command: &[&str], input: Option<&[u8]>) -> Outcome<Done> {
        let process = self
            .pods
            .exec("demo", command.iter().copied(), &params(input.is_some()))
            .await?;
        let (done, status) = finish(process, input).await?;
        let causes = status.details.and_then(|details| details.causes);
        let code = match status.status.as_deref() {
            Some("Success") => Some(0),
            _ => causes
                .unwrap_or_default()
                .into_iter()
                .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
                .and_then(|cause| cause.message?.parse().ok()),
        };
        let code = code.ok_or("there is no exit code")?;
        Ok(Done { code, ..done })
    }

    async fn the_pod_is_ready(self) -> Outcome {
        let pod = self.pods.get("demo").await?;
        let conditions = pod.status.and_then(|status| status.conditions);
        let is_ready = |name: &str| {
            conditions
                .iter()
                .flatten()
                .any(|is| is.type_ == name && is.status == "True")
        };
        expect!(
            is_ready("Ready") && is_ready("ContainersReady"),
            "it is not"
        );
        let all = self.pods.list(&ListParams::default()).await?;
        expect!(all.items.len() == 1, "there are {} pods", all.items.len());
        Ok(())
    }

    async fn echo(self) -> Outcome {
        let done = self.run(&["echo", "hello"], None).await?;
        expect!(done.is(b"hello\n", b"", 0), "{done:?}");
        Ok(())
    }

    async fn exit_codes_0_1_137(self) -> Outcome {
        for (script, code) in [("exit 0", 0), ("exit 1", 1), ("kill -KILL $$", 137)] {
            let done = self.run(&["sh", "-c", script], None).await?;
            expect!(done.code == code, "{done:?}");
        }
        Ok(())
    }

    async fn arguments_are_kept(self) -> Outcome {
        let command = [
            "printf",
            "<%s>",
            "",
            "a b",
            "$HOME+%20&;",
            "new\nline",
            "grüße",
        ];
        let done = self.run(&command, None).await?;
        let expected = "<><a b><$HOME+%20&;><new\nline><grüße>";
        expect!(done.is(expected.as_bytes(), b"", 0), "{done:?}");
        Ok(())
    }

    async fn input_to_its_end(self) -> Outcome {
        let content = noise(3 * MIB);
        let done = self.run(&["sha256sum"], Some(&content)).await?;
        expect!(
            done.out.starts_with(digest(&content).as_bytes()),
            "{done:?}"
        );
        Ok(())
    }

    async fn much_output(self) -> Outcome {
        let script = format!(
            "f=$(mktemp); head -c {} /dev/urandom >$f; cat $f; sha256sum <$f >&2; rm $f",
            10 * MIB
        );
        let done = self.run(&["sh", "-c", &script], None).await?;
        expect!(
            done.out.len() == 10 * MIB && done.code == 0,
            "{} bytes",
            done.out.len()
        );
        expect!(
            done.err.starts_with(digest(&done.out).as_bytes()),
            "other bytes arrive"
        );
        Ok(())
    }

    async fn errors_are_apart(self) -> Outcome {
        let command = ["sh", "-c", "echo out; echo err >&2; exit 3"];
        let done = self.run(&command, None).await?;
        expect!(done.is(b"out\n", b"err\n", 3), "{done:?}");
        Ok(())
    }

    async fn a_terminal_has_its_size_and_is_resized(self) -> Outcome {
        let script =
            "trap 'stty size; exit 5' WINCH; stty size; for i in $(seq 40); do sleep 0.5; done";
        let params = AttachParams::interactive_tty();
        let mut process = self
            .pods
            .exec("demo", ["sh", "-c", script], &params)
            .await?;
        let mut sizes = process.terminal_size().ok_or("there are no sizes")?;
        sizes.try_send(TerminalSize {
            width: 111,
            height: 33,
        })?;
        let _stdin = process.stdin();
        let mut stdout = process.stdout().ok_or("there is no output")?;
        let mut out = String::new();
        while !out.contains('\n') {
            let mut piece = [0; 100];
            let length = stdout.read(&mut piece).await?;
            expect!(length > 0, "it has ended: {out}");
            out.push_str(std::str::from_utf8(&piece[..length])?);
        }
        sizes.try_send(TerminalSize {
            width: 122,
            height: 44,
        })?;
        stdout.read_to_string(&mut out).await?;
        expect!(out == "33 111\r\n44 122\r\n", "{out:?}");
        Ok(())
    }

    async fn no_such_pod(self) -> Outcome {
        refused(
            self.pods.exec("absent", ["true"], &params(false)).await,
            404,
            "absent",
        )
    }

    async fn no_such_container(self) -> Outcome {
        let params = params(false).container("nothing");
        let message = "container nothing is not valid for pod demo";
        refused(
            self.pods.exec("demo", ["true"], &params).await,
            400,
            message,
        )
    }

    async fn no_such_command(self) -> Outcome {
        let process = self
            .pods
            .exec("demo", ["/no/such/command"], &params(false))
            .await?;
        let (_, status) = finish(process, None).await?;
        let message = status.message.unwrap_or_default();
        expect!(
            message.contains("error executing command in container"),
            "{message}"
        );
        Ok(())
    }

    async fn attach(self) -> Outcome {
        let process = self.pods.attach("demo", &params(true)).await?;
        let (done, status) = finish(process, Some(b"hello\n")).await?;
        expect!(
            done.is(b"attached\nhello\n", b"attached-err\n", 0),
            "{done:?}"
        );
        expect!(status.status.as_deref() == Some("Success"), "{status:?}");
        Ok(())
    }

    async fn talk(self, port: u16, number: u8) -> Outcome {
        let mut forward = self.pods.portforward("demo", &[port]).await?;
        let (mut from, mut to) = split(forward.take_stream(port).ok_or("there is no stream")?);
        let content = vec![number; 200_000];
        let mut received = vec![0; content.len()];
        tokio::try_join!(to.write_all(&content), from.read_exact(&mut received))?;
        expect!(received == content, "other bytes come back");
        Ok(())
    }

    async fn forward_one(self) -> Outcome {
        let port = echo_port().await?;
        self.talk(port, 1).await
    }

    async fn forward_20_at_once(self) -> Outcome {
        let port = echo_port().await?;
        let talks: Vec<_> = (0..20)
            .map(|number| tokio::spawn(self.clone().talk(port, number)))
            .collect();
        for talk in talks {
            talk.await??;
        }
        Ok(())
    }

    async fn forward_much(self) -> Outcome {
        let port = echo_port().await?;
        let mut forward = self.pods.portforward("demo", &[port]).await?;
        let (mut from, mut to) = split(forward.take_stream(port).ok_or("there is no stream")?);
        let mib = env::var("FORWARDED").map_or(Ok(64), |text| text.parse())?;
        let content = noise(mib * MIB);
        // The library sends in the task that receives. So there is never more on the way than fits.
        let mut received = vec![0; MIB / 4];
        for piece in content.chunks(received.len()) {
            tokio::try_join!(to.write_all(piece), from.read_exact(&mut received))?;
            expect!(received == piece, "other bytes come back");
        }
        Ok(())
    }

    async fn forward_to_a_closed_port(self) -> Outcome {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let mut forward = self.pods.portforward("demo", &[port]).await?;
        let error = forward.take_error(port).ok_or("there is no error")?.await;
        let error = error.unwrap_or_default();
        let expected = format!("error forwarding port {port} to pod");
        expect!(error.starts_with(&expected), "{error:?}");
        Ok(())
    }

    async fn killed_client_ends_the_command(self) -> Outcome {
        let file = self.folder.join("pid");
        let mut client = tokio::process::Command::new(env::current_exe()?)
            .args([self.url.as_ref(), self.folder.as_os_str()])
            .args(["hang".as_ref(), file.as_os_str()])
            .spawn()?;
        while !file.exists() {
            sleep(Duration::from_millis(50)).await;
        }
        client.kill().await?;
        let process = Path::new("/proc").join(fs::read_to_string(&file)?.trim());
        while process.exists() {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

impl Done {
    fn is(&self, out: &[u8], err: &[u8], code: i32) -> bool {
        (&*self.out, &*self.err, self.code) == (out, err, code)
    }
}

fn params(stdin: bool) -> AttachParams {
    AttachParams::default()
        .stdin(stdin)
        .stdout(true)
        .stderr(true)
        .container("demo")
}

/// Sends the input, and reads the outputs and the outcome. The code is 0.
async fn finish(mut process: AttachedProcess, input: Option<&[u8]>) -> Outcome<(Done, Status)> {
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let status = process.take_status().ok_or("there is no status")?;
    let input = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            stdin.write_all(input).await?;
            stdin.shutdown().await?;
        }
        Ok(())
    };
    let outputs = tokio::try_join!(input, read(stdout), read(stderr));
    let ((), out, err) = outputs?;
    let status = status.await.ok_or("the outcome is lost")?;
    Ok((Done { out, err, code: 0 }, status))
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn refused(result: kube::Result<AttachedProcess>, code: u16, text: &str) -> Outcome {
    match result {
        Err(kube::Error::Api(status)) => {
            let has_all = status.code == code && status.message.contains(text);
            expect!(has_all, "{status:?}");
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err("it is not refused".into()),
    }
}

/// A port that says again what it hears.
async fn echo_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(echo(connection));
        }
    });
    Ok(port)
}

async fn echo(connection: TcpStream) -> std::io::Result<u64> {
    let (mut from, mut to) = split(connection);
    copy(&mut from, &mut to).await
}

/// Bytes without a pattern.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
