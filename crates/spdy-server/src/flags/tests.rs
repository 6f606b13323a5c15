//! The flags as an operator writes them.

use std::path::Path;

use spdy_server::{AccessLog, AccessLogFormat, RequestIds, Transport};

use super::*;

fn flags(words: &str) -> Flags {
    Flags::try_parse_from(words.split(' ')).unwrap()
}

fn config(words: &str) -> Config {
    flags(words).config()
}

#[test]
fn the_flags_are_consistent() {
    Flags::command().debug_assert();
}

#[test]
fn without_arguments_the_default_configuration_is_meant() {
    assert_eq!(
        format!("{:?}", config("spdy-server")),
        format!("{:?}", Config::default())
    );
    assert!(config("spdy-server --systemd").binds.is_empty());
}

#[test]
fn a_check_of_the_application_needs_a_descriptor_for_each_of_its_addresses() {
    let proxy = "spdy-server --metrics 127.0.0.1:1 --proxy http://a --proxy http://b";
    for (more, checks) in [("", 0), (" --ready-checks-application", 2)] {
        assert_eq!(flags(&format!("{proxy}{more}")).needs(0).checks, checks);
    }
}

#[test]
fn listeners_may_be_given_several_times_and_replace_the_default() {
    let binds = config(
        "spdy-server --plain 127.0.0.1:1 --listen [::1]:2 --listen 127.0.0.1:3 --plain unix:/a",
    )
    .binds;
    let shown: Vec<_> = binds
        .iter()
        .map(|bind| (bind.transport, bind.address.to_string(), bind.required))
        .collect();
    assert_eq!(
        shown,
        [
            (Transport::Tls, "[::1]:2".into(), true),
            (Transport::Tls, "127.0.0.1:3".into(), true),
            (Transport::Plain, "127.0.0.1:1".into(), true),
            (Transport::Plain, "unix:/a".into(), true),
        ]
    );
    let plain_only = config("spdy-server --plain 127.0.0.1:0").binds;
    assert!(
        plain_only
            .iter()
            .all(|bind| bind.transport == Transport::Plain)
    );
}

#[test]
fn values_find_their_place() {
    let all = config(
        "spdy-server --cert a --key b --plain-version spdy/3 --drain-timeout 7 --drain-delay 3 --idle-close 2 --max-connections 9 \
         --session-memory 3 --write-timeout 8 \
         --body-timeout 5 --keep-alive 0 --handshake-timeout 4 --idle-timeout 6 \
         --spdy max-streams=7 --spdy timeouts.idle=0.5 --spdy max-streams=8 \
         --http2 max-frame=20000 --http1 keep-alive=false \
         --advertise 443 --access-log - --log-format json --request-id trust --metrics 127.0.0.1:1 --reuse-port --proxy-protocol \
         --socket-mode 660 --socket-owner 7:8 \
         --proxy-protocol-from 10.0.0.0/8 --proxy-protocol-from ::1 d",
    );
    assert_eq!(
        all.certificate,
        Certificate::Files {
            chain: "a".into(),
            key: "b".into()
        }
    );
    assert_eq!(all.plain_version, PlainVersion::V3);
    assert_eq!(all.timeouts.drain, Duration::from_secs(7));
    assert_eq!(all.timeouts.drain_delay, Duration::from_secs(3));
    assert_eq!(all.timeouts.idle_close, Duration::from_secs(2));
    assert_eq!(all.timeouts.write, Duration::from_secs(8));
    assert_eq!(all.timeouts.body, Some(Duration::from_secs(5)));
    assert_eq!(all.timeouts.keep_alive, None);
    assert_eq!(all.timeouts.handshake, Duration::from_secs(4));
    assert_eq!(all.timeouts.idle, Duration::from_secs(6));
    assert_eq!(all.spdy.limits.max_streams, 8);
    let idle = all.spdy.timeouts.idle;
    assert_eq!(idle, Some(Duration::from_millis(500)));
    assert_eq!(all.http2.max_frame, 20_000);
    assert!(!all.http1.keep_alive);
    assert_eq!(all.max_connections, 9);
    assert_eq!(all.max_session_memory, 3 << 20);
    assert_eq!(all.advertise, NonZeroU16::new(443));
    assert_eq!(all.access_log, Some(AccessLog::Stdout));
    assert_eq!(all.access_log_format, AccessLogFormat::Json);
    assert_eq!(all.request_ids, RequestIds::Trust);
    assert_eq!(all.metrics, Some("127.0.0.1:1".parse().unwrap()));
    assert!(all.reuse_port && all.proxy_protocol);
    let files = SocketFiles {
        mode: Some(0o660),
        user: Some(7),
        group: Some(8),
    };
    assert_eq!(all.socket_files, files);
    let proxies: Vec<_> = all
        .proxy_protocol_from
        .iter()
        .map(Network::to_string)
        .collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);

    let directory = flags("spdy-server --file-cache 3 d").directory().unwrap();
    assert_eq!(directory.path, Path::new("d"));
    assert_eq!(directory.max_bytes, 3 << 20);
    let forgetful = flags("spdy-server --file-cache 0 d").directory().unwrap();
    assert_eq!(forgetful.max_entries, 0);
    assert!(!directory.hidden && !directory.follow_links && !directory.listing);
    assert!(!directory.precompressed && !directory.compress);
    let open = flags("spdy-server --hidden --follow-links --listing d");
    let open = open.directory().unwrap();
    assert!(open.hidden && open.follow_links && open.listing);
    let short = flags("spdy-server --precompressed --compress --not-found e/404.html d");
    let short = short.directory().unwrap();
    assert!(short.precompressed && short.compress);
    assert_eq!(short.not_found.unwrap(), Path::new("e/404.html"));

    assert_eq!(flags("spdy-server").runtime(), Layout::Shared);
    assert_eq!(
        flags("spdy-server --runtime per-core").runtime(),
        Layout::PerCore
    );

    let proxy = flags(
        "spdy-server --proxy http://a:1 --proxy-timeout 3 --proxy-connections 4 --proxy-retry 0 \
         --proxy unix:/b --proxy-down-after 7 --proxy-down-for 8 \
         --upgrade-timeout 9 --max-body 10",
    )
    .proxy()
    .unwrap()
    .unwrap();
    let upstreams: Vec<_> = proxy.upstreams().iter().map(ToString::to_string).collect();
    assert_eq!(upstreams, ["http://a:1", "unix:/b"]);
    assert_eq!(proxy.down_after, 7);
    assert_eq!(proxy.down_for, Duration::from_secs(8));
    assert_eq!(proxy.answer_timeout, Duration::from_secs(3));
    assert_eq!(proxy.max_connections, 4);
    assert_eq!(proxy.retry_refused, Duration::ZERO);
    assert_eq!(proxy.max_body, Some(10));
    assert_eq!(proxy.upgrade_timeout, Duration::from_secs(9));
    assert!(!proxy.trust_forwarded);
    let unused = flags("spdy-server --proxy http://a --proxy-ca ca.pem").proxy();
    assert!(
        unused
            .unwrap_err()
            .contains("write https:// or h2s:// there")
    );
    let missing = flags("spdy-server --proxy https://a --proxy-ca missing.pem").proxy();
    assert!(missing.unwrap_err().contains("missing.pem: "));
    let patient = config("spdy-server --proxy http://a:1 --proxy-timeout 900");
    assert_eq!(patient.timeouts.idle, Duration::from_secs(900));
}

