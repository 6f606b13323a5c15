//! An API server: it runs a few commands of its own, echoes forwarded connections, and keeps the
//! heads of all requests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use spdy_kube::{BoxError, Exit, Io, Options, Server, Status, client::Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
    sync::mpsc::{UnboundedSender, unbounded_channel},
};
use tokio_rustls::TlsAcceptor;

/// A request that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) version: http::Version,
}

impl Seen {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }
}

#[derive(Clone, Default)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// What `/watch` sends next.
    watches: Arc<Mutex<Vec<UnboundedSender<&'static str>>>>,
}

pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    shared: Shared,
    /// The part of a kubeconfig after the server.
    pub(crate) cluster: String,
    pub(crate) user: String,
    pub(crate) scheme: &'static str,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let (listener, api) = Self::bind("http").await;
        let app = api.app();
        tokio::spawn(async move { axum::serve(listener, app).await });
        api
    }

    /// Starts a server with TLS, which chooses HTTP/2 if a client offers it.
    pub(crate) async fn start_secured(config: ServerConfig) -> Self {
        let (listener, api) = Self::bind("https").await;
        let (app, acceptor) = (api.app(), TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (app, acceptor) = (app.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(io) = acceptor.accept(socket).await else {
                        return;
                    };
                    let is_http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = hyper::service::service_fn(
                        move |request: http::Request<hyper::body::Incoming>| {
                            let mut app = app.clone();
                            async move { tower_service::Service::call(&mut app, request).await }
                        },
                    );
                    let io = TokioIo::new(io);
                    if is_http2 {
                        let mut http2 =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        http2.max_concurrent_streams(8);
                        _ = http2.serve_connection(io, service).await;
                    } else {
                        let http1 = hyper::server::conn::http1::Builder::new();
                        _ = http1.serve_connection(io, service).with_upgrades().await;
                    }
                });
            }
        });
        api
    }

    async fn bind(scheme: &'static str) -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self {
            address: listener.local_addr().unwrap(),
            shared: Shared::default(),
            cluster: String::new(),
            user: String::new(),
            scheme,
        };
        (listener, api)
    }

    fn app(&self) -> Router {
        let pod = "/api/v1/namespaces/{namespace}/pods/{pod}";
        Router::new()
            .route(&format!("{pod}/exec"), any(exec))
            .route(&format!("{pod}/attach"), any(exec))
            .route(&format!("{pod}/portforward"), any(forward))
            .route("/watch", any(watch))
            .route("/trailers", any(trailers))
            .fallback(other)
            .with_state(self.shared.clone())
    }

    /// Returns a kubeconfig for this server.
    pub(crate) fn kubeconfig(&self) -> String {
        let (scheme, address, cluster, user) =
            (self.scheme, self.address, &self.cluster, &self.user);
        format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: '{scheme}://{address}'{cluster}}}}}]\n\
             users: [{{name: a, user: {{{user}}}}}]\n"
        )
    }

    /// Returns the requests that have arrived.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Returns the one request that has arrived.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// Sends a piece to all that watch.
    pub(crate) fn tell(&self, piece: &'static str) {
        for watch in self.shared.watches.lock().unwrap().iter() {
            _ = watch.send(piece);
        }
    }

    /// Returns whether a client waits for a watch.
    pub(crate) fn has_watches(&self) -> bool {
        let watches = self.shared.watches.lock().unwrap();
        watches.iter().any(|watch| !watch.is_closed())
    }

    /// Ends all watches.
    pub(crate) fn end_watches(&self) {
        self.shared.watches.lock().unwrap().clear();
    }
}

impl Shared {
    fn see(&self, request: &Request) {
        self.seen.lock().unwrap().push(Seen {
            method: request.method().clone(),
            target: request.uri().path_and_query().unwrap().to_string(),
            headers: request.headers().clone(),
            version: request.version(),
        });
    }
}

