//! Operations whose instructions are counted. `benches/instructions/run` counts them.
//!
//! ```text
//! instructions                           prints the operations, each with how often to do it
//! instructions OPERATION PREPARED DONE   prepares an operation PREPARED times, does it DONE times
//! ```
//!
//! Two runs that prepare the same and do different numbers differ by what the operation itself
//! costs.

mod client;
mod frames;
mod headers;
mod http_request;
mod served;
mod service;

// What the bench of the session crate measures by the clock is counted here.
#[path = "../../crates/spdy-session/benches/engine/data.rs"]
mod data;
#[path = "../../crates/spdy-session/benches/engine/driver.rs"]
mod driver;
#[path = "../../crates/spdy-session/benches/engine/machine.rs"]
mod machine;

use std::{env, process::ExitCode};

use tokio::runtime::Runtime;

use self::{driver::Driven, machine::Machines};

/// What is counted: the name, how often it is done, and the function that prepares it and does it.
type Operation = (&'static str, usize, fn(usize, usize));

const OPERATIONS: [Operation; 19] = [
    ("frame-decode-data", 4000, frames::decode_data),
    ("frame-decode-control", 4000, frames::decode_control),
    ("frame-encode", 4000, frames::encode),
    ("headers-decode-request", 2000, headers::decode_requests),
    ("headers-decode-response", 2000, headers::decode_responses),
    ("headers-decode-first", 200, headers::decode_first),
    ("headers-encode-request", 2000, headers::encode_requests),
    ("headers-encode-response", 2000, headers::encode_responses),
    ("headers-encode-changing", 2000, headers::encode_changing),
    ("engine-request", 2000, |_, done| {
        Machines::new().requests(done)
    }),
    ("engine-download-mib", 40, |_, done| {
        Machines::new().download(done << 20)
    }),
    ("driver-request", 2000, |_, done| {
        Driven::on(timeless(), 1).requests(done)
    }),
    ("driver-download-mib", 40, |_, done| {
        Driven::on(timeless(), 1).download(done << 20)
    }),
    ("tower-request", 2000, served::request),
    ("tower-request-10", 200, served::ten_requests),
    ("tower-request-100", 40, served::hundred_requests),
    ("tower-download-mib", 20, served::download),
    ("tower-upload-mib", 20, served::upload),
    ("http-request", 1000, http_request::requests),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [] => {
            for (name, count, _) in OPERATIONS {
                println!("{name} {count}");
            }
        }
        [wanted, prepared, done] => {
            let find = |operation: &&Operation| operation.0 == wanted;
            let (Some(operation), Ok(prepared), Ok(done)) =
                (OPERATIONS.iter().find(find), prepared.parse(), done.parse())
            else {
                return usage();
            };
            operation.2(prepared, done);
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

/// A runtime of one thread whose clock stands still: otherwise a session would do less in a turn
/// the slower it is.
fn timeless() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("there are threads and timers")
}

fn usage() -> ExitCode {
    eprintln!("usage: instructions [OPERATION PREPARED DONE]; without arguments, the operations");
    ExitCode::from(2)
}
