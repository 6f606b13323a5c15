//! The configuration file: flags under their own names, in TOML.
//!
//! The file is converted to arguments. So it can contain exactly what the command line can, under
//! the same rules.

use std::{collections::HashMap, ffi::OsString, fs, path::Path};

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, Error, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use toml::{Table, Value};

use super::Flags;

/// Reads `path` and adds its flags to the command line. Flags of the command line take precedence.
pub(super) fn merge(
    path: &Path,
    matches: &ArgMatches,
    line: impl Iterator<Item = OsString>,
) -> Result<Flags, Error> {
    let text = fs::read_to_string(path).map_err(|error| {
        let message = format!(
            "cannot read the configuration file {}: {error}\n",
            path.display()
        );
        Error::raw(ErrorKind::Io, message)
    })?;
    let more = Arguments::read(&text, matches).map_err(|reason| {
        let key = reason.split('`').nth(1);
        let message = format!("{}: {reason}\n", place(path, &text, key));
        Error::raw(ErrorKind::InvalidValue, message)
    })?;
    let line = more.join(line.collect());
    Flags::command()
        .try_get_matches_from(line)
        .and_then(|matches| Flags::from_arg_matches(&matches))
        .map_err(|error| more.located(path, &text, &error))
}

/// The arguments for the keys of a file, without those that are on the command line.
#[derive(Debug, Default)]
struct Arguments {
    /// Each flag with its value in the same word, so that no value is taken for a flag.
    flags: Vec<String>,
    /// The arguments without a name, which come last.
    operands: Vec<String>,
}

impl Arguments {
    fn read(text: &str, matches: &ArgMatches) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error| mistake(text, &error))?;
        let command = Flags::command();
        let mut arguments = Self::default();
        for (key, value) in &table {
            let flag = flag(&command, key).ok_or_else(|| format!("unknown key `{key}`"))?;
            let values = values(flag, key, value)?;
            let id = flag.get_id().as_str();
            // A setting of the command line replaces only the setting of the same name.
            let is_replaced = matches.value_source(id) == Some(ValueSource::CommandLine);
            if is_replaced && !SETTINGS.contains(&id) {
                continue;
            }
            match flag.get_long() {
                Some(long) => arguments
                    .flags
                    .extend(values.iter().map(|value| match value {
                        Some(value) => format!("--{long}={value}"),
                        None => format!("--{long}"),
                    })),
                None => arguments.operands.extend(values.into_iter().flatten()),
            }
        }
        Ok(arguments)
    }

    /// Inserts the flags before those of the command line, and appends the operands.
    fn join(&self, mut line: Vec<OsString>) -> Vec<OsString> {
        let after_name = line.len().min(1);
        let flags = self.flags.iter().map(OsString::from);
        line.splice(after_name..after_name, flags);
        if !self.operands.is_empty() && !line.iter().any(|word| word == ONLY_OPERANDS_FOLLOW) {
            line.push(ONLY_OPERANDS_FOLLOW.into());
        }
        line.extend(self.operands.iter().map(OsString::from));
        line
    }

    /// Adds the name of the file, the line and the keys to an error.
    fn located(&self, path: &Path, text: &str, error: &Error) -> Error {
        let keys = self.concerned(error);
        let mut place = place(path, text, keys.first().copied());
        for key in keys {
            place = format!("{place}: `{key}`");
        }
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        Error::raw(error.kind(), format!("{place}: {text}"))
    }

    /// Returns the keys of the file that an error is about.
    fn concerned(&self, error: &Error) -> Vec<&str> {
        let named =
            [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| match error.get(kind) {
                Some(ContextValue::String(name)) => vec![name.clone()],
                Some(ContextValue::Strings(names)) => names.clone(),
                _ => Vec::new(),
            });
        let named = named.concat();
        let is_named = |key: &&str| {
            let flag = format!("--{key}");
            named
                .iter()
                .any(|name| name.split([' ', '=', '[']).next() == Some(&flag))
        };
        let keys = self.flags.iter().map(|flag| {
            let flag = flag.trim_start_matches("--");
            flag.split_once('=').map_or(flag, |(key, _)| key)
        });
        let mut keys: Vec<_> = keys.filter(is_named).collect();
        keys.dedup();
        keys
    }
}

/// Returns a mistake in the syntax as one sentence.
fn mistake(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let message = error.message().replace('\n', ", ");
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// Returns the name of the file, and the number of the line on which a key is first.
fn place(path: &Path, text: &str, key: Option<&str>) -> String {
    let name = key.map(|key| key.split('.').next_back().unwrap_or(key));
    let begins = |line: &str| {
        let rest = name.and_then(|name| {
            line.trim_start_matches([' ', '\t', '[', '"'])
                .strip_prefix(name)
        });
        rest.is_some_and(|rest| {
            !rest.starts_with(|next: char| next.is_alphanumeric() || "-_".contains(next))
        })
    };
    match text.lines().position(begins) {
        Some(line) => format!("{}:{}", path.display(), line + 1),
        None => path.display().to_string(),
    }
}

/// Returns the flag that a key names.
fn flag<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .filter(|_| !ONLY_ON_THE_LINE.contains(&key))
        .find(|flag| flag.get_long().unwrap_or_else(|| flag.get_id().as_str()) == key)
}

