//! Which URLs are requested, over which connections, and where their bodies go.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Start, upload::query};
use crate::{
    failure::{Exit, Failure},
    flags::Get,
    origin::{Origin, Url},
};

/// Returns the URLs to connect to. An uploaded file gives its name to a directory.
pub(super) fn urls(get: &Get) -> Result<Vec<Url>, Failure> {
    let name = get.sent.upload_file.as_deref();
    let name = name.filter(|path| !is_dash(path)).and_then(Path::file_name);
    let url = |url: &Url| {
        let url = get.reach.reached(url);
        match name {
            Some(name) if url.uri.path().ends_with('/') => url.join(name.as_encoded_bytes()),
            _ => url,
        }
    };
    let urls = get.urls.iter().map(url);
    let Some(query) = query(&get.sent)? else {
        return Ok(urls.collect());
    };
    let urls = urls.map(|url| {
        url.and_query(&query).ok_or_else(|| {
            let message = "the data cannot be part of a URL: use --data-urlencode";
            Failure::new(Exit::Usage, message)
        })
    });
    urls.collect()
}

/// Returns the file for each URL, or `None` if its body is not written to one.
pub(super) fn files(get: &Get) -> Result<Vec<Option<PathBuf>>, Failure> {
    let usage = |message: &str| Err(Failure::new(Exit::Usage, message));
    let received = &get.received;
    let output = &received.output;
    if !output.is_empty() && output.len() != get.urls.len() {
        return usage("--output must be given once for each URL, or not at all");
    }
    if received.json && output.iter().any(|path| is_dash(path)) {
        return usage("--output cannot be standard output, because --json writes there");
    }
    let mut files: Vec<Option<PathBuf>> = Vec::new();
    for (place, url) in get.urls.iter().enumerate() {
        let file = if received.remote_name > 0 {
            let name = url.uri.path().rsplit('/').next().unwrap_or_default();
            if matches!(name, "" | "." | "..") {
                let message = format!("{url} has no file name: use --output");
                return Err(Failure::new(Exit::Usage, message));
            }
            Some(name.into())
        } else {
            output.get(place).filter(|path| !is_dash(path)).cloned()
        };
        if file.is_none() && matches!(received.continue_at, Some(Start::End)) {
            return usage("--continue-at - needs a file: use --output or --remote-name");
        }
        if let Some(path) = &file
            && files.iter().flatten().any(|other| is_same(other, path))
            && !is_special(path)
        {
            let path = path.display();
            return usage(&format!(
                "{path} would have two bodies: use --output with other names"
            ));
        }
        files.push(file);
    }
    Ok(files)
}

/// Returns whether two paths lead to the same file, which need not be there yet.
fn is_same(one: &Path, other: &Path) -> bool {
    resolved(one) == resolved(other) || is_linked(one, other)
}

/// Returns a path without links and parts like `..`, as far as its directory is there.
fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => fs::canonicalize(parent),
            _ => fs::canonicalize("."),
        };
        if let (Ok(directory), Some(name)) = (directory, path.file_name()) {
            path = directory.join(name);
        }
        // A link can lead to a file that is not there.
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(&path).join(target),
            Err(_) => break,
        }
    }
    path
}

/// Returns whether two paths are names of one file that is there.
#[cfg(unix)]
fn is_linked(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let file = |path| fs::metadata(path).map(|about| (about.dev(), about.ino()));
    matches!((file(one), file(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(not(unix))]
const fn is_linked(_: &Path, _: &Path) -> bool {
    false
}

/// As many links as Linux follows in a path.
const MAX_LINKS: u8 = 40;

/// Returns whether a path is there and is no regular file, like /dev/null.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| !about.is_file())
}

/// Returns whether a path is `-`, which stands for standard input or output as in curl.
pub(super) fn is_dash(path: &Path) -> bool {
    path == Path::new("-")
}

/// Groups URLs by origin. Each group holds the places of its URLs.
pub(super) fn by_origin(urls: &[Url]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&Origin, Vec<usize>)> = Vec::new();
    for (place, url) in urls.iter().enumerate() {
        match groups.iter_mut().find(|(origin, _)| **origin == url.origin) {
            Some((_, places)) => places.push(place),
            None => groups.push((&url.origin, vec![place])),
        }
    }
    groups.into_iter().map(|(_, places)| places).collect()
}
