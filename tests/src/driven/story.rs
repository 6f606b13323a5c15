//! What streams bring to their application.

use std::{collections::BTreeMap, fmt};

use crate::{
    happened::{End, Happened},
    received::Fields,
};

/// What a stream brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) opened: Option<(Fields, bool, u8, u32, bool)>,
    pub(super) replied: Option<Fields>,
    pub(super) data: Payload,
    pub(super) headers: Vec<Fields>,
    pub(super) finished: bool,
    pub(super) end: Option<End>,
}

/// Payload, of which only the length is shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Payload(Vec<u8>);

impl Payload {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn begins(&self, whole: &Self) -> bool {
        whole.0.starts_with(&self.0)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What the machine has told, stream by stream.
pub(super) fn stories(happened: &[Happened]) -> BTreeMap<u32, Story> {
    let mut stories = BTreeMap::<u32, Story>::new();
    for event in happened {
        let Some(stream) = event.stream() else {
            continue;
        };
        if matches!(event, Happened::Sent { .. }) {
            continue;
        }
        let story = stories.entry(stream).or_default();
        match event.clone() {
            Happened::Opened {
                fields,
                fin,
                priority,
                associated,
                unidirectional,
                ..
            } => {
                story.opened = Some((fields, fin, priority, associated, unidirectional));
                story.finished = fin;
            }
            Happened::Replied { fields, fin, .. } => {
                story.replied = Some(fields);
                story.finished |= fin;
            }
            Happened::Headers { fields, fin, .. } => {
                story.headers.push(fields);
                story.finished |= fin;
            }
            Happened::Data { payload, fin, .. } => {
                story.data.add(&payload);
                story.finished |= fin;
            }
            Happened::Reset { end, .. } => story.end = Some(end),
            Happened::Sent { .. } | Happened::Pong { .. } | Happened::GoAway { .. } => {}
        }
    }
    stories
}
