//! The request line: meta headers, one by one.

use super::*;

fn read_without(version: Version, name: &str) -> Result<Head, Malformed> {
    let mut fields = fields(version);
    fields.retain(|field| field.0 != name);
    read(version, &block(&fields), false, ConnectionFields::Drop)
}

/// The meta header that `slot` (a place in `meta_names`) has in this version, with another value.
fn read_with_meta(version: Version, slot: usize, value: &'static str) -> Result<Head, Malformed> {
    read_changed(version, &[(meta_names(version)[slot], value)])
}

#[test]
fn a_request_has_the_same_uri_and_fields_in_each_version() {
    for version in Version::ALL {
        let Head {
            request,
            content_length,
        } = read_changed(version, &[("accept", "*/*")]).unwrap();
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "https://a.test/x?y");
        assert_eq!(request.version(), http::Version::HTTP_11);
        let headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(headers, [("accept", &b"*/*"[..]), ("host", b"a.test")]);
        assert_eq!(content_length, None);
    }
}

#[test]
fn c149_every_meta_header_is_required_since_version_3() {
    for version in [Version::V3, Version::V3_1] {
        for name in meta_names(version) {
            let malformed = read_without(version, name).unwrap_err();
            assert!(
                matches!(malformed, Malformed::Missing(_)),
                "{version} without {name}: {malformed}"
            );
            assert_eq!(malformed.status(), 400);
        }
    }
}

#[test]
fn c150_version_2_requires_method_url_and_version() {
    for name in ["method", "url", "version"] {
        let malformed = read_without(Version::V2, name).unwrap_err();
        assert!(
            matches!(malformed, Malformed::Missing(_)),
            "without {name}: {malformed}"
        );
    }
}

#[test]
fn version_2_accepts_requests_without_host_or_scheme() {
    let request = read_without(Version::V2, "scheme").unwrap().request;
    assert_eq!(
        (request.uri().to_string(), &request.headers()[HOST]),
        ("/x?y".into(), &"a.test".parse().unwrap())
    );
    let request = read_without(Version::V2, "host").unwrap().request;
    assert_eq!(
        (request.uri().to_string(), request.headers().len()),
        ("/x?y".into(), 0)
    );
}

#[test]
fn a_meta_header_with_two_values_is_malformed() {
    for version in Version::ALL {
        for name in meta_names(version) {
            let mut fields = fields(version);
            fields.push((name, "GET"));
            let read = read(version, &block(&fields), true, ConnectionFields::Drop);
            assert!(
                matches!(read, Err(Malformed::Repeated(_))),
                "{version}, two values of {name}"
            );
        }
    }
}

#[test]
fn unknown_names_with_a_colon_are_refused() {
    for version in Version::ALL {
        for name in [":status", ":authority", ":", ":method2"] {
            assert_eq!(
                read_changed(version, &[(name, "x")]).unwrap_err(),
                Malformed::UnknownMeta,
                "{name}"
            );
        }
        assert_eq!(
            read_changed(version, &[("a:b", "x")]).unwrap_err(),
            Malformed::FieldName
        );
    }
    // A meta header of one version is not a meta header of the other.
    assert_eq!(
        read_changed(Version::V2, &[(":path", "/")]).unwrap_err(),
        Malformed::UnknownMeta
    );
    assert_eq!(
        read_changed(Version::V3, &[("url", "/z")])
            .unwrap()
            .request
            .uri()
            .path(),
        "/x"
    );
}

#[test]
fn a_method_that_is_no_token_is_malformed() {
    for version in Version::ALL {
        for method in ["", "G ET", "GET\t", "G\u{e9}T", "GET/", "(GET)"] {
            assert_eq!(
                read_with_meta(version, METHOD, method).unwrap_err(),
                Malformed::Method,
                "{method:?}"
            );
        }
        assert_eq!(
            read_with_meta(version, METHOD, "PROPFIND")
                .unwrap()
                .request
                .method(),
            "PROPFIND"
        );
    }
}

#[test]
fn an_http_version_other_than_1_0_and_1_1_is_malformed() {
    for version in Version::ALL {
        for bad in [
            "",
            "HTTP",
            "HTTP/1",
            "HTTP/1.2",
            "HTTP/2.0",
            "http/1.1",
            "HTTP/1.1 ",
            "HTTP/01.1",
        ] {
            assert_eq!(
                read_with_meta(version, HTTP_VERSION, bad).unwrap_err(),
                Malformed::HttpVersion,
                "{bad:?}"
            );
        }
        let old = read_with_meta(version, HTTP_VERSION, "HTTP/1.0").unwrap();
        assert_eq!(old.request.version(), http::Version::HTTP_10);
    }
}

#[test]
fn targets_that_http_1_could_not_carry_are_refused() {
    for version in Version::ALL {
        for bad in [
            "",
            "x",
            "?x",
            "*",
            "/a b",
            "/a\tb",
            "/a#b",
            "/\u{7f}",
            "a.test:443",
            "http://",
            "http:/x",
        ] {
            assert_eq!(
                read_with_meta(version, TARGET, bad).unwrap_err(),
                Malformed::Target,
                "{bad:?}"
            );
        }
        for good in ["/", "//", "/?", "/%20?a=b&c=/%00", "/{a}|b"] {
            let request = read_with_meta(version, TARGET, good).unwrap().request;
            assert_eq!(request.uri().path_and_query().unwrap(), good);
        }
    }
}

