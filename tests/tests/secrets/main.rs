//! What `HeaderBlock` masks is shown by no debug output and no message: every public type that can
//! hold a cookie, in the states in which it does, and the bytes of the cookie in all forms in which
//! bytes are written.

mod requests;
mod search;

use std::{
    fmt::{Debug, Display, Write as _},
    time::Instant,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Uri};
use spdy_frame::{
    CompressedBlock, Data, DecodeLimits, Decoder, Frame, HeaderBlock, HeaderCompression,
    HeaderDecoder, HeaderEncoder, HeaderLimits, Headers, Priority, Side, StreamId, SynReply,
    SynStream, Version, parse,
};
use spdy_session::{
    Config, RecvStream, SendStream,
    proto::{Connection, Event, OpenOptions},
};
use spdy_tower::client::{
    Client, Connector, Proxy,
    rustls::{ClientConfig, RootCertStore},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::service_fn;

use self::{
    requests::{ask, respond},
    search::{SECRET, hidden, search},
};

/// The sensitive names, in requests and responses, and one that the application marks as such.
const NAMES: [&str; 4] = ["cookie", "authorization", "set-cookie", "x-marked"];

// --- the search ----------------------------------------------------------------------------------

fn hidden_message<T: Debug + Display>(what: &str, value: &T) {
    hidden(what, value);
    search(what, &format!("{value}"));
    search(what, &format!("{value:#}"));
}

#[test]
fn the_search_finds_all_forms() {
    let forms: [String; 7] = [
        format!("{SECRET:?}"),
        format!("{:?}", Bytes::from_static(SECRET.as_bytes())),
        format!("{:?}", SECRET.as_bytes()),
        format!("{:#?}", SECRET.as_bytes()),
        format!("{:02x?}", SECRET.as_bytes()),
        format!("{:#04x?}", SECRET.as_bytes()),
        SECRET.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        }),
    ];
    for form in forms {
        let found = std::panic::catch_unwind(|| search("a form", &form));
        assert!(found.is_err(), "{form}");
    }
}

// --- the codec -----------------------------------------------------------------------------------

fn block() -> HeaderBlock {
    let mut block = HeaderBlock::from_pairs([(":path", "/"), ("accept", "*/*")]).unwrap();
    for name in NAMES {
        block
            .append_sensitive(name, format!("{name}={SECRET}"))
            .unwrap();
    }
    block
}

/// The names that are sensitive to all, without the one that only the sender knows as such.
fn received() -> HeaderBlock {
    let pairs = NAMES[..3].iter().map(|name| (name, SECRET));
    let mut block = HeaderBlock::from_pairs(pairs).unwrap();
    block.append(":path", "/").unwrap();
    block
}

/// The frames that carry a block, not compressed, each as an encoder writes it.
fn frames(version: Version) -> Vec<BytesMut> {
    let stream = StreamId::new(1).unwrap();
    let block = &block();
    let syn_stream = SynStream {
        stream,
        associated: None,
        priority: Priority::HIGHEST,
        fin: false,
        unidirectional: false,
        block,
    };
    let fin = false;
    let reply = SynReply { stream, fin, block };
    let headers = Headers { stream, fin, block };
    hidden("SynStream", &syn_stream);
    hidden("SynReply", &reply);
    hidden("Headers", &headers);

    let mut encoder = HeaderEncoder::new(version, HeaderCompression::Stored);
    let mut frames = vec![BytesMut::new(); 5];
    encoder
        .encode_syn_stream(&syn_stream, &mut frames[0])
        .unwrap();
    encoder.encode_syn_reply(&reply, &mut frames[1]).unwrap();
    encoder.encode_headers(&headers, &mut frames[2]).unwrap();
    let payload = SECRET.as_bytes();
    let data = Data {
        stream,
        fin,
        compressed: false,
        remaining: 0,
        payload,
    };
    data.encode(&mut frames[3]).unwrap();
    // A frame of no known type with a block in it.
    frames[4] = frames[2].clone();
    frames[4][3] = 0x63;
    hidden("HeaderEncoder", &encoder);
    frames
}

#[test]
fn frames_and_blocks_show_no_secret() {
    for version in Version::ALL {
        let mut headers = HeaderDecoder::new(version, HeaderLimits::default());
        for mut bytes in frames(version) {
            let (borrowed, _) = parse(version, &bytes).unwrap().unwrap();
            hidden_message("a borrowed frame", &borrowed);
            let mut decoder = Decoder::new(version, DecodeLimits::default());
            let mut half = BytesMut::from(&bytes[..bytes.len() - 1]);
            hidden("half a frame", &decoder.decode(&mut half));
            hidden("Decoder", &decoder);
            let mut decoder = Decoder::new(version, DecodeLimits::default());
            let frame = decoder.decode(&mut bytes).unwrap().unwrap();
            hidden_message("Frame", &frame);
            let compressed = match frame {
                Frame::SynStream(frame) => frame.block,
                Frame::SynReply(frame) => frame.block,
                Frame::Headers(frame) => frame.block,
                _ => continue,
            };
            hidden("CompressedBlock", &compressed);
            hidden(
                "its borrowed form",
                &CompressedBlock::new(compressed.as_bytes()),
            );
            headers.decode(compressed).unwrap();
            hidden("HeaderDecoder", &headers);
        }
    }
    for mode in [HeaderCompression::Stored, HeaderCompression::Indexed] {
        header_blocks(mode);
    }
}

