//! Requests that ask for a place on several threads.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Builder,
};

use super::{super::super::Proxy, *};

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// Opens a connection that has a place for every request.
async fn open() -> io::Result<DuplexStream> {
    let (near, mut far) = duplex(1024);
    tokio::spawn(async move {
        _ = far.write_all(SETTINGS).await;
        while let Ok(1..) = far.read(&mut [0; 1024]).await {}
    });
    Ok(near)
}

/// Returns how often an address is full.
async fn ask_often(pool: Arc<Shared>) -> usize {
    let mut full = 0;
    for _ in 0..5000 {
        match pool.ask(pool.target.turn()).await {
            Ok(Asked::Leased(_)) => {}
            Ok(Asked::Full(_)) => full += 1,
            Err(failure) => panic!("{failure}"),
        }
    }
    full
}

#[test]
fn an_address_is_not_full_because_others_look_for_a_place_at_the_same_moment() {
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_time().build().unwrap();
    let mut proxy = Proxy::new("h2://a.test".parse().unwrap()).connector(open);
    proxy.connect_timeout = Duration::from_secs(60);
    let pool = Arc::new(Shared::new(Target::alone(proxy)));
    let asking: Vec<_> = (0..4)
        .map(|_| runtime.spawn(ask_often(Arc::clone(&pool))))
        .collect();
    for one in asking {
        assert_eq!(runtime.block_on(one).unwrap(), 0);
    }
}
