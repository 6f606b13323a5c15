//! A node with one pod, for kubectl alone: no cluster, no containers. `kubectl exec` runs local
//! processes, `attach` joins a process that is started for it, `cp` and `port-forward` work on this
//! machine.
//!
//! Run with `cargo run --release -p spdy-examples --example kubelet -- --listen 127.0.0.1:8001`,
//! and then `kubectl --server http://127.0.0.1:8001 exec -it demo -- sh`.
//!
//! It runs the commands of every client that reaches its port. It is for demonstration and tests.

#[path = "kubelet/listener.rs"]
mod listener;
#[path = "kubelet/process.rs"]
mod process;

use std::{env, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{Response, header::UPGRADE},
    middleware::{self, Next},
    response::{self, IntoResponse},
    routing::{any, get},
};
use serde_json::{Value, json};
use spdy_kube::{Options, Origins, Server, Status, Tokens};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

use self::listener::Listener;

type Answer = Response<String>;

/// What kubectl prints as an error from the server.
struct Refusal(Status);

impl IntoResponse for Refusal {
    fn into_response(self) -> response::Response {
        self.0.into_response().into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = arguments()?;
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    eprintln!("Every client that can reach {address} runs commands as you on this machine.");
    println!("kubectl --server http://{address} exec -it demo -- sh");
    // Children have the default for every signal that is caught here, and inherit those that are
    // ignored: so a shell in the background would give them a control-C that does nothing.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let _hang_ups = signal(SignalKind::hangup())?;
    tokio::select! {
        served = axum::serve(Listener(listener), app()) => Ok(served?),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = quit.recv() => Ok(()),
    }
}

/// The address to listen on. One that others could reach has to be wanted.
fn arguments() -> Result<SocketAddr, Box<dyn Error>> {
    let (mut listen, mut is_public) = (SocketAddr::from(([127, 0, 0, 1], 8001)), false);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--listen" => {
                listen = arguments
                    .next()
                    .ok_or("--listen wants ADDRESS:PORT")?
                    .parse()?
            }
            "--public" => is_public = true,
            _ => {
                return Err(format!(
                    "usage: kubelet [--listen ADDRESS:PORT] [--public]: {argument}"
                )
                .into());
            }
        }
    }
    if !listen.ip().is_loopback() && !is_public {
        return Err("an address that is not loopback needs --public: it runs commands".into());
    }
    Ok(listen)
}

fn app() -> Router {
    let seconds = Duration::from_secs(2);
    let server = Server::new().grace(seconds).watch(seconds);
    let app = Arc::new(App {
        server,
        tokens: Tokens::new(),
    });
    let pod = "/api/v1/namespaces/{namespace}/pods/{pod}";
    Router::new()
        .route("/version", get(|| async { Json(version()) }))
        .route("/version/", get(|| async { Json(version()) }))
        .route("/api", get(versions))
        .route("/api/", get(versions))
        .route("/apis", get(groups))
        .route("/apis/", get(groups))
        .route("/api/v1", get(|| async { Json(resources()) }))
        .route("/api/v1/pods", get(list_pods))
        .route("/api/v1/namespaces/{namespace}/pods", get(list_pods))
        .route(pod, get(get_pod))
        .route(&format!("{pod}/exec"), any(exec))
        .route(&format!("{pod}/attach"), any(attach))
        .route(&format!("{pod}/portforward"), any(port_forward))
        // As a container runtime: a URL is asked for here, and works once.
        .route("/cri/exec", get(prepare))
        .route("/exec/{token}", any(exec_prepared))
        .with_state(app)
        .layer(middleware::from_fn(no_foreign_pages))
        .layer(middleware::from_fn(log))
}

/// Any page that a browser shows could ask for a command to be run, over WebSocket. Browsers say
/// where they come from.
async fn no_foreign_pages(request: Request, next: Next) -> response::Response {
    match Origins::same_host().check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => Refusal(refusal).into_response(),
    }
}

/// Prints the request, its protocol and the status of its response on stderr.
async fn log(request: Request, next: Next) -> impl IntoResponse {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let protocol = request.headers().get(UPGRADE).cloned();
    let protocol = protocol.as_ref().and_then(|name| name.to_str().ok());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    eprintln!("{status} {} {method} {path}", protocol.unwrap_or("-"));
    response
}

/// What all requests share.
struct App {
    server: Server,
    tokens: Tokens<Options>,
}

async fn get_pod(Path(pod): Path<(String, String)>) -> Result<Json<Value>, Refusal> {
    find(&pod)?;
    Ok(Json(the_pod()))
}

