//! Exec and attach over SPDY, with a client that opens the streams itself.

mod support;

use std::{future::Ready, sync::Arc, time::Duration};

use spdy_kube::{BoxError, Exit, Protocol, Server, Size, Status};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
    sync::mpsc,
    time::timeout,
};

use self::support::{GATHER, SOON, connect, exec_server, read, read_any, shouting};

const ALL: &str = "/exec?command=x&stdin=true&stdout=true&stderr=true";
const OUT: &str = "/exec?command=x&stdout=true";

const V5_TO_V1: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

#[tokio::test]
async fn streams_are_carried_and_the_exit_code_comes_last() {
    let address = shouting().await;
    let client = connect(address, ALL, &V5_TO_V1).await.unwrap();
    assert_eq!(client.chosen(), "v4.channel.k8s.io", "v5 is passed over");
    let mut error = client.open_type("error").await.unwrap();
    let mut stdin = client.open_type("stdin").await.unwrap();
    let mut stdout = client.open_type("stdout").await.unwrap();
    let mut stderr = client.open_type("stderr").await.unwrap();
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert_eq!(read(&mut stdout).await, "HELLO");
    assert_eq!(read(&mut stderr).await, "oops");
    let status = Status::from_json(read(&mut error).await.as_bytes());
    assert_eq!(status, Ok(Status::Exit(Exit::code(7))));
    drop((error, stdin, stdout, stderr));
    let ended = timeout(SOON, client.session.closed()).await;
    _ = ended.expect("the server ends the session");
}

