//! Every wait ends as soon as it can, even if the last event that it waits for does not wake the
//! driver by itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use spdy_session::{
    Config, FlowControl, Initiator, OpenError, OpenOptions, Received, RecvStream, RstStatus,
    SendStream, Session, SessionError, StreamError, Timeout, Version, client,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{sleep, timeout},
};

use crate::support::{End, block, in_all_versions, pair_with, stream, within};

fn finished() -> OpenOptions {
    OpenOptions::new().fin(true)
}

/// Lets the client open one stream at a time.
fn one_at_a_time() -> Config {
    let mut config = Config::default();
    config.limits.max_streams = 1;
    config
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_a_place_is_opened_when_our_fin_frees_one() {
    in_all_versions(async |version| {
        let (near, mut far) = pair_with(version, Config::default(), one_at_a_time());
        let first = near.session.open(block(&[]), OpenOptions::default());
        let (mut recv, mut send) = within(first).await.unwrap().split();
        let (mut theirs, reply) = within(far.incoming.accept()).await.unwrap().split();
        drop(reply.send_reply(block(&[]), true).unwrap());
        assert!(within(recv.next()).await.is_none());

        let mut second = near.session.open(block(&[]), finished());
        assert!(
            timeout(Duration::from_millis(50), &mut second)
                .await
                .is_err()
        );
        send.send_data(Bytes::from_static(b"the rest"), true)
            .unwrap();
        within(send.written()).await.unwrap();
        while let Some(piece) = within(theirs.next()).await {
            piece.unwrap();
        }
        within(second).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_a_place_is_opened_when_a_reset_frees_one() {
    in_all_versions(async |version| {
        let (near, mut far) = pair_with(version, Config::default(), one_at_a_time());
        let (mine, _theirs) = stream(&near, &mut far).await;
        let mut second = near.session.open(block(&[]), finished());
        assert!(
            timeout(Duration::from_millis(50), &mut second)
                .await
                .is_err()
        );
        mine.reset(RstStatus::CANCEL);
        within(second).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_push_does_not_wait_behind_a_stream_that_waits_for_a_place() {
    let mut client = one_at_a_time();
    client.accept_push = true;
    let (mut near, far) = pair_with(Version::V3_1, client, Config::default());
    let asked = near.session.open(block(&[]), finished());
    let asked = within(asked).await.unwrap();
    let mut incoming = far.incoming;
    let answering = within(incoming.accept()).await.unwrap();
    let answering = answering.send_reply(block(&[])).unwrap();
    let push = || {
        let how = OpenOptions::new()
            .unidirectional(true)
            .associated(answering.id());
        far.session.open(block(&[]), how)
    };
    let first = within(push()).await.unwrap();
    let taken = within(near.incoming.accept()).await.unwrap();
    let mut waits = far.session.open(block(&[]), OpenOptions::default());
    assert!(
        timeout(Duration::from_millis(50), &mut waits)
            .await
            .is_err()
    );
    let refused = within(push()).await;
    assert!(
        matches!(refused, Err(OpenError::TooManyStreams)),
        "{refused:?}"
    );
    drop((first, taken, asked));
}

/// Opens `count` streams. The near side writes on them, and the far side reads.
async fn uploads(
    near: &End,
    far: &mut End,
    count: usize,
) -> (Vec<(RecvStream, SendStream)>, Vec<(RecvStream, SendStream)>) {
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (mine, theirs) = stream(near, far).await;
        writers.push(mine.split());
        readers.push(theirs.split());
    }
    (writers, readers)
}

async fn read_to_end(recv: &mut RecvStream) -> usize {
    let mut bytes = 0;
    while let Some(piece) = recv.next().await {
        if let Received::Data(payload) = piece.unwrap() {
            bytes += payload.len();
        }
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn reading_that_pauses_for_the_buffer_of_the_session_goes_on_when_little_was_taken() {
    for (version, flow_control) in [
        (Version::V2, FlowControl::Enforce),
        (Version::V3, FlowControl::Enforce),
        (Version::V3_1, FlowControl::Off),
    ] {
        let mut config = Config::default();
        config.flow_control = flow_control;
        let (near, mut far) = pair_with(version, config.clone(), config);
        let (mut writers, mut readers) = uploads(&near, &mut far, 100).await;
        let writing = tokio::spawn(async move {
            for (_, send) in &mut writers {
                send.send_data(Bytes::from(vec![7; 10_550]), false).unwrap();
                sleep(Duration::from_millis(1)).await;
            }
            let send = &mut writers[0].1;
            send.send_data(Bytes::from_static(b"the end"), true)
                .unwrap();
            send.written().await.unwrap();
            writers
        });
        sleep(Duration::from_millis(500)).await;
        let read = timeout(Duration::from_secs(5), read_to_end(&mut readers[0].0)).await;
        assert_eq!(read, Ok(10_557), "{version} {flow_control:?}");
        drop(writing.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_in_what_unread_streams_leave_of_the_window_of_the_session() {
    let mut config = Config::default();
    config.limits.session_window = 65_536;
    config.limits.max_session_window = 65_536;
    let (near, mut far) = pair_with(Version::V3_1, Config::default(), config);
    let (mut writers, mut readers) = uploads(&near, &mut far, 2).await;
    writers[0]
        .1
        .send_data(Bytes::from(vec![7; 60_000]), false)
        .unwrap();
    sleep(Duration::from_millis(10)).await;
    writers[1]
        .1
        .send_data(Bytes::from(vec![7; 50_000]), true)
        .unwrap();
    let read = timeout(Duration::from_secs(5), read_to_end(&mut readers[1].0)).await;
    assert_eq!(read, Ok(50_000));
}

/// Waits until the idle session of the far side ends.
async fn ends_when_idle(session: &Session) -> Result<(), SessionError> {
    let end = timeout(Duration::from_secs(1000), session.closed()).await;
    end.expect("an idle session ends")
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_though_a_cancelled_stream_was_released_late() {
    in_all_versions(async |version| {
        let mut config = Config::default();
        config.timeouts.idle = None;
        let (near, mut far) = pair_with(version, config, Config::default());
        let (mine, mut theirs) = stream(&near, &mut far).await;
        mine.reset(RstStatus::CANCEL);
        theirs.closed().await;
        sleep(Duration::from_secs(1000)).await;
        drop(theirs);
        ends_when_idle(&far.session).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_though_a_finished_push_was_accepted_late() {
    in_all_versions(async |version| {
        let mut client = Config::default();
        client.accept_push = true;
        let mut server = Config::default();
        server.timeouts.idle = None;
        let (mut near, mut far) = pair_with(version, client, server);
        let asked = within(near.session.open(block(&[]), finished()))
            .await
            .unwrap();
        let answering = within(far.incoming.accept()).await.unwrap();
        let answering = answering.send_reply(block(&[])).unwrap();
        let how = OpenOptions::new()
            .fin(true)
            .unidirectional(true)
            .associated(answering.id());
        let pushed = within(far.session.open(block(&[]), how)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        drop((pushed, answering, asked));
        sleep(Duration::from_secs(1000)).await;
        drop(within(near.incoming.accept()).await.unwrap());
        ends_when_idle(&near.session).await.unwrap();
    })
    .await;
}

/// Reads whole frames until `count` PINGs have arrived, and returns these.
async fn pings(io: &mut DuplexStream, count: usize) -> Vec<u8> {
    let mut pings = Vec::new();
    while pings.len() < count * 12 {
        let mut frame = vec![0; 8];
        io.read_exact(&mut frame).await.unwrap();
        let length = u32::from_be_bytes([0, frame[5], frame[6], frame[7]]) as usize;
        frame.resize(8 + length, 0);
        io.read_exact(&mut frame[8..]).await.unwrap();
        if frame[..4] == [0x80, 3, 0, 6] {
            pings.extend(frame);
        }
    }
    pings
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_answer_does_not_give_up_pings_of_handles() {
    let (near_io, mut far_io) = duplex(1 << 16);
    let mut config = Config::default();
    config.timeouts.keep_alive = Some(Duration::from_secs(5));
    let (session, _incoming, driver) = client(near_io, Version::V3_1, config);
    tokio::spawn(driver);
    let mut answers = within(pings(&mut far_io, 1)).await;
    let asking = tokio::spawn(async move { session.ping().await });
    answers.extend(within(pings(&mut far_io, 1)).await);
    far_io.write_all(&answers).await.unwrap();
    within(asking).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_given_up_fails_immediately() {
    // The transport holds everything that the far side does not read.
    let (near_io, _far_io) = duplex(1 << 20);
    let (session, _incoming, driver) = client(near_io, Version::V3_1, Config::default());
    tokio::spawn(driver);
    let ping = || {
        let session = session.clone();
        tokio::spawn(async move { session.ping().await })
    };
    let first = ping();
    sleep(Duration::from_millis(1)).await;
    let others: Vec<_> = (0..64).map(|_| ping()).collect();
    let end = timeout(Duration::from_secs(1), first).await.unwrap();
    assert!(matches!(end.unwrap(), Err(SessionError::Closed)));
    drop(others);
}

/// Configurations with the number of unread bytes that stop the peer.
fn narrow() -> Vec<(Version, Config, usize)> {
    let flow_control = |flow_control| {
        let mut config = Config::default();
        config.flow_control = flow_control;
        config.limits.session_buffer = 10_000;
        config.limits.session_window = 65_536;
        config.limits.max_session_window = 65_536;
        // The sender waits without a limit.
        (config.timeouts.blocked, config.timeouts.trickle) = (None, None);
        config
    };
    let (enforce, off) = (FlowControl::Enforce, FlowControl::Off);
    vec![
        (Version::V2, flow_control(enforce), 10_000),
        (Version::V3, flow_control(enforce), 10_000),
        (Version::V3_1, flow_control(off), 10_000),
        (Version::V3_1, flow_control(enforce), 65_536),
    ]
}

/// Both sides have finished the first stream, whose bytes are not read. The second stream goes on.
#[tokio::test(start_paused = true)]
async fn a_reader_that_holds_up_the_session_for_long_gets_an_error_and_no_end() {
    for (version, config, most) in narrow() {
        let (near, mut far) = pair_with(version, config.clone(), config);
        let (mut mine, mut theirs) = stream(&near, &mut far).await;
        theirs.write_all(&[0; 1000]).await.unwrap();
        mine.read_exact(&mut [0; 1000]).await.unwrap();
        let (from, mut to) = mine.split();
        to.finish().unwrap();
        let (mut received, mut sent) = theirs.split();
        assert!(within(received.next()).await.is_none());
        sent.send_data(vec![0; most].into(), true).unwrap();
        within(sent.written()).await.unwrap();
        within(to.written()).await.unwrap();
        sleep(Duration::from_secs(1)).await;

        let (mut second, mut answer) = stream(&near, &mut far).await;
        let start = tokio::time::Instant::now();
        answer.write_all(b"goes on").await.unwrap();
        let mut bytes = [0; 7];
        let read = timeout(Duration::from_secs(100), second.read_exact(&mut bytes));
        read.await.unwrap().unwrap();
        let waited = start.elapsed().as_secs();
        assert!((55..=61).contains(&waited), "{version}: {waited} s");
        let mut from = from;
        for _ in 0..2 {
            let end = within(from.next()).await;
            assert!(
                matches!(end, Some(Err(StreamError::TimedOut(Timeout::Unread)))),
                "{version}: {end:?}"
            );
        }
        assert!(!from.is_finished());
    }
}

/// Both sides have the timeouts of this library. A sender gives up its streams that are granted
/// nothing (`blocked`) before the other side gives up what it does not read (`unread`).
#[tokio::test(start_paused = true)]
async fn of_two_sides_the_sender_gives_up_first_and_each_side_learns_why() {
    let mut config = Config::default();
    config.limits.session_window = 65_536;
    config.limits.max_session_window = 0;
    let (near, mut far) = pair_with(Version::V3_1, config.clone(), config);
    let (sent, unread) = stream(&near, &mut far).await;
    let (more, half_read) = stream(&near, &mut far).await;
    let (other, innocent) = stream(&near, &mut far).await;
    let ((_from_sent, mut sent), (_more, mut more)) = (sent.split(), more.split());
    let (_other, mut other) = other.split();
    sent.send_data(vec![0; 40_000].into(), false).unwrap();
    sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    let since = || start.elapsed().as_secs();
    more.send_data(vec![0; 40_000].into(), true).unwrap();
    sleep(Duration::from_secs(1)).await;
    other.send_data(Bytes::from_static(b"short"), true).unwrap();

    for sender in [&mut more, &mut other] {
        let end = timeout(Duration::from_secs(40), sender.written()).await;
        let end = end.unwrap().unwrap_err();
        let is_blocked = matches!(end, StreamError::TimedOut(Timeout::Blocked));
        assert!(is_blocked, "{end:?}");
    }
    assert!((29..=32).contains(&since()), "{} s", since());
    for (stream, read) in [(half_read, 25_536), (innocent, 0)] {
        let (mut received, _send) = stream.split();
        let (bytes, end) = read_to_error(&mut received).await;
        assert_eq!(bytes, read);
        assert_cancelled(&end);
    }

    // Reading has made room: what is unread holds up no stream any more, and is not given up.
    let (mut unread, _send) = unread.split();
    sleep(Duration::from_secs(200)).await;
    sent.send_data(Bytes::from_static(b"goes on"), false)
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(within(unread.next()).await, Some(Ok(_))));
    sent.send_data(vec![0; 65_536].into(), false).unwrap();
    let start = tokio::time::Instant::now();
    let end = timeout(Duration::from_secs(40), sent.closed()).await;
    assert!(matches!(end, Ok(StreamError::TimedOut(Timeout::Blocked))));
    assert!((29..=31).contains(&start.elapsed().as_secs()));
    // The other side holds what has come for a minute in all: then the reader gets none of it.
    sleep(Duration::from_secs(35)).await;
    let (bytes, end) = read_to_error(&mut unread).await;
    assert_eq!(bytes, 0);
    let is_unread = matches!(end, StreamError::TimedOut(Timeout::Unread));
    assert!(is_unread, "{end:?}");
}

/// The reader holds up the others, but not for ever.
#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_a_byte_now_and_then_is_not_given_up() {
    for (version, config, most) in narrow() {
        let (near, mut far) = pair_with(version, config.clone(), config);
        let (mut mine, theirs) = stream(&near, &mut far).await;
        let (mut second, mut answer) = stream(&near, &mut far).await;
        let (_received, mut sent) = theirs.split();
        sent.send_data(vec![0; most].into(), true).unwrap();
        within(sent.written()).await.unwrap();
        answer.write_all(b"goes on").await.unwrap();
        for _ in 0..20 {
            sleep(Duration::from_secs(50)).await;
            mine.read_exact(&mut [0]).await.unwrap();
        }
        let mut rest = Vec::new();
        within(mine.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest.len(), most - 20, "{version}");
        within(second.read_exact(&mut [0; 7])).await.unwrap();
    }
}

/// In what is left of the session's window the peer sends a little. Reading it, or a part of it,
/// makes no more room than there was.
#[tokio::test(start_paused = true)]
async fn reading_parts_of_other_streams_does_not_keep_the_one_that_holds_them_up() {
    let (version, config, most) = narrow().remove(3);
    for of_fullest in [false, true] {
        let (near, mut far) = pair_with(version, config.clone(), config.clone());
        let (mut full, from_full) = stream(&near, &mut far).await;
        let (mut other, mut from_other) = stream(&near, &mut far).await;
        let (_full, mut sent) = from_full.split();
        sent.send_data(vec![0; most - 2000].into(), false).unwrap();
        within(sent.flush()).await.unwrap();
        from_other.write_all(&[0; 1000]).await.unwrap();
        let start = tokio::time::Instant::now();
        // A reader has to take a byte before the time is over.
        while start.elapsed() < Duration::from_secs(300) {
            let reader = if of_fullest { &mut full } else { &mut other };
            if reader.read_exact(&mut [0]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(20)).await;
        }
        let mut rest = Vec::new();
        let end = timeout(Duration::from_millis(1), full.read_to_end(&mut rest)).await;
        let is_given_up = matches!(end, Ok(Err(_)));
        assert_eq!(is_given_up, !of_fullest, "{end:?}");
    }
}

fn assert_cancelled(end: &StreamError) {
    let StreamError::Reset { status, initiator } = end else {
        panic!("it is reset, and not: {end:?}");
    };
    assert_eq!(
        (*status, *initiator),
        (RstStatus::CANCEL, Initiator::Remote)
    );
}

/// Reads until an error, and returns how many bytes came before it.
async fn read_to_error(received: &mut RecvStream) -> (usize, StreamError) {
    let mut bytes = 0;
    loop {
        match within(received.next()).await {
            Some(Ok(Received::Data(payload))) => bytes += payload.len(),
            Some(Ok(_)) => {}
            Some(Err(end)) => return (bytes, end),
            None => panic!("the stream does not end in order"),
        }
    }
}

/// A given-up open must not be kept for as long as the stream in front of it waits.
#[tokio::test(start_paused = true)]
async fn streams_that_are_given_up_before_they_are_opened_are_forgotten() {
    in_all_versions(async |version| {
        let (near, mut far) = pair_with(version, Config::default(), one_at_a_time());
        let _open = stream(&near, &mut far).await;
        let _waiting = near.session.open(block(&[]), OpenOptions::default());
        let kept = Arc::new(());
        for _ in 0..100 {
            let kept = Arc::clone(&kept);
            let note = move |_| drop(kept);
            let opening = near
                .session
                .open_noting(block(&[]), OpenOptions::default(), note);
            sleep(Duration::from_millis(1)).await;
            drop(opening);
        }
        let kept = Arc::strong_count(&kept) - 1;
        assert!(kept <= 17, "{kept} are kept");
    })
    .await;
}

/// A grant of the window is behind unread bytes. The wait ends when the stream is given up, see
/// docs/limits.md.
#[tokio::test(start_paused = true)]
async fn sides_that_read_only_after_sending_wait_until_the_unread_timeout() {
    let mut config = Config::default();
    config.limits.stream_window = 65_536;
    config.limits.max_stream_window = 0;
    config.limits.session_buffer = 10_000;
    // Otherwise the other side would give up first, because it is granted nothing and its bytes are
    // not read.
    config.timeouts.blocked = None;
    config.timeouts.write = None;
    let (near, mut far) = pair_with(Version::V3, config.clone(), config);
    let (mut mine, theirs) = stream(&near, &mut far).await;
    let (mut from, mut to) = tokio::io::split(theirs);
    tokio::spawn(async move { while let Ok(1..) = from.read(&mut [0; 10_000]).await {} });
    let sending = tokio::spawn(async move { to.write_all(&[0; 200_000]).await });
    sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    let sent = timeout(Duration::from_secs(100), mine.write_all(&[0; 200_000]));
    sent.await.unwrap().unwrap_err();
    let waited = start.elapsed().as_secs();
    assert!((50..=60).contains(&waited), "{waited} s");
    within(sending).await.unwrap().unwrap_err();
}
