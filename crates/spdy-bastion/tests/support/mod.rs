//! A bastion in front of an API server of the test, and clients of the bastion.

#![allow(dead_code, reason = "no test file uses all of it")]

pub(crate) mod api;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use spdy_bastion::{Bastion, Config, Kubeconfig, KubeconfigOptions};
use spdy_kube::{
    BoxError, Options, Status, Streams,
    client::{Client, ClientError, Remote, Transport, request},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use self::api::Api;

/// A test that takes longer than this hangs, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A folder that is removed when this is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("spdy-bastion-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A bastion and the API server behind it.
pub(crate) struct Test {
    pub(crate) api: Api,
    /// `None` if it is another process.
    pub(crate) bastion: Option<Bastion>,
    pub(crate) address: SocketAddr,
    pub(crate) folder: Folder,
    pub(crate) token: Option<String>,
    client: Option<Arc<ClientConfig>>,
}

impl Test {
    /// Starts both. `change` changes the configuration.
    pub(crate) async fn start(change: impl FnOnce(&mut Config, &Folder)) -> Self {
        Self::in_front_of(Api::start().await, change).await
    }

    pub(crate) async fn in_front_of(api: Api, change: impl FnOnce(&mut Config, &Folder)) -> Self {
        let folder = Folder::new();
        let path = folder.write("upstream", &api.kubeconfig());
        let upstream = Kubeconfig::load(&path, KubeconfigOptions::default()).unwrap();
        let mut config = Config::new(upstream);
        config.listen.set_port(0);
        config.recordings = folder.0.join("recordings");
        config.audit = Some(folder.0.join("audit"));
        change(&mut config, &folder);
        let bastion = Bastion::start(config).await.unwrap();
        let printed = bastion.kubeconfig();
        let cluster = field(printed, "  cluster: ");
        let client = cluster["certificate-authority-data"].as_str().map(|data| {
            let pem = BASE64_STANDARD.decode(data).unwrap();
            client_config(&pem, None)
        });
        let token = field(printed, "  user: ")["token"]
            .as_str()
            .map(str::to_owned);
        Self {
            api,
            address: bastion.address(),
            bastion: Some(bastion),
            folder,
            token,
            client,
        }
    }

    /// Returns the client of a bastion without TLS that is another process.
    pub(crate) fn of_program(api: Api, address: SocketAddr) -> Self {
        Self {
            api,
            bastion: None,
            address,
            folder: Folder::new(),
            token: None,
            client: None,
        }
    }

    /// Makes a connection to the bastion, with TLS if it has TLS.
    pub(crate) fn connect(
        &self,
    ) -> impl Future<Output = Result<TokioIo<Box<dyn Io>>, BoxError>> + Send + use<> {
        connect(self.address, self.client.clone())
    }

    /// Makes a connection to the bastion that offers these protocols.
    pub(crate) async fn connect_with(&self, protocols: &[&[u8]]) -> Box<dyn Io> {
        let mut client = ClientConfig::clone(self.client.as_ref().unwrap());
        client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let io = connect(self.address, Some(Arc::new(client))).await;
        io.unwrap().into_inner()
    }

    /// Sets the certificates that clients trust, and the certificate of clients.
    pub(crate) fn trust(&mut self, client: Arc<ClientConfig>) {
        self.client = Some(client);
    }

    /// Sends a request with the token of the owner.
    pub(crate) async fn get(&self, target: &str) -> Response<Bytes> {
        self.send(Request::get(target), &[]).await
    }

    /// Sends a request with the token of the owner, unless there is another one, and more fields.
    pub(crate) async fn send(
        &self,
        request: http::request::Builder,
        fields: &[(&str, &str)],
    ) -> Response<Bytes> {
        let mut request = request.body(Full::<Bytes>::default()).unwrap();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).unwrap());
        }
        self.authorize(&mut request);
        let (mut sender, connection) = http1::handshake(self.connect().await.unwrap())
            .await
            .unwrap();
        tokio::spawn(connection.with_upgrades());
        let response = timeout(SOON, sender.send_request(request))
            .await
            .unwrap()
            .unwrap();
        let (head, body) = response.into_parts();
        let body = timeout(SOON, body.collect())
            .await
            .unwrap()
            .unwrap()
            .to_bytes();
        Response::from_parts(head, body)
    }

    pub(crate) fn authorize<B>(&self, request: &mut Request<B>) {
        if let Some(token) = &self.token
            && !request.headers().contains_key("authorization")
        {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            request.headers_mut().insert("authorization", value);
        }
        if !request.headers().contains_key("host") {
            let host = HeaderValue::from_str(&self.address.to_string()).unwrap();
            request.headers_mut().insert("host", host);
        }
    }

    /// Asks for a command in the container `demo` of the pod `demo`.
    pub(crate) async fn exec(
        &self,
        command: &[&str],
        streams: Streams,
    ) -> Result<Remote, ClientError> {
        self.exec_over(Transport::WebSocketFirst, command, streams)
            .await
    }

    pub(crate) async fn exec_over(
        &self,
        transport: Transport,
        command: &[&str],
        streams: Streams,
    ) -> Result<Remote, ClientError> {
        let mut options = Options::default();
        options.command = command
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        options.container = Some("demo".to_owned());
        options.streams = streams;
        let query = options.to_query();
        let target = format!("/api/v1/namespaces/default/pods/demo/exec?{query}");
        let exec = self.onward(&target);
        timeout(SOON, self.kube(transport).exec(exec, streams))
            .await
            .unwrap()
    }

    /// Returns a request for streams.
    pub(crate) fn onward(&self, target: &str) -> Request<()> {
        let url = format!("http://{}{target}", self.address);
        let mut request = request(&url.parse().unwrap());
        self.authorize(&mut request);
        request
    }

    pub(crate) fn kube(&self, transport: Transport) -> Client<impl Fn() -> Connecting + use<>> {
        let (address, client) = (self.address, self.client.clone());
        let connect = move || -> Connecting { Box::pin(connect(address, client.clone())) };
        Client::new(connect).transport(transport)
    }

    /// Waits until the audit file has a number of lines, and returns all.
    pub(crate) async fn audit(&self, lines: usize) -> Vec<Value> {
        audit(&self.folder.0.join("audit"), lines).await
    }

    /// Returns the text of a recording.
    pub(crate) fn recording(&self, line: &Value) -> String {
        let name = line["recording"].as_str().unwrap();
        fs::read_to_string(self.folder.0.join("recordings").join(name)).unwrap()
    }
}

