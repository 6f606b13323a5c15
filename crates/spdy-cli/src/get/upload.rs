//! The bodies of requests: texts, files and standard input.

use std::{
    fs,
    io::{self, Cursor},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderValue, Method};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use indicatif::ProgressBar;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    task::spawn_blocking,
};
use tokio_util::io::ReaderStream;

use super::{form, places::is_dash};
use crate::{
    failure::{Exit, Failure},
    flags::Sent,
    origin::percent_encoded,
    whole::{Memory, plain, whole},
};

/// The body of a request that is sent.
pub(super) type Payload = UnsyncBoxBody<Bytes, io::Error>;

/// What is sent as the body of each request.
pub(super) struct Upload {
    /// The method, unless the user wants another one.
    pub(super) method: Method,
    pub(super) content_type: Option<HeaderValue>,
    parts: Vec<Part>,
    /// The part that cannot be read again.
    once: Option<String>,
}

/// A part of a body.
pub(super) enum Part {
    Bytes(Bytes),
    File(PathBuf),
    Stdin,
}

impl Upload {
    /// Returns the body that the flags describe, or `None` without such a flag.
    pub(super) fn new(sent: &Sent) -> Result<Option<Self>, Failure> {
        if let Some(path) = &sent.upload_file {
            let parts = vec![Part::at(path.clone())];
            return Ok(Some(Self::of(Method::PUT, None, parts)));
        }
        if !sent.form.is_empty() {
            let (content_type, parts) = form::encode(&sent.form)?;
            return Ok(Some(Self::of(Method::POST, Some(content_type), parts)));
        }
        let data = if sent.get { None } else { data(sent)? };
        let upload = |data: Vec<u8>| {
            let parts = vec![Part::Bytes(data.into())];
            Self::of(Method::POST, Some(FORM), parts)
        };
        Ok(data.map(upload))
    }

    fn of(method: Method, content_type: Option<HeaderValue>, parts: Vec<Part>) -> Self {
        Self {
            method,
            content_type,
            once: parts.iter().find_map(Part::once),
            parts,
        }
    }

    /// Returns what cannot be read again, if there is such a thing in the body.
    pub(super) fn once(&self) -> Option<&str> {
        self.once.as_deref()
    }

    /// Opens the files as [`open`](Self::open) does. A pipe opens only when another process has
    /// opened its other end, for which the task waits here.
    pub(super) async fn begin(
        self: &Arc<Self>,
        bar: &ProgressBar,
        sent: &Arc<AtomicU64>,
    ) -> Result<(Payload, Option<u64>), Failure> {
        if self.once.is_none() {
            return self.open(bar, sent);
        }
        let (upload, bar, sent) = (Arc::clone(self), bar.clone(), Arc::clone(sent));
        let opened = spawn_blocking(move || upload.open(&bar, &sent)).await;
        opened.unwrap_or_else(|error| Err(Failure::local("cannot read the body", &error)))
    }

