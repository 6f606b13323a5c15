//! How long a session takes for a request and its response, and for payload, without sockets; beside it HTTP/2 by `h2`.
//!
//! | Layer | SPDY/3.1 | HTTP/2 |
//! |---|---|---|
//! | machine | two [`Connection`](spdy_session::proto::Connection)s, joined by two buffers | `h2`, polled by hand, over the same two buffers |
//! | driver | sessions and their drivers over `tokio::io::duplex`, in one thread | `h2` over the same, in one thread |
//!
//! A request is a GET with ten fields. Its response has six, and 100 octets of body. Both ends are measured together.
//!
//! First both protocols take turns, and the ratios of their times are printed: this is what to look at, since a busy
//! machine is busy for both. Then each is measured by itself. `--quick` does the first part only.

mod compare;
mod data;
mod driver;
mod h2_driver;
mod h2_machine;
mod machine;
mod pipe;

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};

use tokio::runtime::Runtime;

use self::{driver::Driven, h2_driver::H2Driven, h2_machine::H2Machine, machine::Machines};

fn main() {
    let _top = keep_memory();
    compare::requests("machine", Machines::new(), H2Machine::new());
    compare::requests(
        "driver, one at a time",
        Driven::on(one_thread(), 1),
        H2Driven::new(1),
    );
    compare::requests(
        "driver, ten at once",
        Driven::on(one_thread(), 10),
        H2Driven::new(10),
    );
    compare::payload("machine", Machines::new(), H2Machine::new());
    compare::payload("driver", Driven::on(one_thread(), 1), H2Driven::new(1));
    if !std::env::args().any(|argument| argument == "--quick") {
        divan::main();
    }
}

/// A client and a server that are joined.
trait Pair {
    /// Sends so many requests and takes their responses.
    fn requests(&mut self, count: usize);

    /// Sends a request whose response has a body of so many octets, a multiple of [`data::PIECE`], and takes it.
    fn download(&mut self, octets: usize);
}

impl Pair for Machines {
    fn requests(&mut self, count: usize) {
        self.requests(count);
    }

    fn download(&mut self, octets: usize) {
        self.download(octets);
    }
}

impl Pair for Driven {
    fn requests(&mut self, count: usize) {
        Self::requests(self, count);
    }

    fn download(&mut self, octets: usize) {
        Self::download(self, octets);
    }
}

const REQUESTS: usize = 1000;

const DOWNLOAD: usize = 64 << 20;

/// Makes malloc keep some memory, as long as the answer exists, which is at the end of it. Otherwise malloc may give back
/// to the system what a transport frees, at each turn and for one protocol more than for the other: the bench would
/// measure page faults.
fn keep_memory() -> Option<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = (0..256).map(|_| vec![1; 64 * 1024]).collect();
    pieces.pop()
}

/// The runtime that both protocols run on.
fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("there are threads and timers")
}

fn requests(bencher: Bencher<'_, '_>, mut pair: impl Pair) {
    pair.requests(REQUESTS);
    bencher
        .counter(ItemsCount::new(REQUESTS))
        .bench_local(move || pair.requests(REQUESTS));
}

fn download(bencher: Bencher<'_, '_>, mut pair: impl Pair) {
    bencher
        .counter(BytesCount::new(DOWNLOAD))
        .bench_local(move || pair.download(DOWNLOAD));
}

#[divan::bench]
fn machine_requests(bencher: Bencher<'_, '_>) {
    requests(bencher, Machines::new());
}

#[divan::bench]
fn h2_machine_requests(bencher: Bencher<'_, '_>) {
    requests(bencher, H2Machine::new());
}

#[divan::bench(args = [1, 10])]
fn driver_requests(bencher: Bencher<'_, '_>, at_once: usize) {
    requests(bencher, Driven::on(one_thread(), at_once));
}

#[divan::bench(args = [1, 10])]
fn h2_driver_requests(bencher: Bencher<'_, '_>, at_once: usize) {
    requests(bencher, H2Driven::new(at_once));
}

#[divan::bench(sample_count = 10)]
fn machine_download(bencher: Bencher<'_, '_>) {
    download(bencher, Machines::new());
}

#[divan::bench(sample_count = 10)]
fn h2_machine_download(bencher: Bencher<'_, '_>) {
    download(bencher, H2Machine::new());
}

#[divan::bench(sample_count = 10)]
fn driver_download(bencher: Bencher<'_, '_>) {
    download(bencher, Driven::on(one_thread(), 1));
}

#[divan::bench(sample_count = 10)]
fn h2_driver_download(bencher: Bencher<'_, '_>) {
    download(bencher, H2Driven::new(1));
}