async fn exec(State(shared): State<Shared>, mut request: Request) -> Response {
    shared.see(&request);
    let (path, is_spdy) = (
        request.uri().path(),
        Transport::of(&request) == Transport::SpdyFirst,
    );
    if path.contains("/pods/missing/") || is_spdy && path.contains("/pods/silent-after-spdy/") {
        let status = Status::not_found("pods \"missing\" not found");
        return status.into_response().into_response();
    }
    answers(request.uri().path().to_owned()).await;
    let is_attach = request.uri().path().ends_with("attach");
    let response = match Options::from_query(request.uri().query().unwrap_or_default()) {
        Ok(options) if is_attach => {
            let command = vec!["echo".to_owned(), "attached".to_owned()];
            let run = |io| async { run(command, io).await.map(drop) };
            Server::new().attach(&mut request, options.streams, run)
        }
        Ok(options) => {
            let run = |io| run(options.command, io);
            Server::new().exec(&mut request, options.streams, run)
        }
        Err(error) => Status::bad_request(error.to_string()).into_response(),
    };
    response.into_response()
}

/// Waits for ever if the pod of a path is `silent`, and so on.
async fn answers(path: String) {
    if path.contains("/pods/silent") {
        std::future::pending::<()>().await;
    }
}

/// Runs a command.
async fn run(command: Vec<String>, mut io: Io) -> Result<Exit, BoxError> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut stdout = io.stdout.take();
    match words[..] {
        ["echo", ref words @ ..] => {
            if let Some(stdout) = &mut stdout {
                stdout.write_all(words.join(" ").as_bytes()).await?;
            }
            Ok(Exit::SUCCESS)
        }
        ["cat"] => {
            let mut stdin = io.stdin.take().ok_or("no input")?;
            tokio::io::copy(&mut stdin, &mut stdout.ok_or("no output")?).await?;
            Ok(Exit::SUCCESS)
        }
        // Echoes its input, and ends with a code.
        ["line", code] => {
            let mut stdin = io.stdin.take().ok_or("no input")?;
            tokio::io::copy(&mut stdin, &mut stdout.ok_or("no output")?).await?;
            Ok(Exit::code(code.parse()?))
        }
        ["exit", code] => Ok(Exit::code(code.parse()?)),
        ["wait"] => {
            if let Some(stdout) = &mut stdout {
                stdout.write_all(b"waiting\n").await?;
            }
            io.client.gone().await;
            Ok(Exit::SUCCESS)
        }
        ["flood"] => {
            let mut stdout = stdout.ok_or("no output")?;
            loop {
                stdout.write_all(&[b'x'; 16 * 1024]).await?;
            }
        }
        _ => Err("no such command".into()),
    }
}

async fn forward(State(shared): State<Shared>, mut request: Request) -> Response {
    shared.see(&request);
    answers(request.uri().path().to_owned()).await;
    let response = Server::new().port_forward(&mut request, "demo", |_| async {
        let (ours, theirs) = duplex(1024);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(ours);
            let mut piece = [0; 1024];
            while let Ok(length @ 1..) = reader.read(&mut piece).await {
                _ = writer.write_all(&piece[..length]).await;
            }
        });
        Ok(theirs)
    });
    response.into_response()
}

async fn watch(State(shared): State<Shared>, request: Request) -> Response {
    shared.see(&request);
    let (sender, receiver) = unbounded_channel();
    shared.watches.lock().unwrap().push(sender);
    let pieces = stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, BoxError>(Bytes::from(piece)), receiver))
    });
    Body::from_stream(pieces).into_response()
}

/// Returns the trailers of a request as text.
async fn trailers(request: Request) -> String {
    let body = request.into_body().collect().await.unwrap();
    format!("{:?}", body.trailers())
}

/// Echoes the body.
async fn other(State(shared): State<Shared>, request: Request) -> Response {
    shared.see(&request);
    let mut response = Response::new(request.into_body());
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert("connection", "x-hop".parse().unwrap());
    headers.insert("x-hop", "1".parse().unwrap());
    headers.insert("x-end", "2".parse().unwrap());
    response
}
