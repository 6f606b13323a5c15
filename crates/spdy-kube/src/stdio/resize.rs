//! The sizes of a terminal.

use serde_json::Value;
use tokio::{sync::mpsc, task::coop::consume_budget};

use super::Stdin;

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl Size {
    /// Returns the JSON line for this size.
    #[must_use]
    pub fn to_json(self) -> String {
        let Self { width, height } = self;
        format!("{{\"Width\":{width},\"Height\":{height}}}\n")
    }
}

/// The sizes of the client's terminal, each time that it changes.
///
/// A program that reads them late gets the first few and the last one. Dropping the value throws
/// them away.
#[derive(Debug)]
pub struct Resize(mpsc::Receiver<Size>);

impl Resize {
    /// Waits for the next size. The first one arrives when the client has opened its streams.
    /// Returns `None` if no more can arrive, because the client is gone or has sent something else.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Size> {
        self.0.recv().await
    }

    /// Reads sizes from a stream, in a task that runs until the stream ends, so that sizes never
    /// stop the other streams.
    pub(crate) fn new(stream: Stdin) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(read(stream, sender));
        Self(receiver)
    }
}

/// Reads sizes. If the program does not take them in time, only the last one is kept.
async fn read(mut stream: Stdin, sizes: mpsc::Sender<Size>) {
    let mut parser = Parser::default();
    let mut latest = None;
    loop {
        tokio::select! {
            piece = stream.next() => {
                let Some(Ok(piece)) = piece else {
                    break;
                };
                for part in piece.chunks(MAX_OBJECT) {
                    let Some(read) = parser.read(part) else {
                        tracing::debug!(target: "spdy", "size of the terminal is no JSON of a size");
                        return;
                    };
                    for size in read {
                        if latest.is_some() || sizes.try_send(size).is_err() {
                            latest = Some(size);
                        }
                    }
                    // A piece may have 32 MiB of them.
                    consume_budget().await;
                }
            }
            place = sizes.reserve(), if latest.is_some() => match (place, latest.take()) {
                (Ok(place), Some(size)) => place.send(size),
                // The program takes no more sizes. Dropping the stream throws the rest away.
                _ => return,
            },
        }
    }
    if let Some(size) = latest {
        _ = sizes.send(size).await;
    }
}

/// Parses sizes out of a stream of JSON objects, which can be split anywhere.
#[derive(Debug, Default)]
struct Parser(Vec<u8>);

impl Parser {
    /// Returns the sizes that are complete now. Returns `None` if the bytes are something else.
    fn read(&mut self, part: &[u8]) -> Option<Vec<Size>> {
        debug_assert!(part.len() <= MAX_OBJECT);
        self.0.extend_from_slice(part);
        let mut objects = serde_json::Deserializer::from_slice(&self.0).into_iter::<Value>();
        let mut sizes = Vec::new();
        let mut taken = 0;
        while let Some(object) = objects.next() {
            match object {
                Ok(object) => sizes.push(size(&object)?),
                Err(error) if error.is_eof() => break,
                Err(_) => return None,
            }
            let end = objects.byte_offset();
            if end - taken > MAX_OBJECT {
                return None;
            }
            taken = end;
        }
        self.0.drain(..taken);
        (self.0.len() <= MAX_OBJECT).then_some(sizes)
    }
}

fn size(object: &Value) -> Option<Size> {
    // Go ignores the case of names, and takes 0 for a missing value.
    let fields = object.as_object()?;
    let field = |name: &str| {
        let found = fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or(Some(0), |(_, value)| value.as_u64()?.try_into().ok())
    };
    Some(Size {
        width: field("Width")?,
        height: field("Height")?,
    })
}

/// How many sizes can wait to be taken.
const QUEUE: usize = 16;

/// The longest JSON object, in bytes.
const MAX_OBJECT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        width: 111,
        height: 33,
    };

    #[test]
    fn objects_are_read_wherever_they_are_cut() {
        let wire = format!("{}{}", SIZE.to_json(), r#"{"width": 80,"height":24} "#);
        for cut in 0..=wire.len() {
            let mut parser = Parser::default();
            let (first, second) = wire.as_bytes().split_at(cut);
            let mut sizes = parser.read(first).unwrap();
            sizes.extend(parser.read(second).unwrap());
            let other = Size {
                width: 80,
                height: 24,
            };
            assert_eq!(sizes, [SIZE, other], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for wrong in [
            "not JSON",
            "[1,2]",
            "7 ",
            r#"{"Width":-1,"Height":1}"#,
            r#"{"Width":65536,"Height":1}"#,
            r#"{"Width":"80","Height":24}"#,
        ] {
            assert_eq!(Parser::default().read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn an_object_that_never_ends_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.read(b"{\"Width\":"), Some(vec![]));
        assert_eq!(parser.read(&[b' '; MAX_OBJECT]), None);
    }

    /// Parsed, a message of the greatest length would take half a GiB.
    #[tokio::test]
    async fn a_long_object_is_refused_however_it_comes() {
        for length in [100, MAX_OBJECT + 1, 1 << 20] {
            let mut json = br#"{"Width":111,"Height":33,"x":["#.to_vec();
            while json.len() < length {
                json.extend_from_slice(b"1,");
            }
            json.extend_from_slice(b"1]}\n");
            let (mut queue, pieces) = crate::websocket::queue();
            let mut resize = Resize::new(Stdin::channel(pieces));
            queue.data(json.into()).await;
            let expected = (length < MAX_OBJECT).then_some(SIZE);
            assert_eq!(resize.next().await, expected, "{length}");
        }
    }

    #[tokio::test]
    async fn of_a_long_message_the_first_sizes_and_the_last_one_are_taken() {
        let last = Size {
            width: 80,
            height: 24,
        };
        let wire = [SIZE.to_json().repeat(10_000), last.to_json()].concat();
        let (mut queue, pieces) = crate::websocket::queue();
        let mut resize = Resize::new(Stdin::channel(pieces));
        queue.data(wire.into()).await;
        queue.finish().await;
        let mut sizes = Vec::new();
        while let Some(size) = resize.next().await {
            sizes.push(size);
        }
        assert_eq!(sizes.last(), Some(&last));
        assert!(sizes.len() <= QUEUE + 1000, "{}", sizes.len());
    }
}
