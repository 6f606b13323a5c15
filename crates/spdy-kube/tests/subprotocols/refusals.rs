//! Requests that are refused.

use std::net::SocketAddr;

use spdy_kube::{Exit, Ports, Server, Status};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{SOON, exec_server, forward_server};

/// Sends the head of a request. Returns the head and the body of the response.
async fn ask(address: SocketAddr, path: &str, fields: &[&str]) -> (String, String) {
    let mut transport = TcpStream::connect(address).await.unwrap();
    let fields = fields.join("\r\n");
    let request =
        format!("{path} HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\n{fields}\r\n\r\n");
    transport.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap_or("0");
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                return (head.to_lowercase(), body.to_owned());
            }
        }
        let read = timeout(SOON, transport.read(&mut piece)).await.unwrap();
        answer.extend_from_slice(&piece[..read.unwrap()]);
    }
}

const UPGRADE: &str = "Upgrade: websocket";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const KEY: &str = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
const V4: &str = "Sec-WebSocket-Protocol: v4.channel.k8s.io";

#[tokio::test]
async fn each_refusal_has_its_code_and_a_status() {
    let exec = exec_server(Server::new(), |_| async { Ok(Exit::SUCCESS) }).await;
    let forward = forward_server(Server::new()).await;
    let (command, port) = ("GET /exec?command=x&stdout=1", "GET /forward?ports=1");
    let too_many = format!("GET /forward?ports={}", vec!["1"; Ports::MAX + 1].join(","));
    let cases: &[(u16, &str, &[&str])] = &[
        (101, command, &[UPGRADE, VERSION, KEY, V4]),
        (101, command, &[UPGRADE, VERSION, KEY]),
        (101, port, &[UPGRADE, VERSION, KEY, V4]),
        (
            426,
            command,
            &[UPGRADE, "Sec-WebSocket-Version: 8", KEY, V4],
        ),
        (426, port, &[UPGRADE, KEY, V4]),
        (
            403,
            command,
            &[
                UPGRADE,
                VERSION,
                KEY,
                "Sec-WebSocket-Protocol: v9.channel.k8s.io",
            ],
        ),
        (
            403,
            command,
            &[UPGRADE, VERSION, KEY, "Sec-WebSocket-Protocol: ,"],
        ),
        (
            403,
            command,
            &[
                UPGRADE,
                VERSION,
                KEY,
                "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io",
            ],
        ),
        (
            403,
            port,
            &[
                UPGRADE,
                VERSION,
                KEY,
                "Sec-WebSocket-Protocol: channel.k8s.io",
            ],
        ),
        (400, command, &[UPGRADE, VERSION, V4]),
        (
            400,
            command,
            &[UPGRADE, VERSION, "Sec-WebSocket-Key: AAAA", V4],
        ),
        (
            400,
            command,
            &[
                UPGRADE,
                VERSION,
                "Sec-WebSocket-Key: ????????????????????????",
                V4,
            ],
        ),
        (
            400,
            command,
            &[UPGRADE, VERSION, KEY, V4, "Content-Length: 1"],
        ),
        (
            400,
            command,
            &[UPGRADE, VERSION, KEY, V4, "Transfer-Encoding: chunked"],
        ),
        (
            400,
            "POST /exec?command=x&stdout=1",
            &[UPGRADE, VERSION, KEY, V4],
        ),
        (400, "GET /exec?command=x", &[UPGRADE, VERSION, KEY, V4]),
        (400, "GET /forward", &[UPGRADE, VERSION, KEY, V4]),
        (400, "GET /forward?ports=0", &[UPGRADE, VERSION, KEY, V4]),
        (
            400,
            "GET /forward?ports=65536",
            &[UPGRADE, VERSION, KEY, V4],
        ),
        (400, "GET /forward?ports=80,", &[UPGRADE, VERSION, KEY, V4]),
        (400, &too_many, &[UPGRADE, VERSION, KEY, V4]),
    ];
    for (code, path, fields) in cases {
        let address = if path.contains("/exec") {
            exec
        } else {
            forward
        };
        let (head, body) = ask(address, path, fields).await;
        assert!(
            head.starts_with(&format!("http/1.1 {code} ")),
            "{path} {fields:?}: {head}"
        );
        assert_eq!(
            head.contains("\r\nsec-websocket-version: 13"),
            *code == 426,
            "{head}"
        );
        assert_eq!(
            head.contains("\r\nsec-websocket-protocol:"),
            *code == 101 && fields.contains(&V4)
        );
        if *code != 101 {
            let status = Status::from_json(body.as_bytes());
            assert!(
                matches!(&status, Ok(Status::Failure { code: told, .. }) if told == code),
                "{path}: {body}"
            );
        }
    }
}
