//! The program `spdy-server`, used by a client of this workspace over TLS and in plain text, in
//! every version.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use spdy_frame::{HeaderBlock, Version};
use spdy_session::{Config, Driver, OpenOptions, Received, RecvStream, Session};
use spdy_tests::process::Server;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{JoinHandle, JoinSet},
};

/// A session with the program.
struct Client {
    session: Session,
    version: Version,
    driver: JoinHandle<Result<(), spdy_session::SessionError>>,
}

/// A whole response.
struct Reply {
    head: HeaderBlock,
    body: Vec<u8>,
    trailers: Option<HeaderBlock>,
}

impl Client {
    fn of<IO>(io: IO, version: Version) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (session, _pushes, driver): (_, _, Driver<IO>) =
            spdy_session::client(io, version, Config::default());
        let driver = tokio::spawn(driver);
        Self {
            session,
            version,
            driver,
        }
    }

    /// One in plain text, one over TLS.
    async fn both(server: &Server, version: Version) -> [Self; 2] {
        let plain = Self::of(server.connect().await, version);
        let tls = Self::of(server.connect_tls(version).await, version);
        [plain, tls]
    }

    fn head(&self, method: &str, path: &str) -> HeaderBlock {
        let names = match self.version {
            Version::V2 => ["method", "url", "version", "host", "scheme"],
            Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
        };
        let values = [method, path, "HTTP/1.1", "localhost", "http"];
        let mut head = HeaderBlock::new();
        for (name, value) in names.into_iter().zip(values) {
            head.append(name, value).unwrap();
        }
        head
    }

    async fn begin(&self, path: &str) -> RecvStream {
        let how = OpenOptions::new().fin(true);
        self.session
            .open(self.head("GET", path), how)
            .await
            .unwrap()
            .split()
            .0
    }

    async fn get(&self, path: &str) -> Reply {
        Reply::read(self.begin(path).await).await
    }

    async fn post(&self, path: &str, body: Bytes) -> Reply {
        let stream = self
            .session
            .open(self.head("POST", path), OpenOptions::default())
            .await
            .unwrap();
        let (receive, mut send) = stream.split();
        let upload = async {
            for piece in body.chunks(10_000) {
                send.ready().await.unwrap();
                send.send_data(body.slice_ref(piece), false).unwrap();
            }
            send.finish().unwrap();
        };
        tokio::join!(Reply::read(receive), upload).0
    }
}

impl Reply {
    async fn read(mut receive: RecvStream) -> Self {
        let head = receive.response_headers().await.unwrap();
        let (mut body, mut trailers) = (Vec::new(), None);
        while let Some(received) = receive.next().await {
            match received.unwrap() {
                Received::Data(piece) => body.extend_from_slice(&piece),
                Received::Headers(block) => trailers = Some(block),
            }
        }
        Self {
            head,
            body,
            trailers,
        }
    }

    fn status(&self) -> &str {
        let status = self.head.get(":status").or_else(|| self.head.get("status"));
        str::from_utf8(status.unwrap()).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        str::from_utf8(self.head.get(name).unwrap()).unwrap()
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A server for plain text of the version. Field 3 does not tell SPDY/3 from SPDY/3.1.
fn server(version: Version) -> Server {
    match version {
        Version::V3 => Server::start(&["--plain-version", "spdy/3"]),
        Version::V2 | Version::V3_1 => Server::start(&[]),
    }
}

#[tokio::test]
async fn c001_c007_pages_downloads_and_uploads_come_whole() {
    for version in Version::ALL {
        let server = server(version);
        for client in Client::both(&server, version).await {
            let page = client.get("/").await;
            assert_eq!(page.status(), "200");
            let shown = String::from_utf8(page.body).unwrap();
            assert!(
                shown.contains(&version.token().to_uppercase()),
                "{version}: {shown}"
            );

            let bytes = client.get("/bytes/3000000").await;
            assert_eq!(bytes.body.len(), 3_000_000);
            assert_eq!(digest(&bytes.body), bytes.header("x-sha256"));

            let echo = client.post("/echo", bytes.body.clone().into()).await;
            assert!(
                echo.body == bytes.body,
                "{version}: {} bytes came back",
                echo.body.len()
            );
            assert_eq!(
                client.post("/sink", bytes.body.into()).await.body,
                b"3000000\n"
            );
        }
    }
}

#[tokio::test]
async fn what_http_can_do_besides_comes_through() {
    for version in Version::ALL {
        let server = server(version);
        for client in Client::both(&server, version).await {
            assert_eq!(client.get("/hello").await.body.len(), 100);
            assert_eq!(client.get("/status/404").await.status(), "404");
            assert_eq!(client.get("/status/204").await.body, b"");
            assert_eq!(client.get("/slow/20").await.status(), "200");
            let cookies = client.get("/cookies").await;
            assert_eq!(cookies.header("set-cookie").split('\0').count(), 2, "c142");
            let trailers = client.get("/trailers").await;
            let block = trailers.trailers.expect("there is a trailer");
            assert_eq!(
                block.get("x-checksum"),
                Some(digest(&trailers.body).as_bytes()),
                "c110"
            );
        }
    }
}

#[tokio::test]
async fn a_hundred_requests_at_once_are_answered() {
    for version in Version::ALL {
        let server = server(version);
        for client in Client::both(&server, version).await {
            let mut requests = JoinSet::new();
            for bytes in 0..100 {
                let receive = client.begin(&format!("/bytes/{}", bytes * 500)).await;
                requests.spawn(async move { (bytes, Reply::read(receive).await) });
            }
            while let Some(answered) = requests.join_next().await {
                let (bytes, reply) = answered.unwrap();
                assert_eq!(reply.body.len(), bytes * 500);
                assert_eq!(digest(&reply.body), reply.header("x-sha256"));
            }
        }
    }
}

#[tokio::test]
async fn c094_c095_sigterm_in_mid_download_loses_no_byte() {
    const BYTES: usize = 5_000_000;
    for version in Version::ALL {
        let server = server(version);
        let clients = Client::both(&server, version).await;
        let mut downloads = Vec::new();
        for client in &clients {
            let mut receive = client.begin(&format!("/bytes/{BYTES}")).await;
            let head = receive.response_headers().await.unwrap();
            // The transfer has begun, and the client reads no more of it for now: it is in the
            // middle.
            let Some(Ok(Received::Data(first))) = receive.next().await else {
                panic!("no payload came");
            };
            downloads.push((receive, head, first.to_vec()));
        }
        server.signal("TERM");
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (mut receive, head, mut body) in downloads {
            while let Some(received) = receive.next().await {
                let Received::Data(piece) = received.unwrap() else {
                    continue;
                };
                body.extend_from_slice(&piece);
            }
            assert_eq!(body.len(), BYTES);
            assert_eq!(digest(&body).as_bytes(), head.get("x-sha256").unwrap());
        }
        for client in clients {
            client
                .session
                .closed()
                .await
                .expect("the session ends in order");
            client.driver.await.unwrap().unwrap();
        }
        assert!(server.ended(Duration::from_secs(60)).await.success());
    }
}