/// Returns the values of a key: one item for each time that the flag is given. An item is `None`
/// for a flag without a value.
fn values(flag: &Arg, key: &str, value: &Value) -> Result<Vec<Option<String>>, String> {
    match (flag.get_action(), value) {
        _ if SETTINGS.contains(&key) => {
            let all = settings(key, value)?;
            one_spelling(key, &all)?;
            Ok(all.into_iter().map(Some).collect())
        }
        (ArgAction::SetTrue, Value::Boolean(true)) => Ok(vec![None]),
        (ArgAction::SetTrue, Value::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err(format!("`{key}` must be true or false")),
        (ArgAction::Append, Value::Array(items)) => items
            .iter()
            .map(|item| scalar(item).map(Some))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("`{key}` must be a string or an array of strings")),
        (_, value) => scalar(value)
            .map(|text| vec![Some(text)])
            .ok_or_else(|| format!("`{key}` must be a string or a number")),
    }
}

/// Returns the settings of a table, whose inner tables are parts of their names.
fn settings(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let Value::Table(table) = value else {
        return Err(format!("`{key}` must be a table of settings"));
    };
    let mut all = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(_) => {
                let inner = settings(&format!("{key}.{name}"), value)?;
                all.extend(inner.into_iter().map(|it| format!("{name}.{it}")));
            }
            Value::Boolean(value) => all.push(format!("{name}={value}")),
            Value::Float(value) => all.push(format!("{name}={value}")),
            value => {
                let text = scalar(value).ok_or_else(|| {
                    format!("`{key}.{name}` must be a number, a string or true or false")
                })?;
                all.push(format!("{name}={text}"));
            }
        }
    }
    Ok(all)
}

