//! The same application gives the same answer in every protocol, and through a proxy.
//!
//! One application has handlers of every shape. It is served by `spdy_server::Server`, directly and
//! behind proxies to HTTP/1.1 and HTTP/2. Requests of every form are made from seeds, and each
//! travels by HTTP/1.1, HTTP/2, and every version of SPDY. Status, fields, body, trailers and the
//! way in which an answer fails have to be those of HTTP/1.1 by hyper, but for the differences in
//! `differences.rs`, each with its reason. No panic may happen that no handler asked for.
//!
//! Requests travel several at once, and a connection serves many of them.
//!
//! `DIFFERENTIAL_EXCHANGES=n` runs as many exchanges as are wanted, `DIFFERENTIAL_SEED=n` the forms
//! from that one on: with `DIFFERENTIAL_EXCHANGES=1` that form alone.

mod answer;
mod application;
mod differences;
mod form;
mod fronts;
mod random;
mod spdy;
mod ways;

use std::{env, fmt::Write, time::Instant};

use futures_util::future::join_all;
use spdy_tests::panics;

use self::{
    answer::Answer,
    differences::{Case, Differences},
    form::Form,
    fronts::{Front, Kind},
    random::Random,
    ways::{Line, Way},
};

#[test]
fn an_application_gives_the_same_answer_in_every_protocol() {
    let panics = panics::watch();
    let number = |name| env::var(name).ok()?.parse().ok();
    let exchanges = number("DIFFERENTIAL_EXCHANGES").unwrap_or(EXCHANGES);
    let first = number("DIFFERENTIAL_SEED").unwrap_or(0);
    let forms = exchanges.div_ceil(Instrument::EXCHANGES_OF_A_FORM);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has room");
    println!("DIFFERENTIAL_SEED={first}, {forms} forms");
    let (faults, unseen) = runtime.block_on(async {
        let mut instrument = Instrument::new().await;
        let mut seed = first;
        while seed < first + forms && instrument.faults.len() < MOST_FAULTS {
            let batch = Random::new(seed).below(6) as u64 + 1;
            let batch = batch.min(first + forms - seed);
            instrument.run(seed, batch).await;
            seed += batch;
        }
        (instrument.faults, instrument.differences.unseen())
    });
    assert!(
        faults.is_empty(),
        "{} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert_eq!(panics.take(), [""; 0]);
    // What is in the table and does not happen hides a fault one day.
    if exchanges >= ALL_SEEN {
        assert_eq!(unseen, [""; 0], "differences that there are not");
    }
}

/// Every way to every front.
struct Instrument {
    fronts: [Front; 3],
    lines: Vec<(Front, Way, Line)>,
    differences: Differences,
    faults: Vec<String>,
}

impl Instrument {
    const EXCHANGES_OF_A_FORM: u64 = 3 * Way::ALL.len() as u64;

    async fn new() -> Self {
        let mut instrument = Self {
            fronts: Front::start().await,
            lines: Vec::new(),
            differences: Differences::default(),
            faults: Vec::new(),
        };
        instrument.connect().await;
        instrument
    }

    /// Opens all connections again.
    async fn connect(&mut self) {
        self.lines.clear();
        for front in self.fronts {
            for way in Way::ALL {
                self.lines.push((front, way, Line::new(&front, way).await));
            }
        }
    }

    /// Sends forms at the same time, and compares their results.
    async fn run(&mut self, first: u64, count: u64) {
        if Random::new(first).chance(1, 20) {
            self.connect().await;
        }
        for (front, way, line) in &mut self.lines {
            if !line.is_open() {
                *line = Line::new(front, *way).await;
            }
        }
        let forms: Vec<_> = (first..first + count).map(Form::new).collect();
        let asked = self
            .lines
            .iter()
            .map(|(front, _, line)| join_all(forms.iter().map(|form| ask(front, line, form))));
        let begun = Instant::now();
        let answers = join_all(asked).await;
        if begun.elapsed().as_secs() > 5 {
            println!("seeds from {first}: {:?}", begun.elapsed());
        }
        for (place, form) in forms.iter().enumerate() {
            let answers: Vec<_> = answers.iter().map(|of_line| &of_line[place]).collect();
            self.compare(form, &answers);
        }
    }

    /// Notes what differs from the first line: HTTP/1.1 without a proxy.
    fn compare(&mut self, form: &Form, answers: &[&Answer]) {
        let expected = answers[0];
        let mut others: Vec<(Answer, String)> = Vec::new();
        for ((front, way, _), &answer) in self.lines.iter().zip(answers) {
            let case = Case { form, way: *way };
            let level = |answer| self.differences.level(&case, answer);
            if level(answer) == level(expected) {
                continue;
            }
            let name = format!("{way:?} {:?}", front.kind);
            match others.iter_mut().find(|other| other.0.is_alike(answer)) {
                Some(other) => _ = write!(other.1, ", {name}"),
                None => others.push((answer.clone(), name)),
            }
        }
        let told: String = others
            .iter()
            .map(|(answer, names)| format!("  {names}: {answer:?}\n"))
            .collect();
        if !told.is_empty() {
            self.faults.push(format!("DIFFERENTIAL_SEED={} DIFFERENTIAL_EXCHANGES=1: {form:?}\n  expected: {expected:?}\n{told}", form.seed));
        }
    }
}

/// Asks once, and once more where HTTP/1.1 leaves no choice: an application may close a connection
/// that rests just when a proxy uses it again. Only the client knows whether a POST may be
/// repeated, and only it still has a long body.
async fn ask(front: &Front, line: &Line, form: &Form) -> Answer {
    let answer = line.ask(form).await;
    let is_lost = front.kind == Kind::ProxyToHttp1
        && answer.status == Some(502)
        && (form.length() > REPEATED || !form.method.is_idempotent());
    if is_lost {
        line.ask(form).await
    } else {
        answer
    }
}

/// So many take about ten seconds in a debug build.
const EXCHANGES: u64 = 4_800;

/// So many show every difference.
const ALL_SEEN: u64 = 50_000;

/// The bytes of a body that a proxy keeps, since it may have to send them again.
const REPEATED: usize = 16 * 1024;

/// More than these are not looked for.
const MOST_FAULTS: usize = 10;
