//! Sessions that can be ended together: how many are running, and the order to end.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout_at};

use crate::{Status, config::after};

/// The running sessions of a server.
#[derive(Debug)]
pub(crate) struct Sessions {
    running: watch::Sender<Running>,
    order: watch::Sender<Order>,
}

#[derive(Debug, Default)]
struct Running {
    count: usize,
    /// Whether no further session can begin.
    is_closed: bool,
}

/// The order to all sessions.
#[derive(Clone, Debug, Default)]
enum Order {
    #[default]
    GoOn,
    /// Tell the client this outcome, and end.
    End(Status),
    /// End, without waiting for the client.
    BreakOff,
}

impl Sessions {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            running: watch::Sender::default(),
            order: watch::Sender::default(),
        })
    }

    /// Returns the number of running sessions.
    pub(crate) fn count(&self) -> usize {
        self.running.borrow().count
    }

    /// Returns whether no further session can begin.
    pub(crate) fn is_closed(&self) -> bool {
        self.running.borrow().is_closed
    }

    /// Begins a session. Returns `None` if the sessions are being ended.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Place> {
        let has_begun = self.running.send_if_modified(|running| {
            running.count += usize::from(!running.is_closed);
            !running.is_closed
        });
        has_begun.then(|| Place(Arc::clone(self)))
    }

    /// Ends all sessions: tells each client the outcome, and waits until all have ended. After
    /// `wait`, breaks off the others. Returns how many those were.
    pub(crate) async fn end(&self, outcome: Status, wait: Duration) -> usize {
        let until = after(wait);
        self.running.send_modify(|running| running.is_closed = true);
        self.order.send_if_modified(|order| {
            let is_first = matches!(order, Order::GoOn);
            if is_first {
                *order = Order::End(outcome);
            }
            is_first
        });
        let mut running = self.running.subscribe();
        let all = running.wait_for(|running| running.count == 0);
        if timeout_at(until, all).await.is_ok() {
            return 0;
        }
        let left = self.count();
        self.order.send_replace(Order::BreakOff);
        let all = running.wait_for(|running| running.count == 0);
        // Only a report at the end of a session that does not return can take longer.
        _ = timeout_at(after(BREAK_OFF), all).await;
        left
    }

    /// Waits for the order to end, and returns the outcome for the client.
    pub(super) async fn ordered(&self) -> Status {
        let mut order = self.order.subscribe();
        let order = order.wait_for(|order| !matches!(order, Order::GoOn)).await;
        match order.as_deref() {
            Ok(Order::End(outcome)) => outcome.clone(),
            _ => Status::unavailable("session is broken off"),
        }
    }

    /// Waits until the session must not wait for its client any more.
    pub(super) async fn broken_off(&self) {
        let mut order = self.order.subscribe();
        _ = order
            .wait_for(|order| matches!(order, Order::BreakOff))
            .await;
    }
}

/// The place of a running session. Dropping it ends the session.
#[derive(Debug)]
pub(super) struct Place(Arc<Sessions>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| running.count -= 1);
    }
}

/// How long sessions that are broken off are waited for.
const BREAK_OFF: Duration = Duration::from_secs(1);
