//! Many sessions at once.

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spdy_bastion::Security;
use spdy_kube::{Exit, Status, client::Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Barrier,
    time::{sleep, timeout},
};

use self::support::{INPUT, SOON, Test, outcome};

const SESSIONS: usize = 500;

/// Descriptors of a session in this process: the socket of the client, both of the bastion, that of
/// the server, and the recording.
const EACH: usize = 5;

/// Descriptors for everything else.
const OTHERS: usize = 100;

/// Raises the number of descriptors that this process may have.
fn allow_descriptors(number: usize) {
    let number = number as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < number) {
        let raised = Rlimit {
            current: Some(number),
            ..limit
        };
        setrlimit(Resource::Nofile, raised).expect("the system allows this many descriptors");
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Each session echoes a line while all others are open, and ends with a code of its own.
#[tokio::test]
async fn five_hundred_sessions_at_once_have_their_lines_and_outcomes() {
    allow_descriptors(SESSIONS * EACH + OTHERS);
    let test = Test::start(|config, _| config.security = Security::Plain).await;
    let before = descriptors();
    // All have echoed, and this test has counted.
    let (echoed, counted) = (Barrier::new(SESSIONS + 1), Barrier::new(SESSIONS + 1));
    let session = async |number: usize| {
        let transport = [Transport::Spdy, Transport::WebSocket][number % 2];
        let code = u8::try_from(number % 256).unwrap();
        let command = ["line", &code.to_string()];
        let mut remote = test.exec_over(transport, &command, INPUT).await.unwrap();
        let line = format!("this is line {number}\n");
        let mut stdin = remote.stdin.take().unwrap();
        stdin.write_all(line.as_bytes()).await.unwrap();
        let mut echo = vec![0; line.len()];
        let stdout = remote.stdout.as_mut().unwrap();
        stdout.read_exact(&mut echo).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&echo), line);
        echoed.wait().await;
        counted.wait().await;
        stdin.shutdown().await.unwrap();
        let expected = match code {
            0 => Status::Success,
            code => Status::Exit(Exit::code(code)),
        };
        assert_eq!(outcome(remote).await, expected, "{number}");
    };
    let count = async {
        echoed.wait().await;
        let open = descriptors();
        assert!(
            open <= before + SESSIONS * EACH + OTHERS,
            "{open} after {before}"
        );
        counted.wait().await;
    };
    let all = async { tokio::join!(join_all((0..SESSIONS).map(session)), count) };
    timeout(SOON * 2, all).await.expect("all end soon");
    recordings_are_right(&test).await;
    // Nothing is left of them.
    let gone = async {
        while descriptors() > before + OTHERS {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, gone).await.expect("descriptors are closed");
}

/// Each session has an audit line, with its code and a recording of its line.
async fn recordings_are_right(test: &Test) {
    let audit = test.audit(2 * SESSIONS).await;
    let ends: Vec<_> = audit.iter().filter(|line| line["event"] == "end").collect();
    assert_eq!(ends.len(), SESSIONS);
    for end in ends {
        let code = end["exit_code"].as_u64().unwrap_or(0);
        let text = test.recording(end);
        let said = text
            .split("this is line ")
            .nth(1)
            .expect("the line is recorded");
        let number: u64 = said
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(number % 256, code, "{text}");
    }
}
