//! What a side that answers does with the streams of the other.

use std::time::Duration;

use spdy_session::{
    HeaderBlock, PendingStream, Received, RecvStream, RstStatus, SendStream, Session, Shutdown,
    StreamError,
};
use tokio::time::sleep;

use crate::{Failure, Notes, digest, echo, send_pattern};

/// Answers a stream.
///
/// | `do` | Answer |
/// |---|---|
/// | `echo` | the bytes that come; in the reply the values of `ask`, as `answer` |
/// | `source` | so many `bytes` |
/// | `sink`, `slow` | how many bytes have come and their SHA-256; `slow` reads late |
/// | `headers` | a header block that comes |
/// | `half` | the end, at once; what comes after it is noted |
/// | `refuse`, `reset` | REFUSED_STREAM; a reply, and INTERNAL_ERROR when bytes have come |
/// | `watch` | nothing: how the other side resets it is noted |
/// | `recall` | what was noted |
/// | `call`, `ping` | `ok`, when a stream to the other side was echoed, or a PING answered |
/// | `bye` | so many `bytes`; then the session ends |
pub(crate) async fn answer(
    stream: PendingStream,
    session: Session,
    notes: &Notes,
) -> Result<(), Failure> {
    let field = |name: &str| {
        let value = stream.headers().get(name).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let (what, bytes) = (field("do"), field("bytes").parse().unwrap_or(0));
    if what == "refuse" {
        stream.refuse();
        return Ok(());
    }
    let reply = reply_to(stream.headers())?;
    let (mut receive, mut send) = stream.send_reply(reply)?.split();
    let text = match what.as_str() {
        "echo" => return copy(receive, send).await,
        "source" => return Ok(send_pattern(&mut send, bytes).await?),
        "sink" => digest(receive).await?,
        "slow" => {
            sleep(Duration::from_secs(2)).await;
            digest(receive).await?
        }
        "headers" => return send_back(receive, send).await,
        "half" => {
            send.finish()?;
            notes.add(digest(receive).await?);
            return Ok(());
        }
        "reset" => {
            // A reply that is not written yet would be dropped.
            receive.next().await;
            send.reset(RstStatus::INTERNAL_ERROR);
            return Ok(());
        }
        "watch" => {
            notes.add(match digest(receive).await {
                Err(StreamError::Reset { status, .. }) => format!("reset with {}", status.0),
                other => format!("{other:?}"),
            });
            return Ok(());
        }
        "recall" => notes.take().await,
        "call" => outcome(echo(&session, 100_000).await),
        "ping" => outcome(session.ping().await.map(drop)),
        "bye" => {
            send_pattern(&mut send, bytes).await?;
            session.shutdown(Shutdown::Graceful { deadline: None });
            return Ok(());
        }
        _ => {
            send.reset(RstStatus::PROTOCOL_ERROR);
            return Err(format!("no answer to {what:?}").into());
        }
    };
    send.send_data(text.into(), true)?;
    Ok(send.written().await?)
}

fn reply_to(asked: &HeaderBlock) -> Result<HeaderBlock, Failure> {
    let mut reply = HeaderBlock::new();
    for field in asked.fields().filter(|field| field.name() == b"ask") {
        for value in field.values() {
            reply.append("answer", value)?;
        }
    }
    Ok(reply)
}

async fn copy(mut from: RecvStream, mut to: SendStream) -> Result<(), Failure> {
    while let Some(received) = from.next().await {
        if let Received::Data(piece) = received? {
            to.ready().await?;
            to.send_data(piece, false)?;
        }
    }
    to.finish()?;
    Ok(to.written().await?)
}

async fn send_back(mut from: RecvStream, mut to: SendStream) -> Result<(), Failure> {
    while let Some(received) = from.next().await {
        if let Received::Headers(headers) = received? {
            to.send_headers(headers, true)?;
            return Ok(to.written().await?);
        }
    }
    Err("the stream has ended without a header block".into())
}

fn outcome<E: std::fmt::Display>(result: Result<(), E>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}