/// Lists the pod, unless the selectors of fields name another. A watch tells of it and ends, as a
/// watch may: clients begin it again.
async fn list_pods(request: Request) -> Json<Value> {
    let query = request.uri().query().unwrap_or_default();
    let is_other = query.contains("metadata.name") && !query.contains("metadata.name%3Ddemo");
    let pods = if is_other { vec![] } else { vec![the_pod()] };
    let is_watch = ["watch=true", "watch=True", "watch=1"];
    if is_watch.iter().any(|watch| query.contains(watch)) {
        return Json(json!({"type": "ADDED", "object": the_pod()}));
    }
    Json(json!({
        "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": pods,
    }))
}

fn the_pod() -> Value {
    let is_true = |name: &str| json!({"type": name, "status": "True"});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(is_true);
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": "demo", "namespace": "default", "uid": UID, "resourceVersion": "1", "labels": {"app": "demo"},
        },
        "spec": {"containers": [{"name": "demo", "image": "none", "stdin": true}]},
        "status": {
            "phase": "Running", "podIP": "127.0.0.1", "conditions": conditions,
            "containerStatuses": [{
                "name": "demo", "image": "none", "imageID": "none", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    })
}

async fn exec(
    State(app): State<Arc<App>>,
    Path(pod): Path<(String, String)>,
    mut request: Request,
) -> Result<Answer, Refusal> {
    find(&pod)?;
    let options = options(&request)?;
    run_command(&app, &mut request, options)
}

fn run_command(app: &App, request: &mut Request, options: Options) -> Result<Answer, Refusal> {
    if options.command.is_empty() {
        let message = "you must specify at least one command for the container";
        return Err(Refusal(Status::bad_request(message)));
    }
    let run = |io| process::run(options.command, io);
    Ok(app.server.exec(request, options.streams, run))
}

async fn attach(
    State(app): State<Arc<App>>,
    Path(pod): Path<(String, String)>,
    mut request: Request,
) -> Result<Answer, Refusal> {
    find(&pod)?;
    let options = options(&request)?;
    let script = "echo attached; echo attached-err >&2; exec cat";
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let join = |io| async { process::run(command, io).await.map(drop) };
    Ok(app.server.attach(&mut request, options.streams, join))
}

async fn port_forward(
    State(app): State<Arc<App>>,
    Path(pod): Path<(String, String)>,
    mut request: Request,
) -> Result<Answer, Refusal> {
    find(&pod)?;
    let connect = |port| async move {
        let socket = match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(socket) => socket,
            Err(error) => TcpStream::connect(("::1", port)).await.map_err(|_| error)?,
        };
        socket.set_nodelay(true)?;
        Ok(socket)
    };
    let name = format!("demo, uid {UID}");
    Ok(app.server.port_forward(&mut request, name, connect))
}

/// What `Exec` of a container runtime does over gRPC: gives the path to ask next.
async fn prepare(State(app): State<Arc<App>>, request: Request) -> Result<String, Refusal> {
    let token = app.tokens.insert(options(&request)?);
    let token = token.map_err(|error| Refusal(Status::internal(error)))?;
    Ok(format!("/exec/{token}\n"))
}

async fn exec_prepared(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    mut request: Request,
) -> Result<Answer, Refusal> {
    let options = app.tokens.take(&token);
    let options = options.ok_or_else(|| Refusal(Status::not_found("no such token")))?;
    run_command(&app, &mut request, options)
}

fn find((namespace, name): &(String, String)) -> Result<(), Refusal> {
    if (namespace.as_str(), name.as_str()) == ("default", "demo") {
        return Ok(());
    }
    Err(Refusal(Status::not_found(format!(
        "pods {name:?} not found"
    ))))
}

fn options(request: &Request) -> Result<Options, Refusal> {
    let refuse = |why: String| Refusal(Status::bad_request(why));
    let options = Options::from_query(request.uri().query().unwrap_or_default())
        .map_err(|error| refuse(error.to_string()))?;
    match options.container.as_deref() {
        None | Some("demo") => Ok(options),
        Some(name) => Err(refuse(format!(
            "container {name} is not valid for pod demo"
        ))),
    }
}

async fn versions() -> Json<Value> {
    Json(json!({"kind": "APIVersions", "versions": ["v1"]}))
}

async fn groups() -> Json<Value> {
    Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
}

/// The kinds of things that there are, as far as kubectl has to know.
fn resources() -> Value {
    let pods = json!({
        "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list", "watch"],
        "shortNames": ["po"],
    });
    json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]})
}

fn version() -> Value {
    json!({"major": "1", "minor": "30", "gitVersion": "v1.30.0-spdy"})
}

const UID: &str = "3a7e4f0c-5a3b-4a6e-9a4c-d3a6b1a0c0de";