#[test]
fn warnings_are_logged_unless_the_filter_says_otherwise() {
    for (words, filter) in [
        ("spdy-server", "spdy_server=info,warn"),
        ("spdy-server --log warn", "warn"),
        ("spdy-server --log info", "info"),
        ("spdy-server --log off", "off"),
        (
            "spdy-server --log spdy_server=debug",
            "spdy_server=debug,warn",
        ),
        (
            "spdy-server --log error,spdy::wire=trace",
            "spdy::wire=trace,error",
        ),
    ] {
        assert_eq!(flags(words).log().0.to_string(), filter, "{words}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for words in [
        "spdy-server --cert a",
        "spdy-server --key a",
        "spdy-server --plain-version spdy/2",
        "spdy-server --listen nowhere",
        "spdy-server --listen unix:",
        "spdy-server --socket-mode 888",
        "spdy-server --socket-owner :",
        "spdy-server --proxy-protocol-from 10.0.0.0/8",
        "spdy-server --proxy-protocol --proxy-protocol-from 10.0.0.0/33",
        "spdy-server --max-connections 0",
        "spdy-server --log spdy_server=loudly",
        "spdy-server --log inof",
        "spdy-server --log-format xml",
        "spdy-server --request-id yes",
        "spdy-server --log warn,spdy_server",
        "spdy-server --log",
        "spdy-server --proxy spdy://a",
        "spdy-server --proxy http://a --upgrade-timeout 0",
        "spdy-server --upgrade-timeout 1",
        "spdy-server --proxy-ca ca.pem",
        "spdy-server --max-body 1",
        "spdy-server --proxy http://a --max-body 1k",
        "spdy-server --proxy http://a b",
        "spdy-server --proxy-timeout 1",
        "spdy-server --proxy-retry 1",
        "spdy-server --proxy-down-after 1",
        "spdy-server --proxy-down-for 1",
        "spdy-server --proxy http://a --proxy-down-after -1",
        "spdy-server --proxy http://a --proxy-down-for 0",
        "spdy-server --proxy http://a --proxy h2://b",
        "spdy-server --proxy http://a --proxy http://a",
        "spdy-server --trust-forwarded",
        "spdy-server --ready-checks-application --metrics 127.0.0.1:1",
        "spdy-server --ready-checks-application --proxy http://a",
        "spdy-server --file-cache 1",
        "spdy-server --hidden",
        "spdy-server --follow-links",
        "spdy-server --listing",
        "spdy-server --precompressed",
        "spdy-server --compress",
        "spdy-server --not-found 404.html",
        "spdy-server --not-found ../404.html d",
        "spdy-server --not-found /404.html d",
        "spdy-server --not-found . d",
        "spdy-server --listing --proxy http://a:1",
        "spdy-server --file-cache -1 d",
        "spdy-server --runtime single",
        "spdy-server --advertise 0",
        "spdy-server --spdy max-streams",
        "spdy-server --http2 nonsense=1",
        "spdy-server --http1 keep-alive=1",
        "spdy-server --idle-timeout 0",
        "spdy-server --man b",
        "spdy-server --completions tcl",
        "spdy-server a b",
    ] {
        assert!(Flags::try_parse_from(words.split(' ')).is_err(), "{words}");
    }
}

/// clap does not ask for a flag that another one excludes, so each flag has to exclude it itself.
#[test]
fn no_flag_of_the_proxy_is_accepted_with_a_directory() {
    let command = Flags::command();
    let of_proxy = command
        .get_arguments()
        .filter(|flag| flag.get_help_heading() == Some("Proxy"));
    let mut seen = 0;
    for flag in of_proxy {
        let name = format!("--{}", flag.get_long().unwrap());
        let value = if name == "--proxy" { "http://a" } else { "1" };
        let value = flag.get_action().takes_values().then_some(value);
        let words = ["spdy-server", "d", &name].into_iter().chain(value);
        assert!(Flags::try_parse_from(words).is_err(), "{name}");
        seen += 1;
    }
    assert!(seen >= 10, "{seen}");
}
