//! What is asked of the side that answers.

use std::{
    fs,
    time::{Duration, Instant},
};

use spdy_session::{
    HeaderBlock, RecvStream, RstStatus, SendStream, Session, Shutdown, StreamError,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Failure, digest, echo, expect, open, pattern_digest, send_pattern};

/// Makes all checks, each on a session of its own, and prints a line for each. Returns whether all
/// have passed.
pub(crate) async fn check(
    role: &str,
    mut next: impl AsyncFnMut() -> Result<Session, Failure>,
) -> Result<bool, Failure> {
    let mut all = true;
    for name in NAMES {
        let start = Instant::now();
        let one = async {
            let session = next().await?;
            let note = make(name, &session).await?;
            end(&session).await?;
            Ok::<_, Failure>(note)
        };
        let outcome = timeout(LIMIT, one).await;
        let outcome = outcome.unwrap_or_else(|_| Err("not done within 60 s".into()));
        all &= outcome.is_ok();
        let (verdict, note) = match outcome {
            Ok(note) => ("PASS", note),
            Err(error) => ("FAIL", error.to_string()),
        };
        let colon = if note.is_empty() { "" } else { ": " };
        let seconds = start.elapsed().as_secs_f64();
        println!("{verdict}  spdy-session as {role}: {name}{colon}{note} ({seconds:.2} s)");
    }
    Ok(all)
}

const NAMES: [&str; 16] = [
    "replies and their fields",
    "HEADERS there and back",
    "64 MiB received",
    "64 MiB sent",
    "64 MiB there and back",
    "100 streams at once",
    "streams of the other side",
    "finished here, received after",
    "finished there, sent after",
    "refused",
    "reset there",
    "reset here",
    "pings from both",
    "a reader that is slow",
    "end of the session by this side",
    "end of the session by the other side",
];

async fn make(name: &str, session: &Session) -> Result<String, Failure> {
    let nothing = String::new();
    match name {
        "replies and their fields" => fields(session).await?,
        "HEADERS there and back" => headers(session).await?,
        "64 MiB received" => source(session, 64 * MIB).await?,
        "64 MiB sent" => sink(session, 64 * MIB).await?,
        "64 MiB there and back" => echo(session, 64 * MIB).await?,
        "100 streams at once" => return hundred(session).await,
        "streams of the other side" => told(session, "call", "ok").await?,
        "finished here, received after" => source(session, MIB).await?,
        "finished there, sent after" => half(session).await?,
        "refused" => return refused(session).await,
        "reset there" => return reset_there(session).await,
        "reset here" => return reset_here(session).await,
        "pings from both" => {
            let time = session.ping().await?;
            told(session, "ping", "ok").await?;
            return Ok(format!("{time:?}"));
        }
        "a reader that is slow" => return slow_reader(session).await,
        "end of the session by this side" => return end_here(session).await,
        "end of the session by the other side" => return end_there(session).await,
        _ => return Err("there is no such check".into()),
    }
    Ok(nothing)
}

/// Ends a session in order, and expects it to end so.
async fn end(session: &Session) -> Result<(), Failure> {
    session.shutdown(Shutdown::Graceful { deadline: None });
    Ok(session.closed().await?)
}

async fn ask(session: &Session, what: &str) -> Result<(RecvStream, SendStream), Failure> {
    let (_, receive, send) = open(session, &[("do", what)], false).await?;
    Ok((receive, send))
}

async fn ask_for(session: &Session, what: &str, bytes: usize) -> Result<RecvStream, Failure> {
    let bytes = bytes.to_string();
    let fields = [("do", what), ("bytes", bytes.as_str())];
    Ok(open(session, &fields, true).await?.1)
}

/// Expects a text on a stream on which nothing is sent.
async fn told(session: &Session, what: &str, expected: &str) -> Result<(), Failure> {
    let (_, receive, _send) = open(session, &[("do", what)], true).await?;
    expect(expected, &text(receive).await?)
}

async fn text(mut from: RecvStream) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut from, &mut bytes).await?;
    Ok(String::from_utf8(bytes)?)
}

fn values(headers: &HeaderBlock, name: &str) -> String {
    let named = headers
        .fields()
        .filter(|field| field.name() == name.as_bytes());
    let values = named.flat_map(|field| field.values().map(String::from_utf8_lossy));
    values.collect::<Vec<_>>().join(",")
}

async fn fields(session: &Session) -> Result<(), Failure> {
    let fields = [("do", "echo"), ("ask", "one"), ("ask", "two")];
    let (reply, receive, mut send) = open(session, &fields, false).await?;
    send.finish()?;
    expect("one,two", &values(&reply, "answer"))?;
    expect("", &text(receive).await?)
}

