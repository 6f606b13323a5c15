//! What goes wrong in schedules, counted where it was seen to happen.

use std::ops::AddAssign;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Bytes arrived that ended in the middle of a frame.
    Cut,
    /// Time passed with bytes under way.
    Delay,
    /// Bytes that were under way did not arrive when they could have.
    Stall,
    /// A window was used up, or reading paused, since an application did not read.
    SlowReader,
    /// An application stopped reading.
    StopReading,
    /// A stream was reset and the peer knows it.
    Reset,
    /// A stream was reset with frames of it ready for the transport, which did not go out.
    TakenBack,
    /// A stream was refused.
    Refused,
    /// A side changed the windows of open streams.
    WindowChange,
    /// A window was less than nothing.
    NegativeWindow,
    /// The window of a session or of a stream grew.
    Growth,
    /// The session had no flow control.
    FlowControlOff,
    /// A side said GOAWAY with streams open.
    GoAway,
    /// A side ended the session with streams open.
    EndAtOnce,
    /// One side heard that the other had closed its direction, while the other went on.
    HalfOpen,
    /// The transport failed with streams open.
    TransportError,
    /// Bytes came that are no frame.
    Garbage,
    /// A timeout ended a stream, or the session with streams open.
    Timeout,
}

impl Fault {
    const ALL: [Self; 18] = [
        Self::Cut,
        Self::Delay,
        Self::Stall,
        Self::SlowReader,
        Self::StopReading,
        Self::Reset,
        Self::TakenBack,
        Self::Refused,
        Self::WindowChange,
        Self::NegativeWindow,
        Self::Growth,
        Self::FlowControlOff,
        Self::GoAway,
        Self::EndAtOnce,
        Self::HalfOpen,
        Self::TransportError,
        Self::Garbage,
        Self::Timeout,
    ];
}

/// How often each fault was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults([u64; Fault::ALL.len()]);

impl Faults {
    pub(crate) fn note(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// Every kind was seen so often.
    pub(crate) fn assert_all_seen(&self, times: u64) {
        let seen: Vec<(Fault, u64)> = Fault::ALL.into_iter().zip(self.0).collect();
        assert!(seen.iter().all(|(_, seen)| *seen >= times), "{seen:?}");
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine += more;
        }
    }
}
