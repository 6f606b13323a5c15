//! `spdy ping`: measures round-trip times over one session.

use std::time::Duration;

use serde_json::json;
use spdy_tower::session::Session;
use tokio::time::{sleep, timeout};

use crate::{
    connect::Connector,
    failure::{Exit, Failure, print, print_json, sentence},
    flags::Ping,
    interrupt::Interrupt,
    offer::Offer,
};

pub(crate) async fn run(ping: Ping) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen();
    let url = ping.reach.reached(&ping.url);
    let origin = &url.origin;
    let offer = Offer {
        cure: match ping.reach.upgrade {
            true => "PING is a frame of SPDY, so try a server that has it, or leave out --upgrade",
            false => "PING is a frame of SPDY, so try a server that has it, or leave out --version",
        },
        is_spdy_alone: true,
        ..ping.reach.spdy()?
    };
    let connector = Connector::new(offer, &ping.reach, origin.is_tls)?.through(&ping.via)?;
    let connected = tokio::select! {
        connected = connector.connect(origin) => connected,
        () = interrupt.heard() => Err(interrupted()),
    };
    let connection = match connected {
        Ok(connection) => connection,
        Err(failure) => return failure.told(ping.json, ("url", &ping.url)),
    };
    let session = connection.session.clone();
    let session = session.expect("the client offers only SPDY");

    let mut times = Vec::new();
    let mut lost = None;
    for number in 1..=ping.count.get() {
        let reply = async {
            if number > 1 {
                sleep(Duration::from_millis(ping.interval)).await;
            }
            reply(&session).await
        };
        let reply = tokio::select! {
            reply = reply => reply,
            () = interrupt.heard() => {
                lost = Some(interrupted());
                break;
            }
        };
        match reply {
            Ok(time) => {
                times.push(milliseconds(time));
                if !ping.json {
                    let line = format!("{origin}: {number} {:.3} ms\n", milliseconds(time));
                    print(line.as_bytes())?;
                }
            }
            Err(reason) => {
                let reason = connection.requests.lost(&url.uri, reason);
                lost = Some(Failure::new(Exit::Exchange, reason));
                break;
            }
        }
    }

    let min = times.iter().copied().fold(f64::INFINITY, f64::min);
    let max = times.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let avg = times.iter().sum::<f64>() / times.len() as f64;
    if ping.json {
        // JSON has no infinity: without a reply these numbers are null.
        print_json(&json!({
            "url": ping.url.to_string(),
            "protocol": connection.protocol.token(),
            "connect_ms": milliseconds(connection.took),
            "times_ms": &times,
            "min_ms": min,
            "avg_ms": avg,
            "max_ms": max,
            "error": lost.as_ref().map(Failure::to_string),
        }))?;
    } else if !times.is_empty() {
        let line = format!(
            "{}, {} round trips: min {min:.3} ms, avg {avg:.3} ms, max {max:.3} ms\n",
            connection.protocol.token(),
            times.len(),
        );
        print(line.as_bytes())?;
    }
    drop(session);
    connection.end().await;
    match lost {
        Some(failure) => Err(failure),
        None => Ok(Exit::Success),
    }
}

/// Waits for the reply to a PING, or returns why it does not come.
async fn reply(session: &Session) -> Result<Duration, String> {
    match timeout(REPLY_TIMEOUT, session.ping()).await {
        Ok(Ok(time)) => Ok(time),
        Ok(Err(error)) => Err(format!("session lost: {}", sentence(&error))),
        Err(_) => Err(format!("no reply to PING within {REPLY_TIMEOUT:?}")),
    }
}

fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How long the client waits for the reply to a PING.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use spdy_frame::Version;
    use spdy_tower::session::{Config, client};
    use tokio::{io::duplex, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_does_not_come_is_not_waited_for() {
        let (near, _far) = duplex(1000);
        let (session, _, driver) = client(near, Version::V3_1, Config::default());
        tokio::spawn(driver);
        let start = Instant::now();
        let lost = reply(&session).await.unwrap_err();
        assert_eq!(lost, "no reply to PING within 10s");
        assert_eq!(start.elapsed(), REPLY_TIMEOUT);
    }
}
