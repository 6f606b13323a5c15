//! One session with streams: exec, attach or port-forward.

mod ending;
mod tap;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, Uri, header::USER_AGENT};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use spdy_kube::{
    Asciicast, Options, Relay, Server, Status,
    client::{self, Transport},
};
use tokio::{sync::oneshot, time::sleep};

use self::{
    ending::{Ending, Kept},
    tap::{CommandSession, ForwardSession},
};
use crate::{
    audit::{Line, shortened},
    gateway::{Caller, Gateway},
    live::{Live, NoPlace},
    metrics::Reason,
    recording::RecordingFile,
    refusal::{forbidden, refusal},
    rules::{Asked, Decision, Record},
    target::{LABEL, Pod, Target, Verb, is_name},
    upstream::{self, Place, Upstream},
};

/// A request for streams, as the bastion has read it. The request to the API server is made of this
/// alone, so both read the same.
struct Wanted {
    caller: Caller,
    verb: Verb,
    pod: Pod,
    options: Options,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug)]
struct Terms {
    record: Record,
    time_limit: Option<Duration>,
}

impl Gateway {
    /// Answers a request for streams.
    pub(crate) async fn stream(
        &self,
        caller: Caller,
        verb: Verb,
        pod: Pod,
        mut request: Request<Incoming>,
    ) -> Response<String> {
        let wanted = match Wanted::read(caller, verb, pod, request.uri()) {
            Ok(wanted) => wanted,
            Err(status) => return status.into_response(),
        };
        if let Err(why) = wanted.has_one_reading() {
            let denied = self.deny(wanted.fields(), &request, Reason::Unknown, why.to_owned());
            return denied.await.into_response();
        }
        let terms = match self.rules.get().decide(wanted.asked()) {
            Decision::Allowed { record, time_limit } => Terms { record, time_limit },
            Decision::Denied(why) => {
                let denied = self.deny(wanted.fields(), &request, Reason::Rule, why);
                return denied.await.into_response();
            }
        };
        match self.begin(&wanted, terms).await {
            Ok(ending) => self.relay(wanted, terms, ending, &mut request).await,
            Err((reason, refusal)) => {
                self.metrics.denied(reason);
                refusal.into_response()
            }
        }
    }

    /// Begins a session: finds a place, creates the recording, and writes the audit line.
    async fn begin(
        &self,
        wanted: &Wanted,
        terms: Terms,
    ) -> Result<(Ending, Option<RecordingFile>), (Reason, Status)> {
        let place = self
            .sessions
            .begin(wanted.fields_under(terms), wanted.caller.cut.clone())
            .map_err(no_place)?;
        let mut ending = Ending::new(self, place, wanted.verb);
        let file = match wanted.verb {
            Verb::Exec | Verb::Attach if terms.record != Record::Nothing => {
                let name = format!("{}-{}.cast", crate::clock::for_names(), ending.live().id);
                let created = RecordingFile::create(&self.recordings.join(&name)).await;
                let (file, written) = created.map_err(|error| {
                    tracing::error!(%error, name, "recording cannot be created");
                    self.metrics.recording_failed();
                    (
                        Reason::Recording,
                        unrecorded(format!("session cannot be recorded: {error}")),
                    )
                })?;
                ending.keep(Kept::new(name, written));
                Some(file)
            }
            _ => None,
        };
        if let Err(error) = ending.start().await {
            tracing::error!(%error, "audit line cannot be written");
            return Err((
                Reason::Recording,
                unrecorded("session cannot be audited".to_owned()),
            ));
        }
        Ok((ending, file))
    }

    /// Passes the streams, if the API server answers in time.
    async fn relay(
        &self,
        wanted: Wanted,
        terms: Terms,
        (ending, file): (Ending, Option<RecordingFile>),
        request: &mut Request<Incoming>,
    ) -> Response<String> {
        let (live, outcome) = (ending.live(), ending.outcome());
        let upstream = self.upstream.get();
        let onward = match wanted.onward(&upstream, request) {
            Ok(onward) => onward,
            Err(error) => {
                let status = Status::internal(error);
                outcome.note(Some(&status));
                return status.into_response();
            }
        };
        // Then the first refusal is known before the session has to end.
        let client = client(upstream.place())
            .transport(Transport::of(request))
            .timeout(Some(self.limits.answer / 2));
        let relay = Relay::new(Server::new(), client);
        let relayed = async {
            match wanted.verb {
                Verb::PortForward => {
                    let (answer, answered) = oneshot::channel();
                    let tap = ForwardSession::new(terms.time_limit, ending, answered);
                    let response = relay.port_forward(request, onward, tap).await;
                    // If the request was refused, the tap is gone.
                    _ = answer.send(());
                    response
                }
                Verb::Attach => {
                    let tap = CommandSession::new(wanted.cast(terms), file, terms, ending);
                    let streams = wanted.options.streams;
                    relay.attach(request, onward, streams, tap).await
                }
                Verb::Exec => {
                    let tap = CommandSession::new(wanted.cast(terms), file, terms, ending);
                    let streams = wanted.options.streams;
                    relay.exec(request, onward, streams, tap).await
                }
            }
        };
        let refused = async {
            let status = self.unanswered(&live, terms).await;
            // The session ends without an outcome when `relayed` is dropped.
            outcome.note(Some(&status));
            status
        };
        tokio::select! {
            biased;
            response = relayed => response,
            status = refused => status.into_response(),
        }
    }

    /// Waits until a session has to end to which the API server has not answered yet. Returns why.
    async fn unanswered(&self, live: &Live, terms: Terms) -> Status {
        let limit = self.limits.answer;
        tokio::select! {
            why = live.over(terms.time_limit) => forbidden(why),
            () = sleep(limit) => {
                let message = format!("API server has not answered within {} s", limit.as_secs());
                refusal(StatusCode::GATEWAY_TIMEOUT, message)
            }
        }
    }
}

