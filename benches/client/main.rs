//! The clients of `benches/curves` and `benches/compare`.
//!
//! ```text
//! bench-client steps PROTOCOL ADDRESS SESSIONS STREAMS        does what its standard input says
//! bench-client beside PROTOCOL ADDRESS PATH RATE SECONDS      latency beside a download
//! bench-client handshakes PROTOCOL ADDRESS COUNT full|resumed one after the other
//! bench-client raw PROTOCOL ADDRESS CONNECTIONS REQUESTS-AT-ONCE REQUESTS UPLOAD REPLY
//! ```
//!
//! PROTOCOL is `spdy` (SPDY/3.1), `spdystream` (the same without windows, as moby/spdystream has
//! none), `h2` or `raw`; with `s` at its end it is over TLS, and trusts the certificate in the file
//! that the environment names as `BENCH_CERTIFICATE`.

mod beside;
mod handshakes;
mod raw;
mod session;
mod steps;
mod throttled;
mod transport;

use std::{env, error::Error};

use tokio::runtime::Builder;

/// Why a client has failed.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match arguments[..] {
        ["steps", protocol, address, sessions, streams] => {
            let target = session::Target::new(protocol, address)?;
            steps::run(&runtime, &target, sessions.parse()?, streams.parse()?)
        }
        ["beside", protocol, address, path, rate, seconds] => {
            let target = session::Target::new(protocol, address)?;
            let measured = beside::run(&target, path, rate.parse()?, seconds.parse()?);
            runtime.block_on(measured)
        }
        ["handshakes", protocol, address, count, how] => {
            let all = handshakes::run(protocol, address.parse()?, count.parse()?, how);
            runtime.block_on(all)
        }
        [
            "raw",
            protocol,
            address,
            connections,
            at_once,
            requests,
            upload,
            reply,
        ] => {
            let load = raw::Load {
                is_tls: protocol.ends_with('s'),
                address: address.parse()?,
                connections: connections.parse()?,
                at_once: at_once.parse()?,
                requests: requests.parse()?,
                upload: upload.parse()?,
                reply: reply.parse()?,
            };
            runtime.block_on(load.run())
        }
        _ => Err("the arguments are described at the top of benches/client/main.rs".into()),
    }
}
