//! The settings of each protocol.

use super::*;

/// Sends these bytes to a connection with this configuration, and returns all that it sends.
async fn answer_to(config: &Config, bytes: &str) -> String {
    let (mut near, far) = duplex(65_536);
    tokio::spawn(auto::Builder::with_config(config).serve_connection(far, app()));
    near.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_http_1_are_obeyed() {
    let config = |http1| Config {
        http1,
        ..Config::default()
    };
    let default = Http1::default();
    let request = "GET / HTTP/1.1\r\nhost: a\r\na: b\r\nc: d\r\n\r\n";
    let few = config(Http1 {
        max_fields: 2,
        ..default
    });
    let answer = answer_to(&few, request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let once = config(Http1 {
        keep_alive: false,
        ..default
    });
    let answer = answer_to(&once, &request.repeat(2)).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");

    let patient = config(Http1 {
        header_timeout: Duration::from_secs(3),
        ..default
    });
    let start = tokio::time::Instant::now();
    answer_to(&patient, "GET / HTTP/1.1\r\n").await;
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn settings_beyond_their_ranges_still_serve() {
    let least = Config {
        http1: Http1 {
            max_headers: 0,
            ..Http1::default()
        },
        http2: Http2 {
            stream_window: 0,
            connection_window: 0,
            max_frame: 0,
            ..Http2::default()
        },
        ..Config::default()
    };
    let most = Config {
        http1: Http1 {
            header_timeout: Duration::MAX,
            max_headers: usize::MAX,
            max_fields: usize::MAX,
            keep_alive: true,
        },
        http2: Http2 {
            max_streams: u32::MAX,
            stream_window: u32::MAX,
            connection_window: u32::MAX,
            max_frame: u32::MAX,
            max_headers: u32::MAX,
            max_pending_resets: usize::MAX,
            max_error_resets: usize::MAX,
            keep_alive_reply: Duration::MAX,
        },
        spdy: most_of_spdy(),
        ..Config::default()
    };
    for config in [least, most] {
        let builder = auto::Builder::with_config(&config);
        let (near, far) = duplex(65_536);
        tokio::spawn(builder.serve_connection(far, app()));
        assert_eq!(spdy(near, Version::V3_1, "/").await.1, b"SPDY/3.1");
        let (near, far) = duplex(65_536);
        tokio::spawn(builder.serve_connection(far, app()));
        assert!(http1(near, "/").await.ends_with("HTTP/1.1"));
        let (near, far) = duplex(65_536);
        tokio::spawn(builder.serve_connection(far, app()));
        assert_eq!(http2(near, "/").await.1, "HTTP/2");
    }
}

fn most_of_spdy() -> Spdy {
    let mut spdy = Spdy::default();
    let timeouts = &mut spdy.timeouts;
    for timeout in [
        &mut timeouts.first_frame,
        &mut timeouts.frame,
        &mut timeouts.idle,
        &mut timeouts.trickle,
        &mut timeouts.unread,
        &mut timeouts.discard,
        &mut timeouts.probe,
    ] {
        *timeout = Some(Duration::MAX);
    }
    timeouts.close = Duration::MAX;
    timeouts.linger = Duration::MAX;
    timeouts.keep_alive_reply = Duration::MAX;
    spdy
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_http_2_are_obeyed() {
    let config = Config {
        http2: Http2 {
            max_headers: 100,
            ..Http2::default()
        },
        ..Config::default()
    };
    let (near, far) = duplex(65_536);
    tokio::spawn(auto::Builder::with_config(&config).serve_connection(far, app()));
    let (status, _) = http2(near, &format!("/{}", "a".repeat(200))).await;
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_spdy_are_obeyed() {
    let mut spdy = Spdy::default();
    spdy.timeouts.idle = Some(Duration::from_secs(7));
    spdy.timeouts.close = Duration::from_secs(2);
    let config = Config {
        spdy,
        ..Config::default()
    };
    let (mut near, far) = duplex(65_536);
    near.write_all(b"\x80\x03\0\x04\0\0\0\x04\0\0\0\0")
        .await
        .unwrap();
    let start = tokio::time::Instant::now();
    let connection = auto::Builder::with_config(&config).serve_connection(far, app());
    let mut told = Vec::new();
    let (end, read) = tokio::join!(connection, near.read_to_end(&mut told));
    end.unwrap();
    read.unwrap();
    // The client does not close.
    assert!(
        (9..=10).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
}
