//! Requests and replies without a protocol, as `client/raw.rs` describes them.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::Failure;

pub(crate) fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, Failure> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate)?],
            PrivateKeyDer::from_pem_file(key)?,
        )?;
    config.ticketer = ring::Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub(crate) async fn serve(tls: Option<TlsAcceptor>) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("{scheme}://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let tls = tls.clone();
        // How a connection ends is the client's to judge.
        tokio::spawn(async move {
            match tls {
                Some(tls) => answer(tls.accept(socket).await?).await,
                None => answer(socket).await,
            }
        });
    }
}

async fn answer(io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut connection = Connection {
        io,
        input: BytesMut::new(),
        output: Vec::new(),
    };
    loop {
        while connection.input.len() < HEAD {
            connection.read().await?;
        }
        let body = connection.input.get_u64();
        let reply = connection.input.get_u64();
        connection.body(body, reply == u64::MAX).await?;
        if reply != u64::MAX {
            connection.reply(reply).await?;
        }
    }
}

struct Connection<IO> {
    io: IO,
    input: BytesMut,
    /// Replies that are written together.
    output: Vec<u8>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// Reads more, after everything is written.
    async fn read(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.io.write_all(&self.output).await?;
            self.output.clear();
            self.io.flush().await?;
        }
        self.input.reserve(BYTES.len());
        match self.io.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Takes the body of a request, and returns it to the client if `echoes` is set.
    async fn body(&mut self, bytes: u64, echoes: bool) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            if self.input.is_empty() {
                self.read().await?;
            }
            let length = left.min(self.input.len() as u64) as usize;
            if echoes {
                self.io.write_all(&self.input[..length]).await?;
            }
            self.input.advance(length);
            left -= length as u64;
        }
        Ok(())
    }

    async fn reply(&mut self, bytes: u64) -> io::Result<()> {
        if bytes <= SHORT {
            self.output.extend_from_slice(&BYTES[..bytes as usize]);
            return Ok(());
        }
        let mut left = bytes;
        while left > 0 {
            let length = left.min(BYTES.len() as u64) as usize;
            self.io.write_all(&BYTES[..length]).await?;
            left -= length as u64;
        }
        self.io.flush().await
    }
}

/// The length of what comes before a body.
const HEAD: usize = 16;
/// The largest reply that waits for others to be written with it.
const SHORT: u64 = 4096;
static BYTES: [u8; 1 << 16] = [b'y'; 1 << 16];