    /// Opens the files. Returns the body and its length, if that is known.
    ///
    /// `bar` and `sent` advance by what has been taken from the body.
    pub(super) fn open(
        &self,
        bar: &ProgressBar,
        sent: &Arc<AtomicU64>,
    ) -> Result<(Payload, Option<u64>), Failure> {
        sent.store(0, Ordering::Relaxed);
        if let [Part::Bytes(bytes)] = &self.parts[..] {
            let length = bytes.len() as u64;
            sent.store(length, Ordering::Relaxed);
            let body = Full::new(bytes.clone()).map_err(|never| match never {});
            return Ok((body.boxed_unsync(), Some(length)));
        }
        let mut whole: Box<dyn AsyncRead + Send + Unpin> = Box::new(tokio::io::empty());
        let mut length = Some(0);
        for part in &self.parts {
            let (reader, bytes) = part.open()?;
            whole = Box::new(whole.chain(reader));
            length = length.zip(bytes).map(|(sum, more)| sum + more);
        }
        bar.set_position(0);
        let (bar, sent) = (bar.clone(), Arc::clone(sent));
        let pieces = ReaderStream::with_capacity(whole, PIECE).inspect_ok(move |piece| {
            bar.inc(piece.len() as u64);
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
        let body = StreamBody::new(pieces.map_ok(Frame::data));
        Ok((body.boxed_unsync(), length))
    }
}

impl Part {
    /// Returns the part for the name of a file, in which `-` is standard input.
    pub(super) fn at(path: PathBuf) -> Self {
        if is_dash(&path) {
            Self::Stdin
        } else {
            Self::File(path)
        }
    }

    /// Returns the name of a part that cannot be read again.
    fn once(&self) -> Option<String> {
        match self {
            Self::Bytes(_) => None,
            Self::Stdin => Some("standard input".into()),
            Self::File(path) => {
                let about = fs::metadata(path).ok()?;
                let is_once = !about.is_file() && !about.is_dir();
                is_once.then(|| format!("{}, which is a pipe or a device,", path.display()))
            }
        }
    }

    fn open(&self) -> Result<(Box<dyn AsyncRead + Send + Unpin>, Option<u64>), Failure> {
        match self {
            Self::Bytes(bytes) => {
                let reader = Cursor::new(bytes.clone());
                Ok((Box::new(reader), Some(bytes.len() as u64)))
            }
            Self::Stdin => Ok((Box::new(tokio::io::stdin()), None)),
            Self::File(path) => {
                let unreadable =
                    |error| Failure::local(format_args!("cannot read {}", path.display()), &error);
                let file = fs::File::open(path).map_err(unreadable)?;
                let about = file.metadata().map_err(unreadable)?;
                if about.is_dir() {
                    let message = format!("cannot read {}: it is a directory", path.display());
                    return Err(Failure::new(Exit::Local, message));
                }
                // A pipe has no length. Another process may make a file longer.
                let length = about.is_file().then_some(about.len());
                let reader = tokio::fs::File::from_std(file).take(length.unwrap_or(u64::MAX));
                Ok((Box::new(reader), length))
            }
        }
    }
}

/// Returns what all the options for data describe, or `None` without such an option.
fn data(sent: &Sent) -> Result<Option<Vec<u8>>, Failure> {
    let texts = sent.data.iter().map(|data| (data, put_text as Put));
    let binary = sent
        .data_binary
        .iter()
        .map(|data| (data, put_binary as Put));
    let encoded = sent
        .data_urlencode
        .iter()
        .map(|data| (data, put_encoded as Put));
    let mut memory = memory();
    let mut all: Option<Vec<u8>> = None;
    for (data, put) in texts.chain(binary).chain(encoded) {
        let bytes = match &mut all {
            Some(bytes) => {
                bytes.push(b'&');
                bytes
            }
            None => all.insert(Vec::new()),
        };
        put(data, bytes, &mut memory)?;
    }
    Ok(all)
}

/// Puts what an option describes behind the bytes.
type Put = fn(&str, &mut Vec<u8>, &mut Memory) -> Result<(), Failure>;

/// Returns the data for the query of a URL, if `--get` wants them there.
pub(super) fn query(sent: &Sent) -> Result<Option<String>, Failure> {
    let data = if sent.get { data(sent)? } else { None };
    let text = data.map(String::from_utf8).transpose();
    text.map_err(|error| Failure::local("the data for the URL is no text", &error))
}

/// `--data-urlencode`: a text or the contents of a file, which are encoded, and a name before them.
fn put_encoded(data: &str, bytes: &mut Vec<u8>, memory: &mut Memory) -> Result<(), Failure> {
    let (name, text, file) = match data.split_once('=') {
        Some((name, text)) => (name, text, None),
        None => match data.split_once('@') {
            Some((name, file)) => (name, "", Some(file)),
            None => ("", data, None),
        },
    };
    bytes.extend_from_slice(name.as_bytes());
    if !name.is_empty() {
        bytes.push(b'=');
    }
    encode(bytes, text.as_bytes());
    match file {
        Some(file) => memory.read(Path::new(file), bytes, encode),
        None => Ok(()),
    }
}

fn encode(bytes: &mut Vec<u8>, piece: &[u8]) {
    let text = percent_encoded(piece).replace("%20", "+");
    bytes.extend_from_slice(text.as_bytes());
}

/// `--data`: a text, or `@` and the name of a file. As in curl, a file that is text loses its line
/// breaks and zeros.
fn put_text(data: &str, bytes: &mut Vec<u8>, memory: &mut Memory) -> Result<(), Failure> {
    put(data, bytes, memory, |bytes, piece| {
        let kept = piece
            .iter()
            .filter(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        bytes.extend(kept);
    })
}

fn put_binary(data: &str, bytes: &mut Vec<u8>, memory: &mut Memory) -> Result<(), Failure> {
    put(data, bytes, memory, plain)
}

fn put(
    data: &str,
    bytes: &mut Vec<u8>,
    memory: &mut Memory,
    append: impl Fn(&mut Vec<u8>, &[u8]),
) -> Result<(), Failure> {
    match data.strip_prefix('@') {
        Some(name) => memory.read(Path::new(name), bytes, append),
        None => {
            bytes.extend_from_slice(data.as_bytes());
            Ok(())
        }
    }
}

/// Returns the contents of a file, or of standard input if its name is `-`.
pub(crate) fn contents(name: &str) -> Result<Vec<u8>, Failure> {
    whole(Path::new(name), CURE)
}

/// Returns the memory for the body of a request.
pub(super) const fn memory() -> Memory {
    Memory::new(CURE)
}

const CURE: &str = "spdy get --upload-file sends a file while it is read";

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// The bytes that are read from a file at once.
const PIECE: usize = 128 * 1024;
