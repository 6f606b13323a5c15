//! The sessions that are live: they can be listed, and ended with a message.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{audit::Line, clock::rfc3339, cut::Cut};

/// All live sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    limit: usize,
    state: Mutex<State>,
    /// The number of sessions.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<String, Arc<Live>>,
    /// Why no more sessions begin.
    closed: Option<String>,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: String,
    /// The user and what is used: fields of audit lines.
    pub(crate) about: Line,
    begin: Instant,
    since: SystemTime,
    received: AtomicU64,
    sent: AtomicU64,
    /// Why the session has to end.
    over: watch::Sender<Option<String>>,
    /// Cuts the connection of the client.
    cut: Cut,
}

/// Why a session does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// There are as many as there can be.
    Full(usize),
    /// The bastion shuts down, with this message.
    Closed(String),
}

/// A session that is live as long as this is held.
#[derive(Debug)]
pub(crate) struct Place {
    sessions: Arc<Sessions>,
    pub(crate) live: Arc<Live>,
}

impl Sessions {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: Mutex::default(),
            count: watch::Sender::new(0),
        })
    }

    /// Begins a session.
    pub(crate) fn begin(self: &Arc<Self>, about: Line, cut: Cut) -> Result<Place, NoPlace> {
        let mut state = self.state();
        if let Some(why) = &state.closed {
            return Err(NoPlace::Closed(why.clone()));
        }
        if state.live.len() >= self.limit {
            return Err(NoPlace::Full(self.limit));
        }
        let mut id = random_id();
        while state.live.contains_key(&id) {
            id = random_id();
        }
        let live = Arc::new(Live {
            id: id.clone(),
            about,
            begin: Instant::now(),
            since: SystemTime::now(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            over: watch::Sender::default(),
            cut,
        });
        state.live.insert(id, Arc::clone(&live));
        self.count.send_replace(state.live.len());
        drop(state);
        Ok(Place {
            sessions: Arc::clone(self),
            live,
        })
    }

    /// Ends a session with a message for its client. Returns whether it was live.
    pub(crate) fn end(&self, id: &str, message: &str) -> bool {
        let live = self.state().live.get(id).cloned();
        live.as_ref().inspect(|live| live.end(message)).is_some()
    }

    /// Ends all sessions with a message. No more sessions begin.
    pub(crate) fn close(&self, message: &str) {
        let mut state = self.state();
        state.closed = Some(message.to_owned());
        for live in state.live.values() {
            live.end(message);
        }
    }

    /// Cuts the connections of all sessions.
    pub(crate) fn cut(&self) {
        for live in self.state().live.values() {
            live.cut();
        }
    }

    /// Waits until there is no session. Cancel safe.
    pub(crate) async fn all_ended(&self) {
        // The sender belongs to this object.
        _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Returns the live sessions, the oldest first.
    pub(crate) fn list(&self) -> Vec<Line> {
        let mut live: Vec<_> = self.state().live.values().cloned().collect();
        live.sort_by_key(|live| live.begin);
        live.iter().map(|live| live.line()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Notes bytes of the client.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// Notes bytes for the client.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn end(&self, message: &str) {
        self.over.send_if_modified(|over| {
            let is_first = over.is_none();
            over.get_or_insert_with(|| message.to_owned());
            is_first
        });
    }

    /// Cuts the connection of the client, which ends the session without a message.
    pub(crate) fn cut(&self) {
        self.cut.cut();
    }

    /// Returns why the session had to end, if it had to.
    pub(crate) fn ended_with(&self) -> Option<String> {
        self.over.borrow().clone()
    }

    /// Waits until the session has to end, and returns the message. `limit` counts from the start
    /// of the session. Cancel safe.
    pub(crate) async fn over(&self, limit: Option<Duration>) -> String {
        let expired = async {
            match limit.map(|limit| limit.saturating_sub(self.elapsed())) {
                Some(rest) => sleep(rest).await,
                None => pending().await,
            }
        };
        let mut over = self.over.subscribe();
        tokio::select! {
            ordered = over.wait_for(Option::is_some) => {
                ordered.ok().and_then(|over| over.clone()).unwrap_or_default()
            }
            () = expired => {
                let seconds = limit.unwrap_or_default().as_secs();
                self.end(&format!("time limit of {seconds} s is over"));
                self.ended_with().unwrap_or_default()
            }
        }
    }

    fn line(&self) -> Line {
        let mut line = Line::new();
        line.insert("session".into(), self.id.as_str().into());
        line.insert("since".into(), rfc3339(self.since).into());
        line.extend(self.about.clone());
        line.insert("seconds".into(), self.elapsed().as_secs().into());
        line.insert("bytes_in".into(), self.bytes_received().into());
        line.insert("bytes_out".into(), self.bytes_sent().into());
        line
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.sessions.state();
        state.live.remove(&self.live.id);
        self.sessions.count.send_replace(state.live.len());
    }
}

/// Returns an id that is short enough to be typed.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    format!("{:08x}", u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_ended_once_with_the_first_message() {
        let sessions = Sessions::new(2);
        let place = sessions.begin(Line::new(), Cut::new()).unwrap();
        assert!(!sessions.end("x", "a"));
        assert!(sessions.end(&place.live.id, "first"));
        assert!(sessions.end(&place.live.id, "second"));
        assert_eq!(place.live.over(None).await, "first");
        assert_eq!(place.live.over(Some(Duration::ZERO)).await, "first");
        let id = place.live.id.clone();
        drop(place);
        assert!(!sessions.end(&id, "third"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_limit_ends_a_session() {
        let place = Sessions::new(1).begin(Line::new(), Cut::new()).unwrap();
        let begin = Instant::now();
        let message = place.live.over(Some(Duration::from_secs(60))).await;
        assert_eq!(message, "time limit of 60 s is over");
        assert_eq!(begin.elapsed(), Duration::from_secs(60));
        assert_eq!(place.live.ended_with(), Some(message));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_no_more_sessions_than_the_limit_and_none_after_the_end() {
        let sessions = Sessions::new(2);
        let first = sessions.begin(Line::new(), Cut::new()).unwrap();
        let second = sessions.begin(Line::new(), Cut::new()).unwrap();
        assert_eq!(
            sessions.begin(Line::new(), Cut::new()).unwrap_err(),
            NoPlace::Full(2)
        );
        assert_eq!(sessions.list().len(), 2);
        drop(first);
        let third = sessions.begin(Line::new(), Cut::new()).unwrap();
        sessions.close("bye");
        assert_eq!(third.live.ended_with().as_deref(), Some("bye"));
        drop((second, third));
        sessions.all_ended().await;
        let closed = NoPlace::Closed("bye".to_owned());
        assert_eq!(sessions.begin(Line::new(), Cut::new()).unwrap_err(), closed);
    }
}
