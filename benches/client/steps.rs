//! Opens sessions, and does what its standard input says, a line at a time.
//!
//! ```text
//! open                                  is printed when the sessions are
//! METHOD PATH REQUESTS BODY FIELDS      is read, and sends REQUESTS requests
//! done                                  is printed when the last is answered
//! ```
//!
//! The requests are shared out evenly to SESSIONS × STREAMS workers, each of which does one after
//! the other. BODY is how many bytes each sends. FIELDS is how many bytes of header fields it has
//! besides the usual ones, with other values each time.

use std::{
    io::{self, BufRead},
    sync::Arc,
};

use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Failure,
    session::{Ask, Session, Target},
};

pub(crate) fn run(
    runtime: &Runtime,
    target: &Target,
    sessions: usize,
    streams: usize,
) -> Result<(), Failure> {
    let sessions = runtime.block_on(open(target, sessions))?;
    println!("open");
    for line in io::stdin().lock().lines() {
        let work = Arc::new(Work::parse(&line?)?);
        runtime.block_on(work.spread(&sessions, streams))?;
        println!("done");
    }
    Ok(())
}

async fn open(target: &Target, count: usize) -> Result<Vec<Arc<Session>>, Failure> {
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        sessions.push(Arc::new(target.open(None).await?));
    }
    Ok(sessions)
}

/// What a line says.
struct Work {
    ask: Ask,
    requests: usize,
    fields: usize,
}

impl Work {
    fn parse(line: &str) -> Result<Self, Failure> {
        let words: Vec<&str> = line.split(' ').collect();
        let [method, path, requests, body, fields] = words[..] else {
            return Err(format!("not METHOD PATH REQUESTS BODY FIELDS: {line}").into());
        };
        let ask = Ask {
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.parse()?,
        };
        Ok(Self {
            ask,
            requests: requests.parse()?,
            fields: fields.parse()?,
        })
    }

    async fn spread(
        self: Arc<Self>,
        sessions: &[Arc<Session>],
        streams: usize,
    ) -> Result<(), Failure> {
        let workers = sessions.len() * streams;
        let mut tasks = JoinSet::new();
        for worker in 0..workers {
            let (work, session) = (Arc::clone(&self), Arc::clone(&sessions[worker / streams]));
            // What cannot be shared out is done by those in front.
            let share = (self.requests + workers - 1 - worker) / workers;
            tasks.spawn(async move {
                let mut values = Values(worker as u64);
                for _ in 0..share {
                    session
                        .request(&work.ask, &work.fields(&mut values))
                        .await?;
                }
                Ok::<_, Failure>(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Fields with other values each time.
    fn fields(&self, values: &mut Values) -> Vec<(String, String)> {
        let places = (0..self.fields).step_by(FIELD).enumerate();
        let field = |(number, at)| {
            let length = FIELD.min(self.fields - at);
            (format!("x-fill-{number}"), values.take(length))
        };
        places.map(field).collect()
    }
}

/// Values that never repeat, the same in each run.
struct Values(u64);

impl Values {
    fn take(&mut self, length: usize) -> String {
        let letter = |_| {
            // The generator of Knuth's MMIX; its upper bits are the good ones.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
            self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (self.0 >> 60) as u8)
        };
        (0..length).map(letter).collect()
    }
}

/// The bytes of a header field at most.
const FIELD: usize = 1024;
