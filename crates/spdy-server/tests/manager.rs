//! What the program tells the service manager that started it.

#![cfg(unix)]

mod common;

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixDatagram,
    path::Path,
};

use self::common::program::{LONG, Program, command};

/// The socket on which a manager listens.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("manager-{test}"));
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        Self { socket, path }
    }

    fn start(&self, watchdog: &[(&str, &str)]) -> Program {
        let mut command = command(&["--plain", "127.0.0.1:0"]);
        command.env("NOTIFY_SOCKET", &self.path);
        command.envs(watchdog.iter().copied());
        Program::spawn(command, 2)
    }

    fn hear(&self) -> String {
        let mut message = [0; 256];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }
}

#[test]
fn the_manager_hears_of_the_start_and_of_the_end() {
    let manager = Manager::new("start");
    let program = manager.start(&[]);
    assert_eq!(manager.hear(), "READY=1");
    program.connect();
    program.signal("TERM");
    assert_eq!(manager.hear(), "STOPPING=1");
    assert!(program.wait().0.success());
}

#[test]
fn a_manager_that_watches_hears_that_the_program_is_alive_until_it_has_drained() {
    let manager = Manager::new("watchdog");
    let mut program = manager.start(&[("WATCHDOG_USEC", "100000")]);
    assert_eq!(manager.hear(), "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1");
    }
    // A response that is not read delays the end.
    let mut client = program.connect();
    write!(client, "GET /bytes/67108864 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.read_exact(&mut [0; 100]).unwrap();
    program.signal("TERM");
    while manager.hear() != "STOPPING=1" {}
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1");
    }
    assert!(program.child.try_wait().unwrap().is_none());
    drop(client);
    assert!(program.wait().0.success());
}

/// Its queue is full after some messages.
#[test]
fn a_manager_that_does_not_read_is_not_waited_for() {
    let manager = Manager::new("full");
    let program = manager.start(&[("WATCHDOG_USEC", "0")]);
    program.until_it_says("cannot send WATCHDOG=1 to the service manager: ");
    program.connect();
    program.signal("TERM");
    assert!(program.wait().0.success());
}

#[test]
fn a_manager_that_watches_another_process_hears_of_the_start_alone() {
    let manager = Manager::new("other");
    let program = manager.start(&[("WATCHDOG_USEC", "0"), ("WATCHDOG_PID", "1")]);
    assert_eq!(manager.hear(), "READY=1");
    program.signal("TERM");
    assert_eq!(manager.hear(), "STOPPING=1");
    assert!(program.wait().0.success());
}

#[test]
fn a_manager_that_has_gone_is_no_obstacle() {
    let manager = Manager::new("gone");
    fs::remove_file(&manager.path).unwrap();
    let program = manager.start(&[("WATCHDOG_USEC", "100000")]);
    program.until_it_says("cannot send READY=1 to the service manager: ");
    program.connect();
    program.signal("TERM");
    assert!(program.wait().0.success());
}

#[cfg(target_os = "linux")]
#[test]
fn the_socket_of_a_manager_need_not_have_a_file() {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};

    let name = format!("spdy-server-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let manager = Manager {
        socket,
        path: format!("@{name}"),
    };
    let _program = manager.start(&[]);
    assert_eq!(manager.hear(), "READY=1");
}
