//! What the user sees of each request when it has ended.

use super::{Facts, Work};
use crate::failure::{Exit, Failure, note, print, print_json};

impl Work {
    /// Reports the failure of a connection for each request that was to use it.
    pub(super) async fn give_up(&self, places: &[usize], failure: &Failure) -> Vec<(usize, Exit)> {
        let mut exits = Vec::new();
        for &place in places {
            let outcome = Err(failure.clone());
            exits.push(self.finish(place, self.facts(place), outcome).await);
        }
        exits
    }

    /// Reports on a request, and passes standard output on to the next URL.
    pub(super) async fn finish(
        &self,
        place: usize,
        mut facts: Facts,
        outcome: Result<(), Failure>,
    ) -> (usize, Exit) {
        self.turns.wait(place).await;
        facts.took = facts.start.elapsed();
        facts.exit = match &outcome {
            Err(failure) => failure.exit,
            Ok(()) => Exit::Success,
        };
        if let Err(failure) = &outcome {
            facts.error = failure.to_string();
            if self.is_loud() {
                let about_url = format!("{}: {failure}", facts.url);
                self.progress.suspend(|| note(&about_url));
            }
        }
        let exit = match self.tell(&facts) {
            Err(failure) if facts.exit == Exit::Success => failure.report(),
            _ => facts.exit,
        };
        self.turns.pass(place).await;
        (place, exit)
    }

    /// Writes the facts in the form that the user wants.
    fn tell(&self, facts: &Facts) -> Result<(), Failure> {
        if let Some(format) = &self.get.received.write_out {
            return print(format.of(facts).as_bytes());
        }
        if self.get.received.json {
            return print_json(&facts.json());
        }
        Ok(())
    }

    pub(super) const fn is_loud(&self) -> bool {
        self.get.received.is_loud()
    }
}
