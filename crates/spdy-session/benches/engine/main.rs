//! Measures the time that a session takes for a request and its response, and for payload, without
//! sockets. HTTP/2 by `h2` is measured next to it.
//!
//! - *machine*: two [`Connection`](spdy_session::proto::Connection)s that are joined by two
//!   buffers; for HTTP/2, `h2` over the same buffers, polled by hand;
//! - *driver*: sessions and their drivers over `tokio::io::duplex` in one thread; for HTTP/2, `h2`
//!   over the same.
//!
//! A request is a GET with ten fields. Its response has six fields, and a body of 100 bytes. Both
//! ends are measured together.
//!
//! First both protocols take turns, and the ratios of their times are printed. These ratios are the
//! result, because a busy computer slows both down. Then each is measured by itself. `--quick` does
//! only the first part.

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
    /// Sends `count` requests, and reads their responses.
    fn requests(&mut self, count: usize);

    /// Sends a request whose response has a body of this many bytes, a multiple of [`data::PIECE`],
    /// and reads it.
    fn download(&mut self, bytes: usize);
}

impl Pair for Machines {
    fn requests(&mut self, count: usize) {
        self.requests(count);
    }

    fn download(&mut self, bytes: usize) {
        self.download(bytes);
    }
}

impl Pair for Driven {
    fn requests(&mut self, count: usize) {
        Self::requests(self, count);
    }

    fn download(&mut self, bytes: usize) {
        Self::download(self, bytes);
    }
}

const REQUESTS: usize = 1000;

const DOWNLOAD: usize = 64 << 20;

/// Makes malloc keep some memory while the returned value exists. Otherwise malloc may return the
/// memory of a transport to the system in each turn, for one protocol more often than for the
/// other, and the bench would measure page faults.
fn keep_memory() -> Option<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = (0..256).map(|_| vec![1; 64 * 1024]).collect();
    pieces.pop()
}

/// Returns the runtime on which both protocols run.
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