fn client(place: Arc<Place>) -> client::Client<impl Fn() -> Connecting> {
    client::Client::new(move || -> Connecting {
        let place = Arc::clone(&place);
        Box::pin(async move { place.connect().await })
    })
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<upstream::Transport>>> + Send>>;

impl Wanted {
    /// Reads the query of a request. Fails if Kubernetes refuses it as well.
    fn read(caller: Caller, verb: Verb, pod: Pod, uri: &Uri) -> Result<Self, Status> {
        let options = match verb {
            Verb::PortForward => Options::default(),
            Verb::Exec | Verb::Attach => Options::from_query(uri.query().unwrap_or_default())
                .map_err(|error| Status::bad_request(error.to_string()))?,
        };
        Ok(Self {
            caller,
            verb,
            pod,
            options,
        })
    }

    /// Fails if the request could be read in another way.
    fn has_one_reading(&self) -> Result<(), &'static str> {
        let Options {
            container, command, ..
        } = &self.options;
        if container
            .as_deref()
            .is_some_and(|name| !is_name(name, LABEL))
        {
            return Err("name of the container is not valid");
        }
        if command.iter().any(|argument| argument.contains('\0')) {
            return Err("command contains a NUL");
        }
        Ok(())
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            user: &self.caller.user,
            verb: self.verb,
            pod: &self.pod,
            container: self.options.container.as_deref(),
        }
    }

    /// Returns the fields of the audit lines of a session.
    fn fields_under(&self, terms: Terms) -> Line {
        let mut line = self.fields();
        if let Some(limit) = terms.time_limit {
            line.insert("time_limit".into(), limit.as_secs().into());
        }
        line
    }

    /// Returns the fields of audit lines that say who wants what.
    fn fields(&self) -> Line {
        let mut line = self.caller.fields();
        line.insert("verb".into(), self.verb.name().into());
        line.insert("namespace".into(), self.pod.namespace.as_str().into());
        line.insert("pod".into(), self.pod.name.as_str().into());
        if self.verb != Verb::PortForward {
            let streams = self.options.streams;
            let container = self.options.container.as_deref().map(shortened);
            line.insert("container".into(), container.into());
            line.insert("tty".into(), streams.tty.into());
            line.insert("stdin".into(), streams.stdin.into());
        }
        if self.verb == Verb::Exec {
            line.insert("command".into(), shortened(&self.command()).into());
        }
        line
    }

    /// Returns the command as one text, with quotes where an argument needs them.
    fn command(&self) -> String {
        let is_plain = |argument: &&String| {
            let is_safe = |char: char| char.is_ascii_alphanumeric() || "-_./=:,@%+".contains(char);
            !argument.is_empty() && argument.chars().all(is_safe)
        };
        let quoted =
            self.options
                .command
                .iter()
                .map(|argument| match Some(argument).filter(is_plain) {
                    Some(argument) => argument.clone(),
                    None => format!("'{}'", argument.replace('\'', "'\\''")),
                });
        quoted.collect::<Vec<_>>().join(" ")
    }

    /// Returns how the session is recorded. Without a terminal nothing has to be shown as it was,
    /// and what is copied can be large.
    fn cast(&self, terms: Terms) -> Asciicast {
        Asciicast::new()
            .title(self.title())
            .input(terms.record == Record::Input)
            .exact(!self.options.streams.tty)
            .fail_closed(true)
    }

    /// Returns the title of the recording.
    fn title(&self) -> String {
        let Self {
            caller,
            verb,
            pod,
            options,
        } = self;
        let container = options.container.as_deref().unwrap_or("-");
        let Pod { namespace, name } = pod;
        let user = &caller.user.name;
        let title = format!(
            "{user}: {} {namespace}/{name}/{container} {}",
            verb.name(),
            self.command()
        );
        shortened(title.trim_end())
    }

    /// Returns the request to the API server.
    fn onward<B>(
        &self,
        upstream: &Upstream,
        request: &Request<B>,
    ) -> Result<Request<()>, http::Error> {
        let mut target = self.pod.path(self.verb);
        if self.verb != Verb::PortForward {
            target = format!("{target}?{}", self.options.to_query());
        }
        let mut onward = client::request(&upstream.url(&target)?);
        let headers = onward.headers_mut();
        if let Some(agent) = request.headers().get(USER_AGENT) {
            headers.insert(USER_AGENT, agent.clone());
        }
        upstream.authorize(headers);
        self.caller.user.impersonate(headers)?;
        Ok(onward)
    }
}

/// Returns the fields of an audit line that say who wants what, as far as a request can be read.
pub(crate) fn fields_of<B>(caller: &Caller, request: &Request<B>) -> Line {
    let wanted = match Target::of(request.uri().path()) {
        Ok(Target::Streams(verb, pod)) => {
            Wanted::read(caller.clone(), verb, pod, request.uri()).ok()
        }
        _ => None,
    };
    wanted.map_or_else(|| caller.fields(), |wanted| wanted.fields())
}

fn no_place(why: NoPlace) -> (Reason, Status) {
    let status = match why {
        NoPlace::Full(limit) => {
            let message = format!("there are {limit} sessions, which is the limit of the bastion");
            refusal(StatusCode::TOO_MANY_REQUESTS, message)
        }
        NoPlace::Closed(why) => refusal(StatusCode::SERVICE_UNAVAILABLE, why),
    };
    (Reason::Limit, status)
}

fn unrecorded(why: String) -> Status {
    refusal(StatusCode::INTERNAL_SERVER_ERROR, why)
}