async fn headers(session: &Session) -> Result<(), Failure> {
    let (mut receive, mut send) = ask(session, "headers").await?;
    let fields = [("x-late", "one"), ("x-late", "two"), ("x-other", "three")];
    send.send_headers(HeaderBlock::from_pairs(fields)?, false)?;
    let received = receive.next_headers().await?;
    let received = received.ok_or("the stream ended without a header block")?;
    send.finish()?;
    let (late, other) = (values(&received, "x-late"), values(&received, "x-other"));
    expect("one,two three", &format!("{late} {other}"))
}

async fn source(session: &Session, bytes: usize) -> Result<(), Failure> {
    let receive = ask_for(session, "source", bytes).await?;
    expect(&pattern_digest(bytes), &digest(receive).await?)
}

async fn sink(session: &Session, bytes: usize) -> Result<(), Failure> {
    let (receive, mut send) = ask(session, "sink").await?;
    send_pattern(&mut send, bytes).await?;
    expect(&pattern_digest(bytes), &text(receive).await?)
}

async fn hundred(session: &Session) -> Result<String, Failure> {
    let mut streams = JoinSet::new();
    for _ in 0..100 {
        let session = session.clone();
        streams.spawn(async move { echo(&session, 200_000).await });
    }
    while let Some(ended) = streams.join_next().await {
        ended??;
    }
    Ok("200000 bytes there and back on each".into())
}

/// Sends on a stream that the other side has finished.
async fn half(session: &Session) -> Result<(), Failure> {
    let (receive, mut send) = ask(session, "half").await?;
    expect("", &text(receive).await?)?;
    send_pattern(&mut send, MIB).await?;
    told(session, "recall", &pattern_digest(MIB)).await
}

async fn refused(session: &Session) -> Result<String, Failure> {
    let fields = HeaderBlock::from_pairs([("do", "refuse")])?;
    let mut stream = session
        .open(fields, spdy_session::OpenOptions::default())
        .await?;
    match stream.response_headers().await {
        Err(StreamError::NotProcessed) => Ok("with REFUSED_STREAM".into()),
        other => Err(format!("{other:?}").into()),
    }
}

async fn reset_there(session: &Session) -> Result<String, Failure> {
    let (receive, mut send) = ask(session, "reset").await?;
    send.send_data(vec![b'x'; 100].into(), false)?;
    match digest(receive).await {
        // The one status that spdystream resets streams with.
        Err(StreamError::Reset {
            status: RstStatus::CANCEL,
            ..
        }) => Ok("with CANCEL".into()),
        other => Err(format!("{other:?}").into()),
    }
}

async fn reset_here(session: &Session) -> Result<String, Failure> {
    let (_receive, mut send) = ask(session, "watch").await?;
    send.send_data(vec![b'x'; 100].into(), false)?;
    send.reset(RstStatus::FLOW_CONTROL_ERROR);
    told(session, "recall", "reset with 7").await?;
    Ok("with FLOW_CONTROL_ERROR".into())
}

/// What is not read waits at the other side, and not in our memory.
async fn slow_reader(session: &Session) -> Result<String, Failure> {
    let receive = ask_for(session, "source", 64 * MIB).await?;
    let before = memory()?;
    sleep(Duration::from_secs(2)).await;
    let more = memory()?.saturating_sub(before);
    expect(&pattern_digest(64 * MIB), &digest(receive).await?)?;
    if more > 4096 {
        return Err(format!("{more} KiB more memory while nothing was read").into());
    }
    Ok(format!("{more} KiB more while nothing was read"))
}

/// The memory of this process, KiB.
fn memory() -> Result<usize, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("there is no VmRSS")?.parse()?)
}

/// Ends the session while the answers of ten streams are under way.
async fn end_here(session: &Session) -> Result<String, Failure> {
    let mut answers = JoinSet::new();
    for _ in 0..10 {
        answers.spawn(digest(ask_for(session, "source", MIB).await?));
    }
    session.shutdown(Shutdown::Graceful { deadline: None });
    while let Some(answer) = answers.join_next().await {
        expect(&pattern_digest(MIB), &answer??)?;
    }
    Ok("10 answers of 1 MiB under way have arrived whole".into())
}

/// Receives what the other side sends before it ends the session.
async fn end_there(session: &Session) -> Result<String, Failure> {
    let receive = ask_for(session, "bye", 16 * MIB).await?;
    expect(&pattern_digest(16 * MIB), &digest(receive).await?)?;
    session.closed().await?;
    Ok("16 MiB, then GOAWAY with OK".into())
}

const LIMIT: Duration = Duration::from_secs(60);
const MIB: usize = 1024 * 1024;
