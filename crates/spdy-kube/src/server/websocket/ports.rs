//! Port-forward over WebSocket without SPDY. Each port of the query has two channels: one for the
//! bytes of its connection, and one for errors.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_tungstenite::tungstenite::{Error, protocol::frame::coding::CloseCode};

use super::messages::{End, Presence, Receiver, Sender, Ticks, left, linger, split};
use crate::{
    BoxError, Ports,
    server::{forward::Forwarder, settings::Settings, taken::Taken},
    stdio::Stdin,
    websocket::{CLOSE, PIECE, QUEUE, Queue, Subprotocol, queue},
};

/// Serves one session, until it ends. What the ports take is added to `taken`.
///
/// The inputs, the outputs and the connections end independently. The WebSocket is closed when the
/// last output has ended. After that the connections still get the rest of their inputs.
pub(in crate::server) async fn serve(
    upgraded: OnUpgrade,
    settings: &Settings,
    subprotocol: Subprotocol,
    ports: Ports,
    forwarder: Forwarder,
    taken: Taken,
) -> io::Result<()> {
    let (mut sender, mut receiver) = split(upgraded, settings, subprotocol).await?;
    let (outputs, mut messages) = mpsc::channel(QUEUE);
    let mut connections = JoinSet::new();
    let mut inputs = Inputs::new(subprotocol);
    let forwarder = Arc::new(forwarder);
    for (port, channel) in ports.iter().copied().zip((0..).step_by(2)) {
        let (input, pieces) = queue();
        inputs.ports.push(input);
        let output = Output {
            channel,
            messages: outputs.clone(),
        };
        let (forwarder, taken) = (Arc::clone(&forwarder), taken.clone());
        let from = Stdin::channel(pieces);
        connections.spawn(async move { forward(&forwarder, port, from, output, &taken).await });
    }
    drop(outputs);
    let (arrived, presence) = watch::channel(None);
    {
        let reading = async {
            let end = read(&mut receiver, &mut inputs).await;
            arrived.send_replace(Some(end));
            match end {
                // The answer to a Close frame is written while the connection is read.
                End::Closed => _ = tokio::join!(inputs.finish(), receiver.exhaust()),
                // The inputs break off.
                End::Refused(_) | End::Lost => drop(inputs),
            }
        };
        let writing = write(
            &mut sender,
            &mut messages,
            &ports,
            settings,
            presence.clone(),
            &taken,
        );
        let (mut reading, mut writing) = (pin!(reading), pin!(writing));
        let mut is_reading = true;
        let written = loop {
            tokio::select! {
                () = &mut reading, if is_reading => is_reading = false,
                written = &mut writing => break written,
            }
        };
        if let Err(error) = written {
            tracing::debug!(target: "spdy", %error, "client of forwarded ports is gone");
            return Ok(());
        }
        let rest = async {
            if is_reading {
                reading.await;
            }
            while connections.join_next().await.is_some() {}
            taken.idle().await;
        };
        if matches!(*presence.borrow(), None | Some(End::Closed)) {
            taken.last(rest).await;
        }
    }
    let end = *presence.borrow();
    if let Some(End::Refused(code)) = end {
        // The connections break off, however long the client takes to read the reason.
        drop(connections);
        if sender.refuse(code).await.is_ok() {
            linger(sender, receiver).await;
        }
    }
    Ok(())
}

/// Sends what the ports send, until the last port has ended or the client is not read any more.
/// Then closes the WebSocket.
async fn write(
    sender: &mut Sender,
    messages: &mut mpsc::Receiver<Bytes>,
    ports: &Ports,
    settings: &Settings,
    presence: Presence,
    taken: &Taken,
) -> Result<(), Error> {
    let end = tokio::select! {
        sent = send(sender, messages, ports, settings.config.timeouts.probe) => {
            sent?;
            sender.close(CloseCode::Normal).await?;
            settings.session.told();
            return Ok(());
        }
        end = left(presence) => end,
    };
    match end {
        // The client reads no more, but that does not break the connections off.
        End::Closed => {
            let discard = async { while messages.recv().await.is_some() {} };
            taken.last(discard).await;
            Ok(())
        }
        End::Refused(_) | End::Lost => Ok(()),
    }
}

/// Sends what the ports send, until the last port has ended. While the client is not read, this
/// side cannot see its end. So it is sent a PING from time to time, which fails if the client is
/// gone.
async fn send(
    sender: &mut Sender,
    messages: &mut mpsc::Receiver<Bytes>,
    ports: &Ports,
    probe: Option<Duration>,
) -> Result<(), Error> {
    for (port, data) in ports.iter().zip((0..).step_by(2)) {
        for channel in [data, data + 1] {
            let mut message = BytesMut::with_capacity(3);
            message.put_u8(channel);
            message.put_u16_le(*port);
            sender.send(message.freeze()).await?;
        }
    }
    let mut ticks = Ticks::new(probe);
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => sender.send(message).await?,
                None => return Ok(()),
            },
            () = ticks.tick() => sender.ping().await?,
        }
    }
}

/// Reads until the client has closed or is gone.
async fn read(receiver: &mut Receiver, inputs: &mut Inputs) -> End {
    loop {
        match receiver.next().await {
            Ok(message) => inputs.take(message).await,
            Err(end) => return end,
        }
    }
}

