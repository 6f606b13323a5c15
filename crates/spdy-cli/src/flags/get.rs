//! The options of `get`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args};
use http::{HeaderName, HeaderValue, Method, header::HOST};

use super::{EXIT_STATUS, Reach, Via, values};
use crate::{
    get::{Format, Start},
    origin::Url,
};

/// Sends requests and writes the bodies of the responses to standard output
///
/// Several URLs of one origin are requested at once, over one session. The bodies are written in
/// the order of the URLs: a body that arrives before its turn is kept in memory, up to 64 MiB for
/// all of them. Ctrl-C keeps what has arrived, and says how much that is.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
pub(crate) struct Get {
    /// URLs to request
    #[arg(value_name = "URL", required = true, value_parser = Url::parse)]
    pub(crate) urls: Vec<Url>,

    /// Follow redirects, up to 50
    ///
    /// A redirect to another origin does not receive the credentials. With status 301 or 302 a POST
    /// becomes a GET, and with 303 every method does.
    #[arg(short = 'L', long)]
    pub(crate) location: bool,

    /// Maximum time for all requests, for example 10, 1.5s or 2m
    ///
    /// A command that then still waits for a program which reads its output or writes its input
    /// ends a second later.
    #[arg(short, long, value_name = "TIME", value_parser = values::time)]
    pub(crate) max_time: Option<Duration>,

    /// Send a request again up to this many times if the failure may pass
    ///
    /// These failures may pass: no connection, a connection that is lost before the response, and
    /// the status 408, 429, 500, 502, 503 or 504. A request that must not be processed twice, like
    /// a POST, is sent again only if the server has certainly not processed it: if no connection
    /// could be opened, or if the server has refused it unread. After a redirect it is not sent
    /// again.
    #[arg(long, value_name = "NUMBER", default_value = "0", hide_default_value = true,
          value_parser = values::whole::<u32>)]
    pub(crate) retry: u32,

    /// Time before a request is sent again
    ///
    /// By default it is 1 s, then twice as long each time, up to 10 minutes; or what the server
    /// asks for with retry-after.
    #[arg(long, value_name = "TIME", value_parser = values::time, requires = "retry")]
    pub(crate) retry_delay: Option<Duration>,

    /// Use HTTP/2
    #[arg(long, visible_alias = "h2", conflicts_with_all = ["version", "upgrade", "http1"])]
    pub(crate) http2: bool,

    /// Use HTTP/1.1
    #[arg(long, visible_alias = "http1.1", conflicts_with = "version")]
    pub(crate) http1: bool,

    #[command(flatten)]
    pub(crate) sent: Sent,

    #[command(flatten)]
    pub(crate) received: Received,

    #[command(flatten)]
    pub(crate) reach: Reach,

    #[command(flatten)]
    pub(crate) via: Via,
}

