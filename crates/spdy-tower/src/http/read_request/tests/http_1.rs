//! Security: what a request is when it is written as HTTP/1.1.

use super::{
    random::{ROUNDS, Random},
    *,
};

/// Security: no request that we accept turns into another one when it is written as HTTP/1.1.
#[test]
fn each_accepted_request_means_the_same_when_written_as_http_1() {
    let mut random = Random(0x5bd1_e995);
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let version = Version::ALL[round % 3];
        let block = random.request(version);
        let Ok(Head { request, .. }) = read(version, &block, true, ConnectionFields::Drop) else {
            continue;
        };
        accepted += 1;

        let wire = as_http_1(&request);
        let mut lines = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut lines);
        let parsing = parsed.parse(&wire);
        let shown = String::from_utf8_lossy(&wire);
        assert_eq!(
            parsing,
            Ok(httparse::Status::Complete(wire.len())),
            "{shown}"
        );
        assert_eq!(parsed.method, Some(request.method().as_str()), "{shown}");
        assert_eq!(
            parsed.path.map(str::to_owned),
            Some(request.uri().to_string()),
            "{shown}"
        );
        let ours: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let theirs: Vec<_> = parsed
            .headers
            .iter()
            .map(|line| (line.name, line.value))
            .collect();
        assert_eq!(theirs, ours, "{shown}");
    }
    assert!(
        (ROUNDS / 10..ROUNDS * 9 / 10).contains(&accepted),
        "{accepted} of {ROUNDS} were accepted"
    );
}

fn as_http_1(request: &Request<()>) -> Vec<u8> {
    let mut wire = format!(
        "{} {} {:?}\r\n",
        request.method(),
        request.uri(),
        request.version()
    )
    .into_bytes();
    for (name, value) in request.headers() {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire
}