/// The blocks that come of a mode, and what both sides hold behind each.
fn header_blocks(mode: HeaderCompression) {
    let version = Version::V3_1;
    let sent = received();
    let mut limits = HeaderLimits::default();
    limits.max_fields = 3;
    let mut cutting = HeaderDecoder::new(version, limits);
    let mut decoder = HeaderDecoder::new(version, HeaderLimits::default());
    let mut encoder = HeaderEncoder::new(version, mode);
    for round in 0..5 {
        let mut frame = BytesMut::new();
        let fin = false;
        let stream = StreamId::MAX;
        let headers = Headers {
            stream,
            fin,
            block: &sent,
        };
        encoder.encode_headers(&headers, &mut frame).unwrap();
        hidden("HeaderEncoder", &encoder);
        let mut bytes = &frame[12..];
        if round == 3 {
            // Without the sync flush.
            bytes = &bytes[..bytes.len() - 4];
        }
        let block = decoder.decode(CompressedBlock::new(bytes)).unwrap();
        let cut = cutting.decode(CompressedBlock::new(bytes)).unwrap();
        hidden("HeaderDecoder", &(&decoder, &cutting));
        for block in [&sent, &block, &cut] {
            hidden("HeaderBlock", block);
            hidden("Fields", &block.fields());
            let mut some = block.fields();
            some.next();
            hidden("some Fields", &some);
            hidden("a clone", &some.clone().rev());
            some.for_each(|field| hidden("Field", &field));
        }
        if round == 3 {
            break;
        }
    }
}

// --- sessions ------------------------------------------------------------------------------------

/// A connection, looked at in each state.
struct Watched(Connection);

impl Watched {
    fn new(side: Side, version: Version) -> Self {
        let mut config = Config::default();
        config.header_compression = HeaderCompression::Stored;
        Self(Connection::new(
            side,
            version,
            config.into(),
            Instant::now(),
        ))
    }

    fn look(&self) {
        hidden("proto::Connection", &self.0);
    }

    /// Moves what is there to the other one, in pieces.
    fn send(&mut self, other: &mut Self) -> Vec<Event> {
        let mut input = BytesMut::new();
        loop {
            let transmit = self.0.poll_transmit(Instant::now());
            hidden("Transmit", transmit);
            let length = transmit.chunk().len().min(400);
            if length == 0 {
                break;
            }
            input.extend_from_slice(&transmit.chunk()[..length]);
            transmit.advance(length);
            self.look();
            other.0.handle_input(Instant::now(), &mut input);
            other.look();
        }
        let mut events = Vec::new();
        while let Some(event) = other.0.poll_event() {
            hidden("Event", &event);
            other.look();
            events.push(event);
        }
        events
    }
}

#[test]
fn the_machine_shows_no_secret() {
    for version in Version::ALL {
        let mut client = Watched::new(Side::Client, version);
        let mut server = Watched::new(Side::Server, version);
        let payload = || Bytes::from_static(SECRET.as_bytes());
        for round in 0..2 {
            let id = client
                .0
                .open(Instant::now(), received(), OpenOptions::default())
                .unwrap();
            client.look();
            client.0.send_data(id, payload(), false).unwrap();
            client
                .0
                .send_data(id, vec![SECRET.as_bytes(); 100].concat().into(), false)
                .unwrap();
            client.0.send_headers(id, received(), true).unwrap();
            client.look();
            let events = client.send(&mut server);
            assert!(events.len() >= 3, "{events:?}");
            server.0.accept(id);
            server.look();
            server.0.send_reply(id, received(), false).unwrap();
            server.0.send_data(id, payload(), false).unwrap();
            server.look();
            server.0.send_headers(id, received(), round != 1).unwrap();
            server.look();
            let events = server.send(&mut client);
            assert!(events.len() >= 3, "{events:?}");
        }
        hidden("its figures", &client.0.stats());
        client.0.handle_eof(Instant::now());
        client.look();
    }
}

/// Looks at the handles of one side of a stream while both sides send and receive.
async fn look_at_handles(mut receive: RecvStream, mut send: SendStream) {
    send.send_data(Bytes::from_static(SECRET.as_bytes()), false)
        .unwrap();
    send.send_data(vec![SECRET.as_bytes(); 100].concat().into(), false)
        .unwrap();
    hidden("SendStream", &send);
    let mut piece = [0; 8];
    receive.read_exact(&mut piece).await.unwrap();
    hidden("RecvStream", &receive);
    send.send_headers(received(), true).unwrap();
    hidden("SendStream", &send);
    hidden("RecvStream", &receive);
    while let Some(received) = receive.next().await {
        hidden("Received", &received);
        hidden("RecvStream", &receive);
    }
    send.written().await.unwrap();
    hidden("SendStream", &send);
}