/// The channels on which the client sends.
#[derive(Debug)]
struct Inputs {
    ports: Vec<Queue>,
    /// Whether the protocol can express the end of an input.
    has_close: bool,
}

impl Inputs {
    const fn new(subprotocol: Subprotocol) -> Self {
        Self {
            ports: Vec::new(),
            has_close: subprotocol.has_close(),
        }
    }

    /// Passes a message to its port. Waits while its queue is full, which stops the client with all
    /// its ports.
    async fn take(&mut self, mut message: Bytes) {
        let channel = message.get_u8();
        if channel == CLOSE && self.has_close {
            if let Some(input) = message.first().and_then(|&ended| self.input(ended)) {
                input.finish().await;
            }
            return;
        }
        let Some(input) = self.input(channel) else {
            return;
        };
        if message.len() <= PIECE {
            input.data(message).await;
            return;
        }
        // Otherwise each port could hold a message of the greatest length.
        for piece in message.chunks(PIECE) {
            input.data(Bytes::copy_from_slice(piece)).await;
        }
    }

    /// Returns the input of a data channel. The client sends nothing on error channels.
    fn input(&mut self, channel: u8) -> Option<&mut Queue> {
        let is_data = channel.is_multiple_of(2);
        self.ports
            .get_mut(usize::from(channel / 2))
            .filter(|_| is_data)
    }

    /// Ends all inputs, each after everything that is queued for it.
    async fn finish(mut self) {
        let all = self.ports.iter_mut().map(Queue::finish);
        futures_util::future::join_all(all).await;
    }
}

/// Sends the bytes of a port. When all clones are dropped, the port's output has ended.
#[derive(Clone, Debug)]
struct Output {
    /// The channel of the bytes. The next higher one is for errors.
    channel: u8,
    messages: mpsc::Sender<Bytes>,
}

impl Output {
    async fn tell(self, text: &str) {
        let mut message = BytesMut::with_capacity(1 + text.len());
        message.put_u8(self.channel + 1);
        message.put_slice(text.as_bytes());
        // An error means that the client is gone.
        _ = self.messages.send(message.freeze()).await;
    }
}

/// Connects to a port, and copies until both directions have ended, or one has failed.
async fn forward(forwarder: &Forwarder, port: u16, from: Stdin, to: Output, taken: &Taken) {
    let mut output = Some(to);
    let passing = pass(forwarder, port, from, &mut output, taken);
    let (text, _) = forwarder.text(port, passing).await;
    if let Some(output) = output.filter(|_| !text.is_empty()) {
        output.tell(&text).await;
    }
}

/// Connects and copies. Drops the output when it has ended.
async fn pass(
    forwarder: &Forwarder,
    port: u16,
    from: Stdin,
    output: &mut Option<Output>,
    taken: &Taken,
) -> Result<(), BoxError> {
    let Some(to) = output.clone() else {
        return Ok(());
    };
    let target = tokio::select! {
        target = forwarder.connect(port, taken) => target?,
        // The client is gone, so the connection has no purpose.
        () = to.messages.closed() => return Ok(()),
    };
    let (target_from, target_to) = tokio::io::split(target);
    let up = async {
        upload(from, target_to).await;
        Ok(())
    };
    let down = async {
        download(target_from, &to).await?;
        *output = None;
        drop(to);
        Ok(())
    };
    tokio::try_join!(up, down).map(drop)
}

/// Copies to the target, until the client has ended the input or is gone, or the target reads no
/// more.
async fn upload(mut from: Stdin, mut to: impl AsyncWrite + Unpin) {
    while let Some(piece) = from.next().await {
        let Ok(piece) = piece else {
            return;
        };
        if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    _ = to.shutdown().await;
}

/// Copies from the target until it has ended. A reset is an error, because only the error channel
/// can tell the client of it: the bytes might not be complete.
async fn download(mut from: impl AsyncRead + Unpin, to: &Output) -> Result<(), BoxError> {
    loop {
        let mut message = BytesMut::with_capacity(1 + PIECE);
        message.put_u8(to.channel);
        if from.read_buf(&mut message).await? == 0 {
            return Ok(());
        }
        if to.messages.send(message.freeze()).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise each port could keep the memory of a message of the greatest length.
    #[tokio::test]
    async fn a_long_message_is_handed_over_in_pieces_of_their_own() {
        let mut inputs = Inputs::new(Subprotocol::V4);
        let (queue, pieces) = queue();
        inputs.ports.push(queue);
        let mut stdin = Stdin::channel(pieces);
        let mut message = BytesMut::zeroed(1 + 10 * PIECE + 7);
        message[1..].fill(9);
        let taking = async {
            inputs.take(message.freeze()).await;
            drop(inputs);
        };
        let reading = async {
            let mut lengths = Vec::new();
            while let Some(Ok(piece)) = stdin.next().await {
                assert!(piece.is_unique() && piece.iter().all(|byte| *byte == 9));
                lengths.push(piece.len());
            }
            lengths
        };
        let ((), lengths) = tokio::join!(taking, reading);
        assert_eq!(lengths, [&[PIECE; 10][..], &[7]].concat());
    }
}
