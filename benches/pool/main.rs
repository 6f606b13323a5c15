//! Many requests at once: the client of spdy-tower beside the pooled client of hyper-util.
//!
//! Run with `cargo run --release --manifest-path benches/pool/Cargo.toml -- [REQUESTS] [ROUNDS]`,
//! by default 500 requests and 40 rounds. For each origin it prints the time from the first request
//! to the end of the last response: *cold* with a new client, and *warm* with the same client
//! again, whose connections all rest between the two, as those of hyper-util do. Nothing else is
//! set. The clients take turns in each round, so that a machine that is busy is so for both. The
//! smallest time of the rounds counts least for what else the machine does; the median is printed
//! too.

use std::{
    env,
    error::Error,
    net::SocketAddr,
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use spdy_tower::{
    Builder, Version,
    client::{
        Client, Connector, Plain, ReadBody,
        rustls::{ClientConfig, RootCertStore},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    task::JoinSet,
};
use tower::service_fn;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let mut arguments = env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (requests, rounds) = (number(500)?, number(40)?.max(1));
    println!("{requests} requests at once, {rounds} rounds: ms, smallest / median");
    for (name, plain) in [
        ("HTTP/1.1", Plain::Http1),
        ("HTTP/2", Plain::Http2),
        ("SPDY/3.1", Plain::Spdy(Version::V3_1)),
    ] {
        let address = serve(plain)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(measure(name, plain, address, requests, rounds))?;
    }
    Ok(())
}

/// Times of cold and of warm clients.
#[derive(Default)]
struct Times([Vec<Duration>; 2]);

impl Times {
    fn add(&mut self, times: [Duration; 2]) {
        for (all, time) in self.0.iter_mut().zip(times) {
            all.push(time);
        }
    }

    /// Returns the smallest time and the median, in milliseconds.
    fn figures(&mut self) -> [[f64; 2]; 2] {
        self.0.each_mut().map(|times| {
            times.sort_unstable();
            [times[0], times[times.len() / 2]].map(|time| time.as_secs_f64() * 1e3)
        })
    }
}

async fn measure(
    name: &str,
    plain: Plain,
    address: SocketAddr,
    requests: usize,
    rounds: usize,
) -> Outcome<()> {
    let uri: Uri = format!("http://{address}/").parse()?;
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for _ in 0..rounds {
        ours.add(by_ours(plain, &uri, requests).await?);
        if !matches!(plain, Plain::Spdy(_)) {
            theirs.add(by_theirs(plain, &uri, requests).await?);
        }
    }
    let ours = ours.figures();
    let theirs = (!theirs.0[0].is_empty()).then(|| theirs.figures());
    for (index, state) in ["cold", "warm"].into_iter().enumerate() {
        let [least, median] = ours[index];
        print!("{name:9} {state}  spdy-tower {least:7.2} / {median:7.2}");
        if let Some(theirs) = theirs {
            let [their_least, their_median] = theirs[index];
            print!("  hyper-util {their_least:7.2} / {their_median:7.2}");
            let ratios = [least / their_least, median / their_median];
            print!("  ratio {:.2} / {:.2}", ratios[0], ratios[1]);
        }
        println!();
    }
    Ok(())
}

async fn by_ours(plain: Plain, uri: &Uri, requests: usize) -> Outcome<[Duration; 2]> {
    let tls = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = Client::new(Connector::new(tls).plain(plain));
    let one = || {
        let (client, uri) = (client.clone(), uri.clone());
        async move {
            let response = client.get(uri).await?;
            let content = response.into_body().bytes(PAGE.len()).await?;
            Outcome::Ok(content.len())
        }
    };
    Ok([burst(requests, &one).await?, burst(requests, &one).await?])
}

async fn by_theirs(plain: Plain, uri: &Uri, requests: usize) -> Outcome<[Duration; 2]> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: legacy::Client<_, Empty<Bytes>> = legacy::Client::builder(TokioExecutor::new())
        .http2_only(plain == Plain::Http2)
        .build(connector);
    let one = || {
        let (client, uri) = (client.clone(), uri.clone());
        async move {
            let response = client.get(uri).await?;
            let content = response.into_body().collect().await?.to_bytes();
            Outcome::Ok(content.len())
        }
    };
    Ok([burst(requests, &one).await?, burst(requests, &one).await?])
}

/// Returns how long it takes to do something many times at once.
async fn burst<F>(requests: usize, one: &impl Fn() -> F) -> Outcome<Duration>
where
    F: Future<Output = Outcome<usize>> + Send + 'static,
{
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..requests {
        tasks.spawn(one());
    }
    while let Some(read) = tasks.join_next().await {
        assert_eq!(read??, PAGE.len());
    }
    Ok(began.elapsed())
}

/// Starts a server of one protocol on a thread of its own.
fn serve(plain: Plain) -> Outcome<SocketAddr> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || -> Outcome<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            tell.send(listener.local_addr()?)?;
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                tokio::spawn(serve_one(plain, socket));
            }
        })
    });
    Ok(told.recv()?)
}

async fn serve_one(plain: Plain, socket: TcpStream) -> Outcome<()> {
    let page = async |_| Ok::<_, http::Error>(Response::new(Full::new(Bytes::from_static(PAGE))));
    match plain {
        Plain::Spdy(version) => {
            let page = service_fn(move |_: Request<spdy_tower::Body>| page(()));
            let builder = Builder::new();
            builder.serve_connection(socket, version, page).await?;
        }
        Plain::Http2 => {
            let page = hyper::service::service_fn(move |_: Request<Incoming>| page(()));
            let builder = http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(socket), page).await?;
        }
        _ => {
            let page = hyper::service::service_fn(move |_: Request<Incoming>| page(()));
            let builder = http1::Builder::new();
            builder.serve_connection(TokioIo::new(socket), page).await?;
        }
    }
    Ok(())
}

/// What every request gets.
const PAGE: &[u8] = &[b'.'; 1024];
