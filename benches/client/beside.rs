//! The latency of small requests beside a download, over a session that is read at a limited rate.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    Failure,
    session::{Ask, Session, Target},
};

/// Downloads `path` again and again, and sends one small request after the other beside it. Prints
/// their latencies.
pub(crate) async fn run(
    target: &Target,
    path: &str,
    rate: u64,
    seconds: u64,
) -> Result<(), Failure> {
    let session = Arc::new(target.open(Some(rate)).await?);
    let download = tokio::spawn(download(Arc::clone(&session), path.to_owned()));
    // Until the queues on the way are full.
    sleep(Duration::from_secs(1)).await;
    let hello = Ask::get("/hello");
    let mut latencies = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        sleep(PAUSE).await;
        let start = Instant::now();
        session.request(&hello, &[]).await?;
        latencies.push(start.elapsed());
        if download.is_finished() {
            break;
        }
    }
    if download.is_finished() {
        download.await??;
        return Err("the download has ended".into());
    }
    download.abort();
    latencies.sort_unstable();
    let at = |percent: usize| {
        let rank = (latencies.len() * percent).div_ceil(100).max(1);
        latencies[rank - 1].as_secs_f64() * 1e3
    };
    println!("p50 {:.3} p99 {:.3} max {:.3}", at(50), at(99), at(100));
    Ok(())
}

async fn download(session: Arc<Session>, path: String) -> Result<(), Failure> {
    let ask = Ask::get(&path);
    loop {
        session.request(&ask, &[]).await?;
    }
}

const PAUSE: Duration = Duration::from_millis(5);
