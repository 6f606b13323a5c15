//! Exec, attach and port-forward over each sub-protocol of WebSocket, with raw messages, and
//! requests that are refused.

mod commands;
mod ports;
mod refusals;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use spdy_kube::Server;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    commands::{ALL, five_bytes},
    support::{SOON, echo_port, forward_server},
};

/// The parts of a conversation that depend on the sub-protocol.
#[derive(Clone, Copy, Debug)]
struct Form {
    /// `None` if the client names no sub-protocol.
    name: Option<&'static str>,
    is_base64: bool,
    /// Whether the outcome is JSON.
    is_json: bool,
}

const COMMAND: [Form; 6] = [
    form(None, false, false),
    form(Some("channel.k8s.io"), false, false),
    form(Some("base64.channel.k8s.io"), true, false),
    form(Some("v4.channel.k8s.io"), false, true),
    form(Some("v4.base64.channel.k8s.io"), true, true),
    form(Some("v5.channel.k8s.io"), false, true),
];

const FORWARD: [Form; 4] = [
    form(None, false, false),
    form(Some("v4.channel.k8s.io"), false, false),
    form(Some("v4.base64.channel.k8s.io"), true, false),
    form(Some("v5.channel.k8s.io"), false, false),
];

const fn form(name: Option<&'static str>, is_base64: bool, is_json: bool) -> Form {
    Form {
        name,
        is_base64,
        is_json,
    }
}

/// A client that sends and receives messages.
struct Client<IO> {
    socket: WebSocketStream<IO>,
    form: Form,
}

async fn open(address: SocketAddr, path: &str, form: Form) -> Client<TcpStream> {
    let transport = TcpStream::connect(address).await.unwrap();
    Client::open(transport, path, form).await
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Client<IO> {
    async fn open(transport: IO, path: &str, form: Form) -> Self {
        let mut request = format!("ws://a{path}").into_client_request().unwrap();
        if let Some(name) = form.name {
            let name = HeaderValue::from_static(name);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
        }
        let (socket, response) = client_async(request, transport).await.unwrap();
        let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
        let chosen = chosen.map(|name| name.to_str().unwrap());
        assert_eq!(chosen, form.name, "the first one is taken");
        Self { socket, form }
    }

    async fn send(&mut self, channel: u8, payload: &[u8]) {
        let message = match self.form.is_base64 {
            true => Message::text(format!("{}{}", char::from(b'0' + channel), base64(payload))),
            false => Message::binary([&[channel], payload].concat()),
        };
        self.socket.send(message).await.unwrap();
    }

    /// Returns the channel and the payload of the next message, or how the server has closed.
    async fn next(&mut self) -> Result<(u8, Vec<u8>), CloseCode> {
        loop {
            let message = timeout(SOON, self.socket.next()).await;
            match message
                .expect("something comes soon")
                .expect("there is an end")
            {
                Ok(Message::Text(text)) if self.form.is_base64 => {
                    let bytes = text.as_bytes();
                    return Ok((bytes[0] - b'0', unbase64(&bytes[1..])));
                }
                Ok(Message::Binary(bytes)) if !self.form.is_base64 => {
                    return Ok((bytes[0], bytes[1..].to_vec()));
                }
                Ok(Message::Close(frame)) => return Err(frame.expect("there is a code").code),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns everything until the end, by channel, and how the server has closed.
    async fn read(&mut self) -> (Vec<Vec<u8>>, CloseCode) {
        let mut channels = vec![Vec::new(); 64];
        loop {
            match self.next().await {
                Ok((channel, payload)) => channels[usize::from(channel)].extend(payload),
                Err(code) => return (channels, code),
            }
        }
    }

    /// Takes the messages with port numbers, which come first.
    async fn announced(&mut self, ports: &[u16]) {
        for (place, port) in ports.iter().enumerate() {
            for channel in [2 * place, 2 * place + 1] {
                let expected = (channel as u8, port.to_le_bytes().to_vec());
                assert_eq!(self.next().await, Ok(expected));
            }
        }
    }
}

/// An implementation that is independent of the tested code.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let is_padding = place > chunk.len() as u32;
            text.push(if is_padding {
                '='
            } else {
                char::from(DIGITS[digit as usize])
            });
        }
    }
    text
}

fn unbase64(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for group in text.chunks(4) {
        let padding = group.iter().filter(|&&digit| digit == b'=').count();
        let bits = group.iter().fold(0, |bits, digit| {
            let value = DIGITS.iter().position(|found| found == digit).unwrap_or(0);
            (bits << 6) | value as u32
        });
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    bytes
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A message of a channel that does not exist is ignored, in either form, and takes no memory.
#[tokio::test]
async fn channels_that_nobody_has_do_no_harm() {
    for form in COMMAND {
        let mut client = open(five_bytes(0).await, ALL, form).await;
        for channel in [1, 2, 3, 5, 9, 63] {
            client.send(channel, &[7; 100_000]).await;
        }
        client
            .socket
            .send(Message::Binary(Bytes::new()))
            .await
            .unwrap();
        client.socket.send(Message::text("/")).await.unwrap();
        client.send(0, b"hello").await;
        let (channels, end) = client.read().await;
        assert_eq!(
            (&*channels[1], end),
            (&b"HELLO"[..], CloseCode::Normal),
            "{form:?}"
        );
    }
    let target = echo_port().await;
    for form in FORWARD {
        let path = format!("/forward?ports={target}");
        let mut client = open(forward_server(Server::new()).await, &path, form).await;
        client.announced(&[target]).await;
        for channel in [1, 2, 3, 63] {
            client.send(channel, b"unknown").await;
        }
        client.send(0, b"known").await;
        assert_eq!(client.next().await, Ok((0, b"known".to_vec())), "{form:?}");
    }
}
