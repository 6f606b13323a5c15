//! A connection over WebSocket.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

/// Creates a WebSocket on an upgraded transport. A message of the peer can have up to `max_message`
/// bytes.
pub(crate) async fn socket<IO>(transport: IO, role: Role, max_message: usize) -> WebSocketStream<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    WebSocketStream::from_raw_socket(transport, role, Some(config)).await
}

/// How many bytes can wait for the transport: more than one message of this side.
const WRITE_BUFFER: usize = 1024 * 1024;

const READ_BUFFER: usize = 32 * 1024;
