//! Tokens that stand for an earlier request, in the URLs of a container runtime.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Requests that can each be fetched once by a token, for a limited time.
///
/// A container runtime gets `Exec`, `Attach` and `PortForward` over gRPC, and answers with a URL
/// `/exec/TOKEN`. The token allows its holder to run the command. So it consists of random numbers
/// of the system, is compared in constant time, works once, and expires. At most [`MAX_WAITING`]
/// requests wait. One that has expired is dropped when the tokens are used the next time.
pub struct Tokens<T> {
    waiting: Mutex<VecDeque<Waiting<T>>>,
    lifetime: Duration,
    max_waiting: usize,
}

/// A request that has not been fetched. The oldest expires first.
struct Waiting<T> {
    token: [u8; LENGTH],
    /// When it expires. `None` means never, because a clock cannot express its lifetime.
    until: Option<Instant>,
    request: T,
}

impl<T> Tokens<T> {
    /// Creates an empty collection, whose requests expire after a minute.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limits(LIFETIME, MAX_WAITING)
    }

    /// Creates an empty collection with other limits.
    #[must_use]
    pub const fn with_limits(lifetime: Duration, max_waiting: usize) -> Self {
        Self {
            waiting: Mutex::new(VecDeque::new()),
            lifetime,
            max_waiting,
        }
    }

    /// Stores a request, and returns the token that fetches it: eight characters, which can be part
    /// of a path without escaping.
    ///
    /// # Errors
    ///
    /// [`TokenError`], if too many requests wait or the system provides no random numbers.
    pub fn insert(&self, request: T) -> Result<String, TokenError> {
        self.insert_at(Instant::now(), request)
    }

    /// Takes the request of a token. Returns `None` if the token is unknown, used or expired;
    /// answer with 404 then.
    pub fn take(&self, token: &str) -> Option<T> {
        self.take_at(Instant::now(), token)
    }

    fn insert_at(&self, now: Instant, request: T) -> Result<String, TokenError> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(|_| TokenError::NoRandom)?;
        let token = bytes.map(|byte| ALPHABET[usize::from(byte) % ALPHABET.len()]);
        let refused = self.with(now, |waiting| {
            if waiting.len() >= self.max_waiting {
                return Some(request);
            }
            waiting.push_back(Waiting {
                token,
                until: now.checked_add(self.lifetime),
                request,
            });
            None
        });
        match refused {
            Some(_) => Err(TokenError::TooMany),
            None => Ok(token.map(char::from).iter().collect()),
        }
    }

    fn take_at(&self, now: Instant, token: &str) -> Option<T> {
        self.with(now, |waiting| {
            // The loop always compares all tokens, so its time does not depend on the place.
            let mut found = NOWHERE;
            for (place, waiting) in (0..NOWHERE).zip(waiting.iter()) {
                let is_it: Choice = waiting.token[..].ct_eq(token.as_bytes());
                found.conditional_assign(&place, is_it);
            }
            let found = waiting.remove(found as usize);
            found.map(|waiting| waiting.request)
        })
    }

    /// Removes the expired requests, and calls `look` with the others.
    ///
    /// A request can be anything of the program, and its drop can use these tokens. So no request
    /// is dropped while the lock is held.
    fn with<R>(&self, now: Instant, look: impl FnOnce(&mut VecDeque<Waiting<T>>) -> R) -> R {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_expired = |waiting: &&Waiting<T>| waiting.until.is_some_and(|until| until <= now);
        let count = waiting.iter().take_while(is_expired).count();
        let expired: Vec<_> = waiting.drain(..count).collect();
        let result = look(&mut waiting);
        drop(waiting);
        drop(expired);
        result
    }
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows the number of requests, and no token.
impl<T> fmt::Debug for Tokens<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.with(Instant::now(), |waiting| waiting.len());
        f.debug_struct("Tokens")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

/// Why a request gets no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Too many requests wait. Over gRPC this is `ResourceExhausted`.
    TooMany,
    /// The system provides no random numbers.
    NoRandom,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "maximum number of in-flight requests exceeded",
            Self::NoRandom => "system gives no random numbers",
        })
    }
}