/// Waits until an audit file has a number of lines, and returns all.
pub(crate) async fn audit(path: &Path, lines: usize) -> Vec<Value> {
    let whole = async {
        loop {
            let text = fs::read_to_string(path).unwrap_or_default();
            if text.lines().count() >= lines && text.ends_with('\n') {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let text = timeout(SOON, whole).await.expect("audit lines come soon");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the JSON behind the start of a line of a kubeconfig.
fn field(text: &str, start: &str) -> Value {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(start))
        .unwrap();
    serde_json::from_str(line).unwrap()
}

/// A connection that is being made.
type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<Box<dyn Io>>, BoxError>> + Send>>;

/// Any transport.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

async fn connect(
    address: SocketAddr,
    client: Option<Arc<ClientConfig>>,
) -> Result<TokioIo<Box<dyn Io>>, BoxError> {
    let socket = TcpStream::connect(address).await?;
    let Some(client) = client else {
        return Ok(TokioIo::new(Box::new(socket)));
    };
    let name = ServerName::try_from("localhost")?;
    let secured = TlsConnector::from(client).connect(name, socket).await?;
    Ok(TokioIo::new(Box::new(secured)))
}

/// Returns a configuration that trusts the certificates in PEM.
pub(crate) fn client_config(
    pem: &[u8],
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        roots.add(root.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate], key)
            .unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// Reads an output to its end.
pub(crate) async fn read(output: &mut Option<impl AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    let reading = output.as_mut().unwrap().read_to_string(&mut text);
    timeout(SOON, reading)
        .await
        .expect("output ends soon")
        .unwrap();
    text
}

/// Waits for the outcome.
pub(crate) async fn outcome(remote: Remote) -> Status {
    timeout(SOON, remote.outcome())
        .await
        .expect("outcome comes soon")
        .unwrap()
}

/// Sends bytes to a bastion without TLS, and returns what it answers until it closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    _ = timeout(SOON, socket.read_to_end(&mut text))
        .await
        .expect("bastion closes soon");
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) const OUTPUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: false,
    tty: false,
};

pub(crate) const INPUT: Streams = Streams {
    stdin: true,
    ..OUTPUT
};

pub(crate) const TTY: Streams = Streams { tty: true, ..INPUT };
