//! Responses that the application breaks off.

use super::*;

/// The body of a request that never comes.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        std::task::Poll::Pending
    }
}

/// Serves HTTP/2 on a connection: each response is four bytes, and then a reset.
async fn cut_short(io: DuplexStream, announced: Option<u64>, reason: h2::Reason) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut response = Response::new(());
        if let Some(length) = announced {
            let fields = response.headers_mut();
            fields.insert("content-length", length.into());
        }
        let mut send = respond.send_response(response, false).unwrap();
        send.send_data(Bytes::from_static(b"part"), false).unwrap();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            send.send_reset(reason);
        });
    }
}

/// Returns what a client gets of such a response to a request with this body.
async fn read(announced: Option<u64>, body: Body) -> Result<Bytes, axum::Error> {
    let (options, mut connections) = front("h2://a");
    let request = Request::post("/").body(body).unwrap();
    let answer = tokio::spawn(proxy(options).oneshot(request));
    let io = connections.recv().await.unwrap();
    tokio::spawn(cut_short(io, announced, h2::Reason::NO_ERROR));
    let response = answer.await.unwrap().unwrap();
    let whole = response.into_body().collect().await?;
    Ok(whole.to_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_cut_short_with_no_error_is_an_error() {
    let endless = || Body::new(Endless);
    for announced in [None, Some(9)] {
        read(announced, Body::empty()).await.unwrap_err();
    }
    read(Some(9), endless()).await.unwrap_err();
    // It may be whole.
    for announced in [None, Some(4)] {
        assert_eq!(read(announced, endless()).await.unwrap(), "part");
    }
}

/// A client that got these codes would look for the mistake in its request, or send it again.
#[tokio::test(start_paused = true)]
async fn what_an_application_says_in_a_reset_is_not_said_to_the_client() {
    for reason in [h2::Reason::PROTOCOL_ERROR, h2::Reason::REFUSED_STREAM] {
        let (options, mut connections) = front("h2://a");
        let (near, far) = duplex(65536);
        serve(far, proxy(options));
        let (client, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://a/").body(()).unwrap();
        let mut client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        tokio::spawn(cut_short(connections.recv().await.unwrap(), None, reason));
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "part");
        let error = body.data().await.unwrap().unwrap_err();
        assert!(error.is_remote() && error.is_reset(), "{error}");
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    }
}