impl std::error::Error for TokenError {}

/// How many requests can wait, unless [`Tokens::with_limits`] sets another limit.
pub const MAX_WAITING: usize = 1000;

const LIFETIME: Duration = Duration::from_secs(60);

/// The number of characters of a token.
const LENGTH: usize = 8;

/// 64 characters, so that a random byte chooses each with the same probability.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Not a place in the queue.
const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::{Arc, Weak, mpsc},
        thread,
    };

    use super::*;

    #[test]
    fn a_token_works_once() {
        let tokens = Tokens::new();
        let (first, second) = (tokens.insert(1).unwrap(), tokens.insert(2).unwrap());
        assert_eq!(tokens.take(&second), Some(2));
        assert_eq!(tokens.take(&second), None);
        assert_eq!(tokens.take(&first), Some(1));
        assert_eq!(tokens.take(&first), None);
    }

    #[test]
    fn a_token_expires_after_a_minute() {
        let (tokens, now) = (Tokens::new(), Instant::now());
        let token = tokens.insert_at(now, ()).unwrap();
        let later = now + Duration::from_secs(60);
        assert_eq!(tokens.take_at(later, &token), None);
        let token = tokens.insert_at(now, ()).unwrap();
        let just_in_time = later - Duration::from_millis(1);
        assert_eq!(tokens.take_at(just_in_time, &token), Some(()));
    }

    #[test]
    fn a_lifetime_may_be_longer_than_a_clock_can_count() {
        let (tokens, now) = (Tokens::with_limits(Duration::MAX, 2), Instant::now());
        let token = tokens.insert_at(now, ()).unwrap();
        let later = now + Duration::from_secs(365 * 24 * 60 * 60);
        assert_eq!(tokens.take_at(later, &token), Some(()));
    }

    #[test]
    fn a_thousand_wait_and_no_more() {
        let (tokens, now) = (Tokens::new(), Instant::now());
        let given: HashSet<String> = (0..MAX_WAITING)
            .map(|_| tokens.insert_at(now, ()).unwrap())
            .collect();
        assert_eq!(given.len(), MAX_WAITING, "no token is given twice");
        assert_eq!(tokens.insert_at(now, ()), Err(TokenError::TooMany));
        let later = now + Duration::from_secs(61);
        assert!(tokens.insert_at(later, ()).is_ok(), "the others expired");
    }

    #[test]
    fn what_is_no_token_is_unknown() {
        let tokens = Tokens::new();
        let token = tokens.insert(()).unwrap();
        assert_eq!(token.len(), 8);
        assert!(token.bytes().all(|byte| ALPHABET.contains(&byte)));
        for wrong in ["", "AAAAAAAA", &token[..7], &format!("{token}A"), "ÄÖÜß"] {
            assert_eq!(tokens.take(wrong), None);
        }
        assert_eq!(tokens.take(&token), Some(()));
    }

    /// A request that uses its tokens when it is dropped.
    struct Using(Weak<Tokens<Self>>, mpsc::Sender<()>);

    impl Drop for Using {
        fn drop(&mut self) {
            if let Some(tokens) = self.0.upgrade() {
                assert!(tokens.take("AAAAAAAA").is_none());
                self.1.send(()).unwrap();
            }
        }
    }

    #[test]
    fn a_request_may_use_its_tokens_when_it_is_dropped() {
        let (told, dropped) = mpsc::channel();
        let using = thread::spawn(move || {
            let tokens = Arc::new(Tokens::with_limits(Duration::from_secs(60), 1));
            let request = || Using(Arc::downgrade(&tokens), told.clone());
            let now = Instant::now();
            let token = tokens.insert_at(now, request()).unwrap();
            let refused = tokens.insert_at(now, request());
            assert_eq!(refused, Err(TokenError::TooMany));
            // The first one expires.
            let later = now + Duration::from_secs(61);
            assert!(tokens.take_at(later, &token).is_none());
        });
        for _ in 0..2 {
            let dropped = dropped.recv_timeout(Duration::from_secs(60));
            dropped.expect("the lock is not held");
        }
        using.join().unwrap();
    }
}
