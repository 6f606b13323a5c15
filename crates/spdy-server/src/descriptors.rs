//! File descriptors: the limit of the process, and how many connections it is enough for.

/// The limit of descriptors, before and after it was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) before: u64,
    pub(crate) now: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard one. Returns `None` where there is no limit, or none that
    /// can be read.
    #[cfg(unix)]
    pub(crate) fn raise() -> Option<Self> {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let before = current?;
        let wanted = Rlimit {
            current: maximum,
            maximum,
        };
        let now = match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => maximum?,
            Err(_) => before,
        };
        Some(Self { before, now })
    }

    #[cfg(not(unix))]
    pub(crate) fn raise() -> Option<Self> {
        None
    }
}

/// What needs descriptors besides the connections of clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) listeners: usize,
    pub(crate) threads: usize,
    /// The connections to the application that a check for `/readyz` opens at once.
    pub(crate) checks: usize,
    pub(crate) each: Each,
}

/// What a connection of a client can need besides its own descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Each {
    Nothing,
    /// A file, or a look at one.
    File,
    /// A connection to the application, of which there can be this many.
    Upstream(usize),
}

impl Needs {
    /// Returns how many connections this number of descriptors is enough for: at least one.
    pub(crate) fn connections(self, descriptors: u64) -> usize {
        let left = self.left(descriptors);
        let connections = match self.each {
            Each::Nothing => left,
            Each::File => left / 2,
            Each::Upstream(most) => left.saturating_sub(most).max(left / 2),
        };
        connections.max(1)
    }

    /// Returns how many large files of a directory can be open beside those connections: half of
    /// the rest, since each look at the disk needs up to three descriptors for a moment.
    pub(crate) fn files(self, descriptors: u64) -> usize {
        self.left(descriptors) / 4
    }

    fn left(self, descriptors: u64) -> usize {
        // A listener has one more for the connection that waits for a place.
        let own = OWN + 2 * self.listeners + OF_THREAD * self.threads + self.checks;
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        descriptors.saturating_sub(own)
    }
}

/// Standard streams, runtimes, signals, logs and certificates, and 16 for health checks and
/// metrics.
const OWN: usize = 32;

/// A runtime of its own has a queue of events and the means to wake it.
const OF_THREAD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_kept_for_everything_else() {
        let needs = |each| Needs {
            listeners: 2,
            threads: 4,
            checks: 0,
            each,
        };
        let (nothing, file) = (needs(Each::Nothing), needs(Each::File));
        let upstream = needs(Each::Upstream(512));
        for (descriptors, expected) in [
            (0, [1, 1, 1]),
            (48, [1, 1, 1]),
            (100, [52, 26, 26]),
            (1024, [976, 488, 488]),
            (20_048, [20_000, 10_000, 19_488]),
        ] {
            let found = [nothing, file, upstream].map(|it| it.connections(descriptors));
            assert_eq!(found, expected, "{descriptors}");
        }
        assert!(nothing.connections(u64::MAX) > 1 << 30);
        let checked = Needs {
            checks: 6,
            ..nothing
        };
        assert_eq!(checked.connections(100), 46);
        assert_eq!(file.files(0), 0);
        assert_eq!(file.files(1024), 244);
    }
}
