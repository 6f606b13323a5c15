//! How much a client keeps of what a server says.

mod support;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use spdy_kube::{
    Status, Streams,
    client::{self, Client, ClientError, CopyError, Transport},
};
use spdy_session::{HeaderBlock, Version};
use spdy_tower::upgrade;
use tokio::{io::AsyncWriteExt, time::timeout};

use self::support::{
    SOON,
    wires::{Wires, in_memory},
};

/// Serves a command over SPDY that says these texts: the outcome, and each of its outputs.
async fn says(mut request: Request<Incoming>, texts: [Vec<u8>; 3]) -> Response<String> {
    let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
    let name = HeaderValue::from_static("v4.channel.k8s.io");
    let headers = response.headers_mut();
    headers.insert("x-stream-protocol-version", name);
    tokio::spawn(async move {
        let transport = upgraded.await.unwrap();
        let (_session, mut incoming, driver) =
            spdy_session::server(transport, Version::V3_1, spdy_kube::config());
        tokio::spawn(driver);
        let mut streams = Vec::new();
        for _ in 0..3 {
            let stream = incoming.accept().await.unwrap();
            streams.push(stream.send_reply(HeaderBlock::new()).unwrap());
        }
        // The error stream is the first one, and is written last.
        for (stream, bytes) in streams.iter_mut().zip(&texts).rev() {
            // The client may want no more.
            _ = stream.write_all(bytes).await;
            _ = stream.shutdown().await;
        }
        _ = incoming.accept().await;
    });
    response
}

fn ask<T>(_: T) -> Request<()> {
    client::request(&"http://pod/exec".parse().unwrap())
}

/// The longest outcome, in bytes.
const MAX_STATUS: usize = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn an_outcome_of_more_than_a_mebibyte_is_not_read_to_its_end() {
    let status = Status::not_found("pods \"x\" not found");
    for length in [MAX_STATUS, MAX_STATUS + 1, 3 * MAX_STATUS] {
        let json = status.to_json();
        let outcome = (" ".repeat(length - json.len()) + &json).into_bytes();
        let way = in_memory(&Wires::default(), move |request| {
            says(request, [outcome.clone(), Vec::new(), Vec::new()])
        });
        let client = Client::new(way).transport(Transport::Spdy);
        let streams = Streams {
            stdout: true,
            stderr: true,
            ..Streams::default()
        };
        let remote = client.exec(ask(()), streams).await.unwrap();
        let outcome = timeout(SOON, remote.outcome()).await.expect("it ends");
        if length == MAX_STATUS {
            assert_eq!(outcome.unwrap(), status);
        } else {
            assert!(
                matches!(outcome, Err(ClientError::Status(_))),
                "{outcome:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_what_tar_says_64_kib_are_kept() {
    let outcome = Status::internal("tar has ended with 2").to_json();
    for (length, kept) in [(65_536, 65_536), (65_537, 65_536), (1 << 20, 65_536)] {
        let said = vec![b'x'; length];
        let outcome = outcome.clone().into_bytes();
        let way = in_memory(&Wires::default(), move |request| {
            says(
                request,
                [outcome.clone(), b"archive".to_vec(), said.clone()],
            )
        });
        let client = Client::new(way).transport(Transport::Spdy);
        let mut archive = Vec::new();
        let copied = client.copy_from(ask, "x", &mut archive, |_| {});
        let failed = timeout(SOON, copied).await.expect("it ends").unwrap_err();
        let CopyError::Tar { said, .. } = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(said.len(), kept);
        // What it says does not hold up the archive.
        assert_eq!(archive, b"archive");
    }
}
