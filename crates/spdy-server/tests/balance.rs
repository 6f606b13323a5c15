//! The program in front of an application at several addresses: its log, its metrics and its
//! readiness.

mod common;

use std::{
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use self::common::program::{LONG, Program, ask, command, get_page, head};

/// An address of an application, which refuses connections until it is opened.
struct Place(Socket);

impl Place {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    fn url(&self) -> String {
        let address = self.0.local_addr().unwrap().as_socket().unwrap();
        format!("http://{address}")
    }

    /// Answers each request from now on.
    fn open(self) {
        self.0.listen(128).unwrap();
        let listener = TcpListener::from(self.0);
        thread::spawn(move || {
            for io in listener.incoming() {
                thread::spawn(move || answer(io.unwrap()));
            }
        });
    }
}

fn answer(io: TcpStream) {
    let mut io = BufReader::new(io);
    while !head(&mut io).is_empty() {
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        io.get_mut().write_all(response).unwrap();
    }
}

/// Starts the program in front of these addresses.
fn before(urls: &[&str], more: &[&str]) -> Program {
    let sockets = ["--plain", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
    let proxies: Vec<_> = urls.iter().flat_map(|url| ["--proxy", url]).collect();
    Program::start(&[&sockets, &proxies[..], more].concat(), 3)
}

/// Returns the status line of a request by way of the proxy.
fn get(program: &Program) -> String {
    let mut io = program.connect();
    ask(&mut io, "/");
    head(&mut BufReader::new(io)).remove(0)
}

fn page(program: &Program, path: &str) -> String {
    get_page(program.address(2), path)
}

/// Waits until this is so, and does it again and again meanwhile.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "not {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_address_goes_down_and_comes_back_with_one_line_each() {
    let (up, late) = (Place::new(), Place::new());
    let urls = [up.url(), late.url()];
    up.open();
    let program = before(
        &[&urls[0], &urls[1]],
        &["--proxy-down-for", "1", "--proxy-down-after", "2"],
    );
    assert!(
        program.lines[0].ends_with(&format!("the application at {}, {}", urls[0], urls[1])),
        "{:?}",
        program.lines
    );
    let metrics = |is_up| {
        let page = page(&program, "/metrics");
        let line =
            |url: &str, is_up| format!("\nspdy_server_upstream_up{{upstream=\"{url}\"}} {is_up}\n");
        page.contains(&line(&urls[0], 1)) && page.contains(&line(&urls[1], is_up))
    };
    assert!(metrics(1));
    // No request is lost meanwhile.
    let serves = || assert_eq!(get(&program), "HTTP/1.1 200 OK");
    until("down", || {
        serves();
        metrics(0)
    });
    // It is tried again, which is no news.
    let begun = Instant::now();
    until("over", || {
        serves();
        begun.elapsed() > Duration::from_secs(3)
    });
    late.open();
    until("back", || {
        serves();
        metrics(1)
    });
    let open = page(&program, "/metrics");
    let line = format!(
        "\nspdy_server_upstream_requests_open{{upstream=\"{}\"}} 0\n",
        urls[1]
    );
    assert!(open.contains(&line), "{open}");
    program.signal("TERM");
    let (_, _, log) = program.wait();
    for news in [
        "an address of the application is down",
        "an address of the application is back",
    ] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(news)).collect();
        assert!(
            lines.len() == 1 && lines[0].contains(&urls[1]),
            "{news}: {log}"
        );
    }
}

#[test]
fn readyz_checks_the_application_where_that_is_asked_for() {
    let (one, other) = (Place::new(), Place::new());
    let urls = [one.url(), other.url()];
    let urls = [&*urls[0], &*urls[1]];
    let checked = before(&urls, &["--ready-checks-application"]);
    let unchecked = before(&urls, &[]);
    let is_ready = |program: &Program| {
        let answers = ["/readyz", "/healthz"].map(|path| page(program, path));
        let is_ready = answers[0].starts_with("HTTP/1.1 200 ");
        if !is_ready {
            let reason = "\r\n\r\nthe application is not ready\n";
            assert!(answers[0].starts_with("HTTP/1.1 503 "), "{}", answers[0]);
            assert!(answers[0].ends_with(reason), "{}", answers[0]);
        }
        is_ready
    };
    assert!(!is_ready(&checked) && is_ready(&unchecked));
    // One address is enough.
    other.open();
    until("ready", || is_ready(&checked));
    assert!(page(&checked, "/livez").starts_with("HTTP/1.1 200 "));
    checked.signal("TERM");
    unchecked.signal("TERM");
    assert!(checked.wait().0.success() && unchecked.wait().0.success());
    drop(one);
}

#[test]
fn addresses_that_are_not_of_one_application_are_refused_with_a_cure() {
    for (arguments, sentence) in [
        (
            &["--proxy", "http://a", "--proxy", "h2://b"][..],
            "error: http://a:80 and h2://b:80 have different protocols: use h2:// for all \
             addresses of the application, h2s:// for all, or neither\n",
        ),
        (
            &["--proxy", "unix:/a", "--proxy", "unix:/a"],
            "error: unix:/a is there twice: list each address of the application once\n",
        ),
        (
            &["--proxy", "http://a", "--proxy-down-for", "0"],
            "error: invalid value '0' for '--proxy-down-for <SECONDS>'",
        ),
        (
            &["--proxy", "http://a", "--proxy-down-after", "few"],
            "error: invalid value 'few' for '--proxy-down-after <NUMBER>'",
        ),
        (
            &["--proxy", "http://a", "--ready-checks-application"],
            "error: the following required arguments were not provided:\n  \
             <--metrics <ADDR>|--systemd>\n",
        ),
    ] {
        let output = command(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with(sentence), "{text}");
        assert_eq!(output.status.code(), Some(2));
    }
}
