//! Requests and replies without a protocol: the least that bytes cost over TCP and TLS.
//!
//! A request is the length of its body and the length of its reply, both as 64 bits, and its body.
//! If the length of the reply is the largest number, the reply is the body.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::Semaphore,
    task::JoinSet,
};

use crate::{
    Failure,
    transport::{self, Transport},
};

/// What is sent over each connection, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) is_tls: bool,
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) at_once: usize,
    /// The number of requests over all connections.
    pub(crate) requests: usize,
    pub(crate) upload: u64,
    /// The length of each reply. `u64::MAX` asks for the body.
    pub(crate) reply: u64,
}

impl Load {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            connections.spawn(self.connection());
        }
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        println!("done");
        Ok(())
    }

    async fn connection(self) -> Result<(), Failure> {
        let io: Box<dyn Transport> = if self.is_tls {
            let connector = transport::connector(None, true)?;
            Box::new(transport::tls(&connector, self.address).await?)
        } else {
            Box::new(transport::tcp(self.address).await?)
        };
        let (reader, writer) = split(io);
        let places = Semaphore::new(self.at_once);
        let requests = self.requests / self.connections;
        tokio::try_join!(
            self.send(writer, &places, requests),
            self.receive(reader, &places, requests)
        )?;
        Ok(())
    }

    async fn send(
        self,
        mut io: WriteHalf<Box<dyn Transport>>,
        places: &Semaphore,
        requests: usize,
    ) -> Result<(), Failure> {
        let mut left = requests;
        let mut heads = Vec::new();
        while left > 0 {
            places.acquire().await?.forget();
            let free = places.available_permits().min(left - 1);
            let more = places.forget_permits(free);
            left -= 1 + more;
            heads.clear();
            for _ in 0..=more {
                heads.extend_from_slice(&self.upload.to_be_bytes());
                heads.extend_from_slice(&self.reply.to_be_bytes());
                // A short body is written with its head, a long one by itself.
                if self.upload <= SHORT {
                    heads.resize(heads.len() + self.upload as usize, b'x');
                }
            }
            io.write_all(&heads).await?;
            if self.upload > SHORT {
                for _ in 0..=more {
                    self.body(&mut io).await?;
                }
            }
            io.flush().await?;
        }
        Ok(())
    }

    async fn body(self, io: &mut WriteHalf<Box<dyn Transport>>) -> Result<(), Failure> {
        let mut left = self.upload;
        while left > 0 {
            let length = left.min(BYTES.len() as u64);
            io.write_all(&BYTES[..length as usize]).await?;
            left -= length;
        }
        Ok(())
    }

    async fn receive(
        self,
        mut io: ReadHalf<Box<dyn Transport>>,
        places: &Semaphore,
        requests: usize,
    ) -> Result<(), Failure> {
        let each = if self.reply == u64::MAX {
            self.upload
        } else {
            self.reply
        };
        let mut buffer = vec![0; 1 << 16];
        let (mut received, mut done) = (0, 0);
        while done < requests as u64 {
            match io.read(&mut buffer).await? {
                0 => return Err("the server has ended the connection".into()),
                read => received += read as u64,
            }
            let complete = received / each;
            places.add_permits((complete - done) as usize);
            done = complete;
        }
        Ok(())
    }
}

/// The largest body that is written with its head.
const SHORT: u64 = 4096;
static BYTES: [u8; 1 << 16] = [b'x'; 1 << 16];
