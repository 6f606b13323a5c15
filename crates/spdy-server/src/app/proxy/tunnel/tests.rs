use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The room of each transport in memory.
const ROOM: usize = 1024;

/// Returns the far ends of a tunnel, the client first, and the tunnel.
fn tunnel() -> (DuplexStream, DuplexStream, JoinHandle<End>) {
    let ((client, near), (application, back)) = (duplex(ROOM), duplex(ROOM));
    let tunnel = Tunnel::new(near, back, Passed::default(), HOUR);
    (client, application, tokio::spawn(tunnel))
}

async fn read_all(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    io.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test(start_paused = true)]
async fn the_end_of_each_side_is_passed_on_and_the_other_goes_on() {
    let (mut client, mut application, tunnel) = tunnel();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut application).await, b"question");
    // Much later than any side may take to end.
    sleep(HOUR / 2).await;
    let long = vec![7; 100_000];
    let (answered, written) = tokio::join!(read_all(&mut client), async {
        application.write_all(&long).await.unwrap();
        application.shutdown().await
    });
    written.unwrap();
    assert_eq!(answered, long);
    assert_eq!(tunnel.await.unwrap(), End::Whole);
}

#[tokio::test(start_paused = true)]
async fn a_client_may_go_on_after_the_end_of_the_application_and_not_be_silent_for_long() {
    let (mut client, mut application, tunnel) = tunnel();
    application.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"");
    for _ in 0..3 {
        sleep(ENDED * 9 / 10).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(application.read_u8().await.unwrap(), b'x');
    }
    let begun = Instant::now();
    assert_eq!(tunnel.await.unwrap(), End::Silent);
    assert_eq!(begun.elapsed(), ENDED);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let (mut client, mut application, tunnel) = tunnel();
    for _ in 0..3 {
        sleep(HOUR * 9 / 10).await;
        client.write_all(b"x").await.unwrap();
        application.read_u8().await.unwrap();
    }
    let begun = Instant::now();
    assert_eq!(tunnel.await.unwrap(), End::Silent);
    assert_eq!(begun.elapsed(), HOUR);
    assert_eq!(read_all(&mut client).await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_a_buffer_for_an_hour() {
    let (mut client, mut application, tunnel) = tunnel();
    let begun = Instant::now();
    let mut held = 0;
    while let Ok(written) = timeout(Duration::from_secs(1), application.write(&[7; 100])).await {
        held += written.unwrap();
    }
    assert!(held <= ROOM + BUFFER + ROOM, "{held}");
    // The other direction moves.
    let talking = tokio::spawn(async move {
        while client.write_u8(0).await.is_ok() {
            sleep(Duration::from_secs(60)).await;
        }
        client
    });
    let reading = tokio::spawn(async move { while application.read_u8().await.is_ok() {} });
    assert_eq!(tunnel.await.unwrap(), End::Stalled);
    assert!(begun.elapsed().abs_diff(HOUR) < Duration::from_secs(10));
    reading.await.unwrap();
    talking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_ends_the_tunnel() {
    let (client, mut application, tunnel) = tunnel();
    drop(client);
    // The client might have ended its direction alone. A byte shows that it takes none.
    application.write_all(b"answer").await.unwrap();
    assert_eq!(tunnel.await.unwrap(), End::Left);
    assert_eq!(read_all(&mut application).await, b"");
}

/// An application that fails when all it has sent was read, and takes nothing.
struct Resets(&'static [u8]);

impl AsyncRead for Resets {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.put_slice(std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resets {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_application_has_sent_before_it_broke_off_reaches_a_client_that_sends() {
    let (mut client, near) = duplex(ROOM);
    // It waits in the transport when the tunnel begins.
    client.write_all(&[0; ROOM]).await.unwrap();
    let sent: &[u8] = &[7; BUFFER];
    let tunnel = Tunnel::new(near, Resets(sent), Passed::default(), HOUR);
    let tunnel = tokio::spawn(tunnel);
    sleep(Duration::from_secs(1)).await;
    client.write_all(&[0; ROOM]).await.unwrap();
    assert_eq!(read_all(&mut client).await, sent);
    let begun = Instant::now();
    assert_eq!(
        tunnel.await.unwrap(),
        End::Silent,
        "the client has not ended"
    );
    assert!(begun.elapsed() <= LINGER);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_to_send_is_read_up_to_a_limit() {
    let (mut client, near) = duplex(ROOM);
    let tunnel = tokio::spawn(Tunnel::new(near, Resets(b"x"), Passed::default(), HOUR));
    let mut sent = 0;
    while client.write_all(&[0; ROOM]).await.is_ok() {
        sent += ROOM;
    }
    assert!((MOST..=MOST + 2 * BUFFER).contains(&sent), "{sent}");
    assert_eq!(tunnel.await.unwrap(), End::Broken);
}
