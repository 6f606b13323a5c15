//! SPDY in front of an application that speaks only HTTP/1.1, or HTTP/2 in plain text.
//!
//! Run with `cargo run --release -p spdy-examples --example reverse_proxy -- 127.0.0.1:8443
//! http://127.0.0.1:8080`, where the application is at the second address; `h2://127.0.0.1:8080` is
//! one that speaks HTTP/2. Then `spdy get --insecure https://127.0.0.1:8443/`. With `plain` as a
//! third argument the front does without TLS.
//!
//! Bodies stream both ways, and a side that is slow holds up the other side of its own request
//! alone. The application learns of the client by `x-forwarded-for`. Failures have an answer: 502,
//! 503 or 504. Control-C ends the server when the requests under way are answered.

use std::{env, error::Error, time::Duration};

use spdy_server::{
    Address, Bind, Config, Server, Signals,
    app::{Proxy, proxy},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (address, upstream, carry): (_, _, fn(Address) -> Bind) = match &arguments[..] {
        [address, upstream] => (address, upstream, Bind::tls),
        [address, upstream, plain] if plain == "plain" => (address, upstream, Bind::plain),
        _ => return Err("usage: reverse_proxy ADDRESS UPSTREAM [plain]".into()),
    };
    let config = Config {
        binds: vec![carry(address.parse()?)],
        ..Config::default()
    };
    let mut application = Proxy::new(upstream.parse()?);
    application.answer_timeout = Duration::from_secs(30);

    let server = Server::bind(config).await?;
    for endpoint in server.endpoints() {
        println!("{endpoint} for {upstream}");
    }
    let mut signals = Signals::new()?;
    let drained = server.run(proxy(application), signals.next()).await;
    println!("{drained:?}");
    Ok(())
}
