//! A connection over WebSocket.

use std::io;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Waits for the transport. A message of the client may have `max_message` bytes.
pub(super) async fn socket(upgraded: OnUpgrade, max_message: usize) -> io::Result<Socket> {
    let transport = upgraded.await.map_err(io::Error::other)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    let transport = TokioIo::new(transport);
    Ok(WebSocketStream::from_raw_socket(transport, Role::Server, Some(config)).await)
}

/// What may wait for the transport, in bytes: more than one message of ours.
const WRITE_BUFFER: usize = 1024 * 1024;

const READ_BUFFER: usize = 32 * 1024;