#[tokio::test]
async fn a_large_input_comes_back_whole() {
    let address = exec_server(Server::new(), |mut io| async move {
        let (mut stdin, mut stdout) = (io.stdin.take().unwrap(), io.stdout.take().unwrap());
        tokio::io::copy(&mut stdin, &mut stdout).await?;
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=cat&stdin=1&stdout=1";
    let client = connect(address, path, &V5_TO_V1).await.unwrap();
    let mut error = client.open_type("error").await.unwrap();
    let mut stdin = client.open_type("stdin").await.unwrap();
    let mut stdout = client.open_type("stdout").await.unwrap();
    let sent: Vec<u8> = (0..5_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let expected = sent.clone();
    tokio::spawn(async move {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    stdout.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
    assert_eq!(read(&mut error).await, Status::Success.to_json());
}

#[tokio::test]
async fn each_version_is_told_in_its_way() {
    let address = exec_server(Server::new(), |_| async { Ok(Exit::code(3)) }).await;
    for protocol in Protocol::OVER_SPDY {
        let client = connect(address, OUT, &[protocol.name()]).await.unwrap();
        assert_eq!(client.chosen(), protocol.name());
        let mut error = client.open_type("error").await.unwrap();
        let mut stdout = client.open_type("stdout").await.unwrap();
        assert_eq!(read(&mut stdout).await, "");
        let outcome = read(&mut error).await;
        if protocol == Protocol::V4 {
            assert_eq!(outcome, Status::Exit(Exit::code(3)).to_json());
        } else {
            let text = "command terminated with non-zero exit code: exit status 3";
            assert_eq!(outcome, text);
        }
    }
}

#[tokio::test]
async fn success_is_said_by_nothing_before_v4() {
    let address = exec_server(Server::new(), |_| async { Ok(Exit::SUCCESS) }).await;
    let client = connect(address, OUT, &["v3.channel.k8s.io"]).await.unwrap();
    let mut error = client.open_type("error").await.unwrap();
    let _stdout = client.open_type("stdout").await.unwrap();
    assert_eq!(read(&mut error).await, "");
}

#[tokio::test]
async fn v1_gets_the_end_of_stdin_at_once() {
    let address = exec_server(Server::new(), |io| async move {
        let mut client = io.client.clone();
        client.gone().await;
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=cat&stdin=1";
    let client = connect(address, path, &["channel.k8s.io"]).await.unwrap();
    let _error = client.open_type("error").await.unwrap();
    let mut stdin = client.open_type("stdin").await.unwrap();
    assert_eq!(read(&mut stdin).await, "");
}

#[tokio::test]
async fn why_a_command_cannot_be_run_is_told() {
    let address = exec_server(Server::new(), |_| async { Err("no such file".into()) }).await;
    let client = connect(address, OUT, &V5_TO_V1).await.unwrap();
    let mut error = client.open_type("error").await.unwrap();
    let _stdout = client.open_type("stdout").await.unwrap();
    let status = Status::from_json(read(&mut error).await.as_bytes());
    let expected = "error executing command in container: no such file";
    assert_eq!(status, Ok(Status::internal(expected)));
}

#[tokio::test]
async fn a_panic_is_no_success() {
    let when_it_runs = exec_server(Server::new(), |_| async { panic!("on purpose") }).await;
    let before = |_| -> Ready<Result<Exit, BoxError>> { panic!("on purpose") };
    let before_it_runs = exec_server(Server::new(), before).await;
    for address in [when_it_runs, before_it_runs] {
        let client = connect(address, OUT, &V5_TO_V1).await.unwrap();
        let mut error = client.open_type("error").await.unwrap();
        let _stdout = client.open_type("stdout").await.unwrap();
        let status = Status::from_json(read(&mut error).await.as_bytes());
        let expected = "error executing command in container: it panicked";
        assert_eq!(status, Ok(Status::internal(expected)));
    }
}

#[tokio::test]
async fn an_output_that_is_still_written_comes_before_the_outcome() {
    let address = exec_server(Server::new(), |mut io| async move {
        let mut stdout = io.stdout.take().unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stdout.write_all(b"late").await
        });
        Ok(Exit::SUCCESS)
    })
    .await;
    let client = connect(address, OUT, &V5_TO_V1).await.unwrap();
    let mut error = client.open_type("error").await.unwrap();
    let mut stdout = client.open_type("stdout").await.unwrap();
    assert_eq!(read(&mut error).await, Status::Success.to_json());
    assert_eq!(read(&mut stdout).await, "late");
}

#[tokio::test]
async fn input_that_nobody_reads_holds_nothing_up() {
    let address = exec_server(Server::new(), |mut io| async move {
        drop(io.stdin.take());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut stdout = io.stdout.take().unwrap();
        stdout.write_all(b"done").await?;
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=x&stdin=1&stdout=1";
    let client = connect(address, path, &V5_TO_V1).await.unwrap();
    let mut error = client.open_type("error").await.unwrap();
    let mut stdin = client.open_type("stdin").await.unwrap();
    let mut stdout = client.open_type("stdout").await.unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&vec![7; 8_000_000]).await });
    assert_eq!(read(&mut stdout).await, "done");
    assert_eq!(read(&mut error).await, Status::Success.to_json());
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn sizes_of_the_terminal_arrive() {
    let (told, mut sizes) = mpsc::unbounded_channel();
    let told = Arc::new(told);
    let address = exec_server(Server::new(), move |mut io| {
        let told = Arc::clone(&told);
        async move {
            assert!(io.tty && io.stderr.is_none());
            let mut resize = io.resize.take().unwrap();
            while let Some(size) = resize.next().await {
                told.send(size).unwrap();
            }
            Ok(Exit::SUCCESS)
        }
    })
    .await;
    let path = "/exec?command=sh&stdout=true&stderr=true&tty=true";
    let client = connect(address, path, &V5_TO_V1).await.unwrap();
    let mut error = client.open_type("error").await.unwrap();
    let _stdout = client.open_type("stdout").await.unwrap();
    let mut resize = client.open_type("resize").await.unwrap();
    let (small, large) = (
        Size {
            width: 80,
            height: 24,
        },
        Size {
            width: 111,
            height: 33,
        },
    );
    let wire = format!("{}{}", small.to_json(), large.to_json());
    for byte in wire.bytes() {
        resize.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(sizes.recv().await, Some(small));
    assert_eq!(sizes.recv().await, Some(large));
    // Something else than a size ends the sizes, and nothing else.
    resize.write_all(b"nonsense").await.unwrap();
    assert_eq!(read(&mut error).await, Status::Success.to_json());
}

#[tokio::test]
async fn without_resize_in_the_protocol_a_terminal_needs_no_such_stream() {
    let address = exec_server(Server::new(), |io| async move {
        assert!(io.tty && io.resize.is_none());
        Ok(Exit::SUCCESS)
    })
    .await;
    let path = "/exec?command=sh&stdout=true&tty=true";
    let client = connect(address, path, &["v2.channel.k8s.io"])
        .await
        .unwrap();
    let mut error = client.open_type("error").await.unwrap();
    let _stdout = client.open_type("stdout").await.unwrap();
    assert_eq!(read(&mut error).await, "");
}

/// Sends a signal when it is dropped.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        _ = self.0.send("dropped");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_is_told_of_and_the_command_dropped_after_the_grace() {
    let (told, mut news) = mpsc::unbounded_channel();
    let server = Server::new().grace(Duration::from_millis(300));
    let address = exec_server(server, move |mut io| {
        let told = told.clone();
        async move {
            let _dropped = Dropped(told.clone());
            let mut stdin = io.stdin.take().unwrap();
            let input = stdin.next().await.unwrap();
            assert!(input.is_err(), "this is not the end of the input");
            io.client.gone().await;
            told.send("gone")?;
            std::future::pending().await
        }
    })
    .await;
    let path = "/exec?command=x&stdin=1";
    let client = connect(address, path, &V5_TO_V1).await.unwrap();
    let error = client.open_type("error").await.unwrap();
    let stdin = client.open_type("stdin").await.unwrap();
    client.session.shutdown(spdy_session::Shutdown::Now);
    drop((client, error, stdin));
    let gone = timeout(SOON, news.recv())
        .await
        .expect("the end is reported soon");
    assert_eq!(gone, Some("gone"));
    let dropped = timeout(SOON, news.recv())
        .await
        .expect("it is dropped soon");
    assert_eq!(dropped, Some("dropped"));
}

#[tokio::test]
async fn streams_of_unknown_or_double_type_are_reset_and_the_others_go_on() {
    let address = exec_server(Server::new(), |_| async { Ok(Exit::SUCCESS) }).await;
    let client = connect(address, OUT, &V5_TO_V1).await.unwrap();
    assert!(client.open_type("stdbogus").await.is_err(), "unknown");
    assert!(client.open(&[("type", "stdout")]).await.is_err(), "no type");
    assert!(client.open_type("stderr").await.is_err(), "not asked for");
    assert!(client.open_type("resize").await.is_err(), "no terminal");
    let mut error = client.open_type("error").await.unwrap();
    assert!(client.open_type("error").await.is_err(), "the second one");
    let mut stdout = client.open_type("stdout").await.unwrap();
    assert_eq!(read(&mut stdout).await, "");
    assert_eq!(read(&mut error).await, Status::Success.to_json());
}

#[tokio::test]
async fn streams_that_never_come_end_the_session_with_a_reason() {
    let server = Server::new().gather(GATHER);
    let address = exec_server(server, |_| async { panic!("nothing is run") }).await;
    let client = connect(address, ALL, &V5_TO_V1).await.unwrap();
    let mut error = client.open_type("error").await.unwrap();
    let mut stdin = client.open_type("stdin").await.unwrap();
    let status = Status::from_json(read(&mut error).await.as_bytes()).unwrap();
    let expected = "timed out waiting for client to create streams";
    assert_eq!(status.to_string(), expected);
    let (bytes, end) = read_any(&mut stdin).await;
    assert!(bytes.is_empty() && end.is_err());
    drop((error, stdin));
    let ended = timeout(SOON, client.session.closed()).await;
    _ = ended.expect("the server ends the session");
}

#[tokio::test]
async fn a_client_without_any_stream_does_not_stay() {
    let server = Server::new().gather(Duration::from_millis(200));
    let address = exec_server(server, |_| async { panic!("nothing is run") }).await;
    let client = connect(address, OUT, &V5_TO_V1).await.unwrap();
    let ended = timeout(SOON, client.session.closed()).await;
    _ = ended.expect("the server ends the session");
}

#[tokio::test]
async fn an_output_that_somebody_keeps_does_not_keep_a_session_without_client() {
    let address = exec_server(Server::new(), |mut io| async move {
        let stdout = io.stdout.take();
        tokio::spawn(async move {
            let _stdout = stdout;
            tokio::time::sleep(SOON).await;
        });
        Ok(Exit::SUCCESS)
    })
    .await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let client = connect(address, OUT, &V5_TO_V1).await.unwrap();
    let error = client.open_type("error").await.unwrap();
    let stdout = client.open_type("stdout").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop((client, error, stdout));
    let back = async {
        // The task keeps the output for longer than this test waits.
        while tasks() != before + 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON / 2, back)
        .await
        .expect("the session ends soon");
}
