//! Audit lines of requests that have no user. Their number is limited, because everyone who can
//! connect can cause them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::audit::{Audit, Line};

/// Writes the lines. Those that are left out are counted in the next one. Clones share the limit.
#[derive(Clone)]
pub(crate) struct Refused {
    audit: Audit,
    state: Arc<Mutex<State>>,
}

/// A token bucket, and what it has left out.
struct State {
    tokens: u32,
    /// The last time at which a token was added.
    filled: Instant,
    /// How many lines are being written.
    writing: usize,
    left_out: u64,
}

impl Refused {
    pub(crate) fn new(audit: Audit) -> Self {
        let state = State {
            tokens: BURST,
            filled: Instant::now(),
            writing: 0,
            left_out: 0,
        };
        Self {
            audit,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Writes a line, or leaves it out.
    pub(crate) async fn note(&self, mut line: Line) {
        let claimed = lock(&self.state).claim(Instant::now());
        let Some(left_out) = claimed else {
            return;
        };
        line.insert("left_out".into(), left_out.into());
        self.write(line).await;
    }

    /// Writes how many lines were left out since the last one, if there are any.
    pub(crate) async fn finish(&self) {
        let left_out = {
            let mut state = lock(&self.state);
            state.writing += 1;
            std::mem::take(&mut state.left_out)
        };
        let mut line = Line::new();
        line.insert("left_out".into(), left_out.into());
        match left_out {
            0 => lock(&self.state).writing -= 1,
            _ => self.write(line).await,
        }
    }

    /// Writes a line in a task of its own, so that a client that leaves does not make room for
    /// another line while the disk stands still.
    async fn write(&self, line: Line) {
        let (audit, state) = (self.audit.clone(), Arc::clone(&self.state));
        let writing = tokio::spawn(async move {
            audit.note("refused", line).await;
            lock(&state).writing -= 1;
        });
        // An error is impossible, unless the runtime ends.
        _ = writing.await;
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").finish_non_exhaustive()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Takes a token. Returns how many lines were left out before, or `None` if this one is left
    /// out too.
    fn claim(&mut self, now: Instant) -> Option<u64> {
        self.fill(now);
        if self.tokens == 0 || self.writing >= WRITING {
            self.left_out += 1;
            return None;
        }
        self.tokens -= 1;
        self.writing += 1;
        Some(std::mem::take(&mut self.left_out))
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let added = u32::try_from(passed.as_secs() / EVERY.as_secs()).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(added).min(BURST);
        self.filled += EVERY * added;
    }
}

/// How many lines there may be at once.
const BURST: u32 = 100;

/// After how long there may be another one. At about 700 bytes for a line, that is 60 MB a day.
const EVERY: Duration = Duration::from_secs(1);

/// How many lines wait for the disk. Others are left out.
const WRITING: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn state(now: Instant) -> State {
        State {
            tokens: BURST,
            filled: now,
            writing: 0,
            left_out: 0,
        }
    }

    #[test]
    fn lines_above_the_rate_are_counted_and_not_written() {
        let begin = Instant::now();
        let mut state = state(begin);
        let mut claim = |seconds: f32| {
            let claimed = state.claim(begin + Duration::from_secs_f32(seconds));
            state.writing = 0;
            claimed
        };
        for _ in 0..BURST {
            assert_eq!(claim(0.0), Some(0));
        }
        assert_eq!([claim(0.0), claim(0.9)], [None, None]);
        assert_eq!([claim(1.0), claim(1.9)], [Some(2), None]);
        assert_eq!(
            [claim(2.1), claim(2.9), claim(3.0)],
            [Some(1), None, Some(1)]
        );
        // The bucket has no more than its size.
        let written = (0..BURST + 50).filter(|_| claim(1e6).is_some()).count();
        assert_eq!(written, BURST as usize);
    }

    #[test]
    fn a_disk_that_stands_still_holds_up_few_lines() {
        let begin = Instant::now();
        let mut state = state(begin);
        let written = (0..BURST).filter(|_| state.claim(begin).is_some()).count();
        assert_eq!(written, WRITING);
        // `finish` writes a line without a claim.
        state.writing += 1;
        assert_eq!(state.claim(begin), None);
        state.writing -= 2;
        assert_eq!(
            state.claim(begin),
            Some(u64::from(BURST) - WRITING as u64 + 1)
        );
    }
}