#[tokio::test(start_paused = true)]
async fn handles_show_no_secret() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.header_compression = HeaderCompression::Stored;
        let (ours, theirs) = tokio::io::duplex(300);
        let (client, _, driver) = spdy_session::client(ours, version, config.clone());
        hidden("Driver", &driver);
        tokio::spawn(driver);
        let (server, mut incoming, driver) = spdy_session::server(theirs, version, config);
        tokio::spawn(driver);
        let serve = tokio::spawn(async move {
            let stream = incoming.accept().await.unwrap();
            hidden("PendingStream", &stream);
            hidden("Incoming", &incoming);
            let (headers, receive, reply) = stream.into_parts();
            hidden("HeaderBlock", &headers);
            hidden("SendReply", &reply);
            let send = reply.send_reply(received(), false).unwrap();
            hidden("SendStream", &send);
            look_at_handles(receive, send).await;
            hidden("Session", &server);
        });
        let opening = client.open(received(), OpenOptions::default());
        hidden("Opening", &opening);
        let stream = opening.await.unwrap();
        hidden("Stream", &stream);
        let (mut receive, send) = stream.split();
        hidden("HeaderBlock", &receive.response_headers().await.unwrap());
        look_at_handles(receive, send).await;
        serve.await.unwrap();
        hidden("Session", &client);
    }
}

// --- requests ------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn requests_and_responses_show_no_secret() {
    for version in Version::ALL {
        let (ours, theirs) = tokio::io::duplex(1000);
        let builder = spdy_tower::Builder::new();
        let connection = builder.serve_connection(theirs, version, service_fn(respond));
        hidden("Connection", &connection);
        tokio::spawn(connection);
        let (client, _, driver) = spdy_tower::client::handshake(ours, version, Config::default());
        tokio::spawn(driver);
        // Of requests that are alike the second one takes another way, and the third one a third.
        for _ in 0..4 {
            ask(&client).await;
        }
    }
}

/// An HTTP/1.1 server that answers once with the secret.
async fn refuse(mut transport: DuplexStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(transport.read_u8().await.unwrap());
    }
    let response = format!(
        "HTTP/1.1 401 Unauthorized\r\nset-cookie: {SECRET}\r\nwww-authenticate: {SECRET}\r\n\
         content-length: 6\r\n\r\nlog in"
    );
    transport.write_all(response.as_bytes()).await.unwrap();
    transport.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refusals_and_tokens_show_no_secret() {
    let (ours, theirs) = tokio::io::duplex(1000);
    tokio::spawn(refuse(theirs));
    let request = spdy_tower::upgrade::request(&"http://a.test/".parse().unwrap());
    let error = spdy_tower::upgrade::connect(ours, request)
        .await
        .unwrap_err();
    hidden_message("ConnectError", &error);

    let (ours, theirs) = tokio::io::duplex(1000);
    tokio::spawn(refuse(theirs));
    let request = spdy_kube::client::request(&"http://a.test/exec".parse().unwrap());
    let streams = spdy_kube::Streams::default();
    let error = spdy_kube::client::exec(ours, request, streams)
        .await
        .unwrap_err();
    hidden_message("ClientError", &error);

    let tokens = spdy_kube::Tokens::new();
    let token = tokens.insert(SECRET.to_owned()).unwrap();
    hidden("Tokens", &tokens);
    assert!(!format!("{tokens:?}").contains(&token));
}

/// The proxy refuses, and writes the secret into its answer.
#[tokio::test(start_paused = true)]
async fn a_proxy_shows_no_secret() {
    let proxy = Proxy::new(&Uri::from_static("http://proxy.test")).unwrap();
    let proxy = proxy.authorization(SECRET.parse().unwrap());
    hidden_message("Proxy", &proxy);
    let dial = service_fn(async |_: Uri| {
        let (ours, theirs) = tokio::io::duplex(1000);
        tokio::spawn(refuse(theirs));
        std::io::Result::Ok(ours)
    });
    let tls = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let connector = Connector::new(tls).service(dial);
    let connector = connector.proxies(move |_| Ok(Some(proxy.clone())));
    hidden("Connector", &connector);
    let client = Client::new(connector);
    let error = client.get("https://a.test/").await.unwrap_err();
    assert!(error.is_connect(), "{error}");
    hidden_message("FetchError", &error);
    hidden_message("its cause", &std::error::Error::source(&error).unwrap());
    hidden("Client", &client);
}

/// Maps of fields show what is marked in them, and nothing else is: so all that is received has to
/// be.
#[test]
fn a_map_of_fields_shows_what_is_not_marked() {
    let mut map = HeaderMap::new();
    map.insert("cookie", SECRET.parse().unwrap());
    let found = std::panic::catch_unwind(|| hidden("HeaderMap", &map));
    assert!(found.is_err());
}
