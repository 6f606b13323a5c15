//! A connection over WebSocket.

use std::io;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Waits for the transport.
pub(super) async fn socket(upgraded: OnUpgrade) -> io::Result<Socket> {
    let transport = upgraded.await.map_err(io::Error::other)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let transport = TokioIo::new(transport);
    Ok(WebSocketStream::from_raw_socket(transport, Role::Server, Some(config)).await)
}

/// A message of the client is not longer, in octets. kubectl sends 32 KiB.
const MAX_MESSAGE: usize = 1024 * 1024;

const READ_BUFFER: usize = 32 * 1024;
