//! Two pairs in turns, and the ratio of their times.

use std::time::Instant;

use super::{DOWNLOAD, Pair, REQUESTS};

/// Prints what a request costs with each, and how the two relate.
pub(crate) fn requests(layer: &str, ours: impl Pair, rival: impl Pair) {
    let [ours, rival, ratio] = medians(41, ours, rival, |pair| pair.requests(REQUESTS));
    let each = |seconds: f64| seconds / REQUESTS as f64 * 1e6;
    println!(
        "request, {layer}: SPDY/3.1 {:.2} µs, h2 {:.2} µs, ratio of times {ratio:.2}",
        each(ours),
        each(rival),
    );
}

/// Prints how fast payload moves with each, and how the two relate.
pub(crate) fn payload(layer: &str, ours: impl Pair, rival: impl Pair) {
    let [ours, rival, ratio] = medians(7, ours, rival, |pair| pair.download(DOWNLOAD));
    let rate = |seconds: f64| DOWNLOAD as f64 / seconds / 1e9;
    println!(
        "64 MiB, {layer}: SPDY/3.1 {:.2} GB/s, h2 {:.2} GB/s, ratio of times {ratio:.2}",
        rate(ours),
        rate(rival),
    );
}

/// The medians of the seconds that each takes, and of the ratio within a round.
fn medians(
    rounds: usize,
    mut ours: impl Pair,
    mut rival: impl Pair,
    work: impl Fn(&mut dyn Pair),
) -> [f64; 3] {
    work(&mut ours);
    work(&mut rival);
    let mut columns = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let ours = seconds(|| work(&mut ours));
        let rival = seconds(|| work(&mut rival));
        for (column, value) in columns.iter_mut().zip([ours, rival, ours / rival]) {
            column.push(value);
        }
    }
    columns.map(|mut column| {
        column.sort_by(f64::total_cmp);
        column[rounds / 2]
    })
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}