/// What the requests of `get` contain.
#[derive(Debug, Args)]
#[command(next_help_heading = "Request")]
pub(crate) struct Sent {
    /// Add a header field, for example "accept: text/html"; can be repeated
    ///
    /// It replaces the field of the same name that other options make, or that is usual. NAME:
    /// takes that field away, and NAME; is a field without a value. The field host is for the
    /// server alone, and does not change where a request goes: a proxy always opens a tunnel for
    /// it.
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = values::header)]
    pub(crate) headers: Vec<(HeaderName, Option<HeaderValue>)>,

    /// Use this request method
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = values::method,
          conflicts_with = "head")]
    pub(crate) method: Option<Method>,

    /// Send HEAD, and write the heads of the responses
    #[arg(short = 'I', long, conflicts_with_all = ["data", "data_binary", "data_urlencode", "form", "upload_file"])]
    pub(crate) head: bool,

    /// Send this text, or FILE without its line breaks (@- is standard input), as the body of a
    /// POST; several are joined with "&"
    #[arg(short, long, value_name = "DATA|@FILE")]
    pub(crate) data: Vec<String>,

    /// The same as --data, but a file is sent as it is
    #[arg(long, value_name = "DATA|@FILE")]
    pub(crate) data_binary: Vec<String>,

    /// The same as --data, but the text is encoded: TEXT, NAME=TEXT, @FILE or NAME@FILE, of which
    /// the name is sent as it is; they follow the other data
    #[arg(long, value_name = "DATA")]
    pub(crate) data_urlencode: Vec<String>,

    /// Send the data in the query of the URL, with GET
    #[arg(short = 'G', long, conflicts_with_all = ["form", "upload_file"])]
    pub(crate) get: bool,

    /// Send a field of a form: NAME=TEXT, NAME=@FILE for a file, or NAME=<FILE for its contents;
    /// can be repeated
    ///
    /// The body is multipart/form-data. The parameters ";type=" and ";filename=" can follow a file,
    /// and ";type=" a text. What contains these words is written in quotes, in which \" is a quote.
    #[arg(short = 'F', long, value_name = "NAME=VALUE",
          conflicts_with_all = ["data", "data_binary", "data_urlencode", "upload_file"])]
    pub(crate) form: Vec<String>,

    /// Send FILE (- is standard input) as the body of a PUT, while it is read
    ///
    /// If the path of the URL ends with "/", the name of the file is added to it.
    #[arg(short = 'T', long, value_name = "FILE",
          conflicts_with_all = ["data", "data_binary", "data_urlencode"])]
    pub(crate) upload_file: Option<PathBuf>,

    /// Send this user and password by basic authentication
    #[arg(short, long, value_name = "USER:PASSWORD", value_parser = values::user)]
    pub(crate) user: Option<HeaderValue>,

    /// Use this text for the field user-agent; "" leaves it out
    #[arg(short = 'A', long, value_name = "TEXT", value_parser = values::field)]
    pub(crate) user_agent: Option<HeaderValue>,

    /// Ask for a body that is compressed with gzip, and write it decompressed
    #[arg(long, conflicts_with = "continue_at")]
    pub(crate) compressed: bool,
}

impl Sent {
    /// Returns whether a server is to get another host than that of the URL.
    pub(crate) fn has_host(&self) -> bool {
        let mut fields = self.headers.iter();
        fields.any(|(name, value)| name == HOST && value.is_some())
    }
}

/// What `get` does with the responses.
#[derive(Debug, Args)]
#[command(next_help_heading = "Response")]
pub(crate) struct Received {
    /// Write the body to this file (- is standard output); give one for each URL, in order
    #[arg(short, long, value_name = "FILE", conflicts_with = "remote_name")]
    pub(crate) output: Vec<PathBuf>,

    /// Write each body to a file with the last part of the path of its URL as its name
    #[arg(short = 'O', long, action = ArgAction::Count)]
    pub(crate) remote_name: u8,

    /// Request the body from this byte on, and append it to the file; - continues each file at its
    /// end
    #[arg(short = 'C', long, value_name = "BYTE", value_parser = values::start,
          conflicts_with_all = ["head", "data", "data_binary", "data_urlencode", "form", "upload_file"])]
    pub(crate) continue_at: Option<Start>,

    /// Write the response head before the body, with those of redirects before it, and the trailers
    /// after it
    #[arg(short, long)]
    pub(crate) include: bool,

    /// Exit with status 5 if a response has status 400 or above, and do not write its body
    #[arg(short, long)]
    pub(crate) fail: bool,

    /// The same as --fail, but the body is written
    #[arg(long, conflicts_with = "fail")]
    pub(crate) fail_with_body: bool,

    /// Show no progress, and no messages about URLs
    #[arg(short, long)]
    pub(crate) silent: bool,

    /// Show messages although --silent is set
    #[arg(short = 'S', long)]
    pub(crate) show_error: bool,

    /// Write this text after each response, with %{NAME} replaced
    ///
    /// The names are content_type, errormsg, exitcode, http_code or response_code, method,
    /// num_redirects, protocol, size_download, size_upload, time_starttransfer, time_total, url,
    /// and url_effective. Times are in seconds. \n is a line break, \t a tab, and %% a percent
    /// sign.
    #[arg(short, long, value_name = "FORMAT", value_parser = Format::parse,
          conflicts_with = "json")]
    pub(crate) write_out: Option<Format>,

    /// Write one line of JSON for each response; bodies are written only to files
    #[arg(long)]
    pub(crate) json: bool,
}

impl Received {
    /// Returns whether messages are shown.
    pub(crate) const fn is_loud(&self) -> bool {
        !self.silent || self.show_error
    }
}
