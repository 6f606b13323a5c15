//! One application over everything: HTTP/1.1, HTTP/2 and SPDY on one port in plain text, and on a
//! second one over TLS.
//!
//! Run with `cargo run --release -p spdy-examples --example h1_h2_spdy -- 127.0.0.1:8080
//! 127.0.0.1:8443`, and then
//!
//! ```console
//! curl http://127.0.0.1:8080/
//! curl --http2-prior-knowledge http://127.0.0.1:8080/
//! spdy get --plain-version 3.1 http://127.0.0.1:8080/
//! curl --insecure --http2 https://127.0.0.1:8443/
//! spdy get --insecure https://127.0.0.1:8443/
//! ```
//!
//! A third and a fourth argument are the files of a certificate and its key; without them one is
//! made.
//!
//! In plain text the first bytes of the client tell what it speaks, over TLS it is ALPN. Control-C
//! ends the server when the requests under way are answered.

use std::{env, error::Error};

use axum::{Extension, Router, routing::get};
use spdy_server::{Address, Bind, Certificate, Config, ConnectionInfo, Server, Signals};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (plain, tls, certificate) = match &arguments[..] {
        [plain, tls] => (plain, tls, Certificate::SelfSigned),
        [plain, tls, chain, key] => (plain, tls, files(chain, key)),
        _ => return Err("usage: h1_h2_spdy PLAIN-ADDRESS TLS-ADDRESS [CERTIFICATE KEY]".into()),
    };
    let config = Config {
        binds: vec![
            Bind::plain(plain.parse::<Address>()?),
            Bind::tls(tls.parse::<Address>()?),
        ],
        certificate,
        ..Config::default()
    };
    let server = Server::bind(config).await?;
    for endpoint in server.endpoints() {
        println!("{endpoint}");
    }
    let app = Router::new().route("/", get(page));
    let mut signals = Signals::new()?;
    let drained = server.run(app, signals.next()).await;
    println!("{drained:?}");
    Ok(())
}

fn files(chain: &str, key: &str) -> Certificate {
    Certificate::Files {
        chain: chain.into(),
        key: key.into(),
    }
}

async fn page(Extension(connection): Extension<ConnectionInfo>) -> String {
    format!("Hello over {}\n", connection.protocol)
}