#[test]
fn a_target_that_is_too_long_is_414() {
    let path = "/".repeat(MAX_TARGET + 1);
    let fields: Vec<_> = fields(Version::V3_1)
        .into_iter()
        .map(|(name, value)| (name, if name == ":path" { &path } else { value }))
        .collect();
    let malformed = read(
        Version::V3_1,
        &block(&fields),
        false,
        ConnectionFields::Drop,
    )
    .unwrap_err();
    assert_eq!(
        (malformed, malformed.status().as_u16()),
        (Malformed::TargetTooLong, 414)
    );
}

#[test]
fn a_host_that_is_not_a_name_with_an_optional_port_is_malformed() {
    for version in Version::ALL {
        for bad in [
            "",
            ":80",
            "a b",
            "u@a.test",
            "a.test:",
            "a.test:x",
            "a.test:+80",
            "a.test:99999",
            "a/b",
            "[::1",
            "a\u{e9}",
        ] {
            assert_eq!(
                read_with_meta(version, AUTHORITY, bad).unwrap_err(),
                Malformed::Host,
                "{bad:?}"
            );
        }
        for good in [
            "a.test:8443",
            "[::1]",
            "[::1]:80",
            "127.0.0.1:80",
            "localhost",
        ] {
            let request = read_with_meta(version, AUTHORITY, good).unwrap().request;
            assert_eq!(request.uri().authority().unwrap(), good);
            assert_eq!(request.headers()[HOST], good);
        }
    }
}

#[test]
fn a_scheme_that_is_no_uri_scheme_is_malformed() {
    for version in Version::ALL {
        for bad in ["", "1http", "ht tp", "http:", "https://", "h~"] {
            assert_eq!(
                read_with_meta(version, SCHEME, bad).unwrap_err(),
                Malformed::Scheme,
                "{bad:?}"
            );
        }
        assert_eq!(
            read_with_meta(version, SCHEME, "http")
                .unwrap()
                .request
                .uri()
                .scheme_str(),
            Some("http")
        );
    }
}

#[test]
fn a_host_field_beside_the_meta_header_is_dropped() {
    let request = read_changed(Version::V3_1, &[("host", "evil.test")])
        .unwrap()
        .request;
    assert_eq!(
        request.headers().get_all(HOST).iter().collect::<Vec<_>>(),
        ["a.test"]
    );
}

#[test]
fn c161_version_2_takes_a_path_and_a_whole_uri() {
    for url in ["https://a.test/x", "/x"] {
        let request = read_changed(Version::V2, &[("url", url)]).unwrap().request;
        assert_eq!(
            (request.uri().path(), request.uri().host()),
            ("/x", Some("a.test"))
        );
        assert_eq!(request.headers()[HOST], "a.test");
    }
}

#[test]
fn a_whole_uri_overrides_host_and_scheme() {
    for version in Version::ALL {
        let request = read_with_meta(version, TARGET, "http://b.test:81/z")
            .unwrap()
            .request;
        assert_eq!(request.uri(), "http://b.test:81/z");
        assert_eq!(request.headers()[HOST], "b.test:81");
        for bad in [
            "http://u@b.test/",
            "http://b.test/#z",
            "http:///z",
            "http://b.test:x/",
        ] {
            assert_eq!(
                read_with_meta(version, TARGET, bad).unwrap_err(),
                Malformed::Target,
                "{bad}"
            );
        }
    }
}

#[test]
fn c162_connect_names_a_host_and_a_port_alone() {
    for version in Version::ALL {
        let [method, target, http_version, _, scheme] = meta_names(version);
        let fields = [
            (method, "CONNECT"),
            (target, "a.test:443"),
            (http_version, "HTTP/1.1"),
        ];
        let request = read(version, &block(&fields), true, ConnectionFields::Drop)
            .unwrap()
            .request;
        assert_eq!(request.uri(), "a.test:443");
        assert_eq!(request.headers()[HOST], "a.test:443");
        for bad in [
            "a.test",
            "/",
            "https://a.test:443/",
            "u@a.test:443",
            "a.test:443/",
        ] {
            let fields = [
                (method, "CONNECT"),
                (target, bad),
                (http_version, "HTTP/1.1"),
                (scheme, "https"),
            ];
            let read = read(version, &block(&fields), true, ConnectionFields::Drop);
            assert_eq!(read.unwrap_err(), Malformed::Target, "{bad}");
        }
    }
}

#[test]
fn options_accepts_an_asterisk_as_target() {
    for version in Version::ALL {
        let [method, target, ..] = meta_names(version);
        let request = read_changed(version, &[(method, "OPTIONS"), (target, "*")])
            .unwrap()
            .request;
        assert_eq!(
            (request.uri().to_string(), &request.headers()[HOST]),
            ("*".into(), &"a.test".parse().unwrap())
        );
    }
}
