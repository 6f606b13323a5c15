//! How connections begin.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{Instant, sleep},
};

use super::{begin::FIRST_WORD, *};
use crate::{negotiate::Protocol, shutdown::Lifecycle};

#[tokio::test(start_paused = true)]
async fn the_proxy_header_and_the_first_bytes_have_one_second_in_all_when_the_server_drains() {
    let config = Config {
        proxy_protocol: true,
        ..Config::default()
    };
    let apps = Applications::One(Router::new());
    let service = Service::new(apps, None, &config, Observers::default());
    let server = Lifecycle::new();
    let (io, mut client) = duplex(1024);
    let begun = Instant::now();
    let speaking = tokio::spawn(async move {
        sleep(FIRST_WORD * 8 / 10).await;
        client.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
        client
    });
    server.begin_to_drain();
    let mut lifeline = server.lifeline();
    let io = crate::auto::Foreign(io);
    let begun_at_all = service.begin_plain(io, Peer::Unknown, &mut lifeline).await;
    assert!(begun_at_all.unwrap().is_none());
    assert_eq!(begun.elapsed(), FIRST_WORD);
    drop(speaking.await);
}
/// A client that says this, byte by byte, and then stays.
fn client(said: &[u8]) -> crate::auto::Foreign<tokio::io::DuplexStream> {
    let (io, mut client) = duplex(1);
    let said = said.to_vec();
    tokio::spawn(async move {
        client.write_all(&said).await?;
        client.read_u8().await
    });
    crate::auto::Foreign(io)
}

/// Each beginning of a connection, with the header of a proxy, and its protocol.
fn beginnings() -> Vec<(Vec<u8>, Protocol)> {
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n";
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x13\x88\x01\xbb";
    let first: [(&[u8], _); 4] = [
        (b"\x80\x02", Protocol::Spdy(spdy_frame::Version::V2)),
        (b"\x80\x03", Protocol::Spdy(spdy_frame::Version::V3_1)),
        (b"PRI * HTTP/2.0", Protocol::Http2),
        (b"G", Protocol::Http1),
    ];
    let with = |header: &[u8]| first.map(|(first, protocol)| ([header, first].concat(), protocol));
    [with(line), with(binary)].concat()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Stays,
    Drains,
    IsCut,
}

/// Whatever a client has said when it falls silent, and whatever the server does then, the
/// beginning ends, and in time.
#[tokio::test(start_paused = true)]
async fn a_client_that_stops_anywhere_in_its_beginning_is_let_go() {
    let config = Config {
        proxy_protocol: true,
        ..Config::default()
    };
    let apps = Applications::One(Router::new());
    let service = Service::new(apps, None, &config, Observers::default());
    for (said, protocol) in beginnings() {
        for end in 0..=said.len() {
            for then in [Then::Stays, Then::Drains, Then::IsCut] {
                let server = Lifecycle::new();
                let mut lifeline = server.lifeline();
                let begun = Instant::now();
                let io = client(&said[..end]);
                let beginning = service.begin_plain(io, Peer::Unknown, &mut lifeline);
                let server = async {
                    sleep(Duration::from_millis(1)).await;
                    match then {
                        Then::Stays => return Some(server),
                        Then::Drains => server.begin_to_drain(),
                        Then::IsCut => return None,
                    }
                    Some(server)
                };
                let (outcome, _server) = tokio::join!(beginning, server);
                let what = format!("{protocol} {end} {then:?}");
                let lasted = begun.elapsed();
                if end == said.len() {
                    assert!(outcome.unwrap().is_some(), "{what}");
                    continue;
                }
                let (ended, most) = match then {
                    Then::Stays => (Err(io::ErrorKind::TimedOut), config.timeouts.handshake),
                    Then::Drains => (Ok(()), FIRST_WORD),
                    Then::IsCut => (Ok(()), Duration::from_millis(1)),
                };
                let outcome = outcome.map(|begun| assert!(begun.is_none(), "{what}"));
                assert_eq!(outcome.map_err(|error| error.kind()), ended, "{what}");
                assert_eq!(lasted.as_millis(), most.as_millis(), "{what}");
            }
        }
    }
}

/// A byte that is wrong, anywhere, is refused or waited for, and no longer than others.
#[tokio::test(start_paused = true)]
async fn a_wrong_byte_anywhere_in_a_beginning_panics_nowhere() {
    let config = Config {
        proxy_protocol: true,
        ..Config::default()
    };
    let apps = Applications::One(Router::new());
    let service = Service::new(apps, None, &config, Observers::default());
    let server = Lifecycle::new();
    for (said, _) in beginnings() {
        for at in 0..said.len() {
            for wrong in [0, 1, b'\r', b'\n', b' ', 0x7f, 0x80, 0xff] {
                let mut said = said.clone();
                said[at] = wrong;
                let begun = Instant::now();
                let mut lifeline = server.lifeline();
                let outcome = service
                    .begin_plain(client(&said), Peer::Unknown, &mut lifeline)
                    .await;
                if let Err(error) = outcome {
                    let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::TimedOut];
                    assert!(kinds.contains(&error.kind()), "{said:02x?}: {error}");
                }
                assert!(begun.elapsed() <= config.timeouts.handshake + FIRST_WORD);
            }
        }
    }
}

#[test]
fn a_transport_that_is_no_socket_is_none_of_the_proxies_that_are_named() {
    let proxy: Network = "192.0.2.0/24".parse().unwrap();
    let begins_with_header = |from: &[Network], peer| {
        let config = Config {
            proxy_protocol: true,
            proxy_protocol_from: from.to_vec(),
            ..Config::default()
        };
        let apps = Applications::One(Router::new());
        Service::new(apps, None, &config, Observers::default()).is_behind_proxy(peer)
    };
    let tcp = |host| Peer::Tcp(([192, 0, host, 1], 5000).into());
    for (peer, expected) in [
        (tcp(2), true),
        (tcp(3), false),
        (Peer::Unix, true),
        (Peer::Unknown, false),
    ] {
        assert_eq!(begins_with_header(&[proxy], peer), expected, "{peer:?}");
        assert!(begins_with_header(&[], peer), "{peer:?}");
    }
}