/// Checks that no setting of a table is there in two spellings, such as `max-frame` and
/// `max_frame`.
fn one_spelling(key: &str, settings: &[String]) -> Result<(), String> {
    let mut names = HashMap::new();
    for setting in settings {
        let name = setting.split('=').next().unwrap_or_default();
        if let Some(other) = names.insert(name.replace('_', "-"), name) {
            return Err(format!(
                "`{key}.{other}` and `{key}.{name}` are two spellings of one key"
            ));
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The argument that ends the flags of a command line.
const ONLY_OPERANDS_FOLLOW: &str = "--";

/// Flags whose keys are tables: the settings of each protocol.
const SETTINGS: [&str; 3] = ["spdy", "http2", "http1"];

/// Flags that are only valid on the command line.
const ONLY_ON_THE_LINE: [&str; 6] = [
    "config",
    "check-config",
    "completions",
    "man",
    "help",
    "version",
];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn read(text: &str, line: &str) -> Result<Vec<String>, String> {
        let matches = Flags::command()
            .try_get_matches_from(line.split(' '))
            .unwrap();
        let arguments = Arguments::read(text, &matches)?;
        let line = arguments.join(vec!["spdy-server".into()]);
        Ok(line[1..]
            .iter()
            .map(|word| word.to_str().unwrap().to_owned())
            .collect())
    }

    #[test]
    fn keys_become_the_flags_of_their_names() {
        let text = "\
            directory = \"public\"\n\
            plain = [\"127.0.0.1:1\", \"unix:/a\"]\n\
            listen = \"127.0.0.1:2\"\n\
            threads = 2\n\
            reuse-port = true\n\
            systemd = false\n";
        assert_eq!(
            read(text, "spdy-server").unwrap().join(" "),
            "--listen=127.0.0.1:2 --plain=127.0.0.1:1 --plain=unix:/a --reuse-port --threads=2 -- public"
        );
    }

    #[test]
    fn a_value_is_never_taken_for_a_flag() {
        let directory = |text: &str, line: &str| {
            let matches = Flags::command()
                .try_get_matches_from(line.split(' '))
                .unwrap();
            let arguments = Arguments::read(text, &matches).unwrap();
            let line = arguments.join(line.split(' ').map(OsString::from).collect());
            Flags::try_parse_from(line).map(|flags| flags.folder.directory.unwrap())
        };
        for name in ["--reuse-port", "-h", "--", "--man", "-"] {
            let text = format!("directory = \"{name}\"\nsystemd = true\n");
            for line in ["spdy-server", "spdy-server --threads 2", "spdy-server --"] {
                assert_eq!(directory(&text, line).unwrap(), Path::new(name), "{line}");
            }
        }
        let words = read("cert = \"--key\"\nkey = \"-k\"", "spdy-server").unwrap();
        let flags = Flags::try_parse_from([&["spdy-server".to_owned()], &words[..]].concat());
        assert_eq!(flags.unwrap().cert.as_deref(), Some(Path::new("--key")));
    }

    #[test]
    fn a_value_that_is_refused_is_named_with_its_file_and_key() {
        let path = std::env::temp_dir().join(format!("spdy-server-keys-{}", std::process::id()));
        for (text, place) in [
            (
                "keep-alive = 1\n# more\nthreads = \"many\"",
                ": `threads`: invalid value 'many'",
            ),
            (
                "listen = [\"127.0.0.1:1\", \"nowhere\"]",
                ": `listen`: invalid value 'nowhere'",
            ),
            ("log = \"inof\"", ": `log`: invalid value 'inof'"),
            (
                "directory = \"a\"\nproxy = \"http://b:1\"",
                ": `proxy`: the argument",
            ),
            (
                "proxy = [\"http://a\", \"h2://b\"]",
                ": `proxy`: http://a:80 and h2://b:80 have different protocols: use h2:// for all \
                 addresses of the application, h2s:// for all, or neither",
            ),
            (
                "proxy = [\"http://a\", \"http://a:80\"]",
                ": `proxy`: http://a:80 is there twice: list each address of the application once",
            ),
            ("cert = \"a\"", ": the following required arguments"),
            (
                "spdy.max-stream = 7",
                ": `spdy`: invalid value 'max-stream=7'",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let matches = Flags::command()
                .try_get_matches_from(["spdy-server"])
                .unwrap();
            let line = ["spdy-server"].map(OsString::from).into_iter();
            let message = merge(&path, &matches, line).unwrap_err().to_string();
            let line = match place.starts_with(": `") {
                true => text.lines().count().to_string(),
                false => String::new(),
            };
            let colon = if line.is_empty() { "" } else { ":" };
            let expected = format!("{}{colon}{line}{place}", path.display());
            assert!(message.contains(&expected), "{expected} in {message}");
        }
        fs::remove_file(&path).unwrap();
    }

    /// Each flag, in the form of the command line and in that of a file.
    const ALL: &[(&str, &str, &str)] = &[
        ("directory", "public", "\"public\""),
        ("hidden", "--hidden", "true"),
        ("follow-links", "--follow-links", "true"),
        ("listing", "--listing", "true"),
        ("precompressed", "--precompressed", "true"),
        ("compress", "--compress", "true"),
        ("not-found", "--not-found a.html", "\"a.html\""),
        ("file-cache", "--file-cache 4", "4"),
        (
            "proxy",
            "--proxy http://a:1 --proxy unix:/b",
            "[\"http://a:1\", \"unix:/b\"]",
        ),
        ("proxy-ca", "--proxy-ca ca.pem", "\"ca.pem\""),
        ("proxy-timeout", "--proxy-timeout 5", "5"),
        ("proxy-connections", "--proxy-connections 6", "6"),
        ("proxy-retry", "--proxy-retry 2", "2"),
        ("proxy-down-after", "--proxy-down-after 4", "4"),
        ("proxy-down-for", "--proxy-down-for 5", "5"),
        ("max-body", "--max-body 17", "17"),
        ("upgrade-timeout", "--upgrade-timeout 16", "16"),
        ("trust-forwarded", "--trust-forwarded", "true"),
        (
            "ready-checks-application",
            "--ready-checks-application",
            "true",
        ),
        (
            "listen",
            "--listen [::1]:1 --listen unix:/a",
            "[\"[::1]:1\", \"unix:/a\"]",
        ),
        ("plain", "--plain 127.0.0.1:2", "\"127.0.0.1:2\""),
        ("systemd", "--systemd", "true"),
        ("reuse-port", "--reuse-port", "true"),
        ("proxy-protocol", "--proxy-protocol", "true"),
        (
            "proxy-protocol-from",
            "--proxy-protocol-from 10.0.0.0/8",
            "[\"10.0.0.0/8\"]",
        ),
        ("socket-mode", "--socket-mode 660", "\"660\""),
        ("socket-owner", "--socket-owner 7:8", "\"7:8\""),
        ("plain-version", "--plain-version spdy/3", "\"spdy/3\""),
        ("advertise", "--advertise 443", "443"),
        ("cert", "--cert c", "\"c\""),
        ("key", "--key k", "\"k\""),
        ("drain-timeout", "--drain-timeout 7", "7"),
        ("drain-delay", "--drain-delay 8", "8"),
        ("idle-close", "--idle-close 9", "9"),
        ("write-timeout", "--write-timeout 12", "12"),
        ("body-timeout", "--body-timeout 10", "10"),
        ("keep-alive", "--keep-alive 11", "11"),
        ("handshake-timeout", "--handshake-timeout 13", "13"),
        ("idle-timeout", "--idle-timeout 14", "14"),
        (
            "spdy",
            "--spdy pings=5/6 --spdy timeouts.idle=1.5",
            "{ pings = \"5/6\", timeouts.idle = 1.5 }",
        ),
        ("http2", "--http2 max-frame=20000", "{ max-frame = 20000 }"),
        (
            "http1",
            "--http1 keep-alive=false",
            "{ keep-alive = false }",
        ),
        ("max-connections", "--max-connections 8", "8"),
        ("session-memory", "--session-memory 8", "8"),
        ("threads", "--threads 9", "9"),
        ("runtime", "--runtime per-core", "\"per-core\""),
        ("log", "--log info", "\"info\""),
        ("log-format", "--log-format json", "\"json\""),
        ("access-log", "--access-log -", "\"-\""),
        ("request-id", "--request-id trust", "\"trust\""),
        ("metrics", "--metrics 127.0.0.1:3", "\"127.0.0.1:3\""),
    ];

    #[test]
    fn a_file_and_the_command_line_come_to_the_same() {
        let parse = |line: &str| Flags::try_parse_from(line.split(' ')).unwrap();
        let without = |left_out: &[&str]| -> (Vec<_>, Vec<_>) {
            let wanted = ALL.iter().filter(|(key, ..)| !left_out.contains(key));
            wanted
                .map(|(key, word, value)| (*word, format!("{key} = {value}")))
                .unzip()
        };
        for left_out in [
            &[
                "directory",
                "hidden",
                "follow-links",
                "listing",
                "precompressed",
                "compress",
                "not-found",
                "file-cache",
            ][..],
            &[
                "proxy",
                "proxy-ca",
                "proxy-timeout",
                "proxy-connections",
                "proxy-retry",
                "proxy-down-after",
                "proxy-down-for",
                "max-body",
                "upgrade-timeout",
                "trust-forwarded",
                "ready-checks-application",
            ],
        ] {
            let (words, lines) = without(left_out);
            let more = read(&lines.join("\n"), "spdy-server").unwrap();
            let by_file = parse(&["spdy-server".to_owned(), more.join(" ")].join(" "));
            let by_line = parse(&[&["spdy-server"], &words[..]].concat().join(" "));
            assert_eq!(format!("{by_file:?}"), format!("{by_line:?}"));
        }
        // This list must contain every flag.
        for flag in Flags::command().get_arguments() {
            let key = flag.get_long().unwrap_or_else(|| flag.get_id().as_str());
            let is_known = ALL.iter().any(|(known, ..)| *known == key);
            assert!(is_known || ONLY_ON_THE_LINE.contains(&key), "{key}");
        }
    }

    #[test]
    fn the_command_line_counts_more() {
        let text = "threads = 2\nplain = [\"127.0.0.1:1\"]\nlog = \"info\"\n";
        assert_eq!(
            read(text, "spdy-server --threads 3 --plain 127.0.0.1:9").unwrap(),
            ["--log=info"]
        );
        let text = "[http2]\nmax-frame = 20000\nmax-streams = 1\n";
        let line = "spdy-server --http2 max-streams=2";
        let more = read(text, line).unwrap();
        assert_eq!(more, ["--http2=max-frame=20000", "--http2=max-streams=1"]);
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, reason) in [
            ("tread = 2", "unknown key `tread`"),
            ("config = \"a\"", "unknown key `config`"),
            ("help = true", "unknown key `help`"),
            ("[listen]\na = 1", "`listen` must be a string or a number"),
            (
                "listen = [1.5]",
                "`listen` must be a string or an array of strings",
            ),
            ("threads = [1]", "`threads` must be a string or a number"),
            ("reuse-port = 1", "`reuse-port` must be true or false"),
            ("spdy = 1", "`spdy` must be a table of settings"),
            (
                "[http2]\nmax-frame = 20000\nmax_frame = 30000",
                "`http2.max-frame` and `http2.max_frame` are two spellings of one key",
            ),
            (
                "[spdy]\n\"timeouts.keep-alive\" = 1\ntimeouts.keep_alive = 2",
                "`spdy.timeouts.keep_alive` and `spdy.timeouts.keep-alive` are two spellings of one key",
            ),
            (
                "[spdy.timeouts]\nidle = [1]",
                "`spdy.timeouts.idle` must be a number, a string or true or false",
            ),
        ] {
            assert_eq!(read(text, "spdy-server").unwrap_err(), reason, "{text}");
        }
        assert!(
            read("threads = ", "spdy-server")
                .unwrap_err()
                .contains("line 1")
        );
    }
}
