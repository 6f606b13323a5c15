//! Checks, for tests, that a driver that waits has left nothing undone.

use std::time::Duration;

use super::{Driver, Stage, dispatch::Awaited, now};
use crate::proto::{Connection, Phase, Quiet};

/// Access for tests that decide which task runs next. It is in this module because it uses private
/// state.
#[doc(hidden)]
impl<IO> Driver<IO> {
    /// Returns the machine.
    pub fn connection(&self) -> &Connection {
        &self.dispatch.connection
    }

    /// Checks a driver at rest. Call it when no task of the session, of its peer or of their
    /// applications is ready to run. It finds work that the driver could do, and deadlines of the
    /// configuration that it does not keep.
    ///
    /// # Errors
    ///
    /// Returns a sentence that describes the work that was left undone.
    pub fn check_rest(&self) -> Result<(), String> {
        if matches!(self.stage, Stage::Ended(_)) {
            return Ok(());
        }
        let dispatch = &self.dispatch;
        let mut quiet = Quiet::default();
        for cell in dispatch.hub.check_rest()? {
            cell.check_rest(&mut quiet)?;
        }
        self.check_opens()?;
        for cell in dispatch.cells.values() {
            cell.check_piece(&dispatch.connection)?;
        }
        dispatch.connection.check_rest(&quiet)?;
        self.check_stage()?;
        self.check_deadlines(&quiet)
    }

    /// Checks that nothing is kept for handles although the session has ended or is idle.
    ///
    /// # Errors
    ///
    /// Returns a sentence that describes what is kept.
    pub fn check_empty(&self) -> Result<(), String> {
        let dispatch = &self.dispatch;
        let awaited = dispatch.awaited.as_ref();
        let (cells, opens, pings) = (
            dispatch.cells.len(),
            awaited.map_or(0, |awaited| awaited.opens.len()),
            awaited.map_or(0, |awaited| awaited.pings.len()),
        );
        if cells + opens + pings == 0 {
            return Ok(());
        }
        Err(format!(
            "the driver keeps {cells} cells, {opens} streams to be opened and {pings} PINGs"
        ))
    }

    fn check_opens(&self) -> Result<(), String> {
        let dispatch = &self.dispatch;
        let Some(Awaited { opens, .. }) = dispatch.awaited.as_deref() else {
            return Ok(());
        };
        let wants = opens.iter().any(|order| !order.answer.is_closed());
        if wants && dispatch.connection.opens_or_fails() {
            return Err("a stream waits to be opened, and there is a place".into());
        }
        if opens.iter().any(|it| it.how.associated.is_some()) {
            return Err("a push waits for a place".into());
        }
        Ok(())
    }

    fn check_stage(&self) -> Result<(), String> {
        let connection = &self.dispatch.connection;
        let is_written = connection.phase() == Phase::Closing && !connection.has_output();
        if is_written && matches!(self.stage, Stage::Running) {
            return Err("everything is written and the session does not end".into());
        }
        Ok(())
    }

    fn check_deadlines(&self, quiet: &Quiet) -> Result<(), String> {
        let (now, connection) = (now(), &self.dispatch.connection);
        let has_partial = !self.transport.is_empty() || connection.is_mid_frame();
        let mut promises = connection.promises(now, quiet, has_partial);
        match self.stage {
            Stage::Lingering(linger) => promises = vec![("linger", linger.until)],
            Stage::Flushing(since) => {
                let deadline = connection.flush_deadline(since);
                promises = deadline.map(|at| ("write", at)).into_iter().collect();
            }
            Stage::Unwritable(_, rest) => promises.push(("end", rest.until())),
            _ => {}
        }
        let alarm = self.alarm.as_ref().filter(|alarm| !alarm.is_elapsed());
        let armed = alarm.map(|alarm| alarm.deadline().into_std());
        for (name, latest) in promises {
            match armed {
                None => return Err(format!("no alarm is set for the timeout {name}")),
                Some(at) if at > latest => {
                    let late = at - latest;
                    return Err(format!("the alarm is {late:?} late for the timeout {name}"));
                }
                // The clock of the runtime counts milliseconds.
                Some(at) if at + Duration::from_millis(1) < now => {
                    return Err(format!("the alarm for {name} has passed and did not ring"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
