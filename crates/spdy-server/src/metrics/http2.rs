//! What HTTP/2 connections tell their clients of faults.

use prometheus_client::metrics::{counter::Counter, family::Family};

use super::{Label, Names};
use crate::data_count::Fault;

/// The resets and the GOAWAYs that were sent, by code.
#[derive(Debug)]
pub(super) struct Faults {
    resets: [Counter; CODES.len()],
    go_aways: [Counter; CODES.len()],
}

impl Faults {
    pub(super) fn new(names: &mut Names<'_>) -> Self {
        let mut by_code = |name, help| {
            let family: Family<[Label; 1], Counter> = names.one(name, help);
            CODES.map(|code| family.get_or_create_owned(&[("code", code)]))
        };
        Self {
            resets: by_code(
                "http2_resets_sent",
                "RST_STREAM frames of HTTP/2 sent, by code",
            ),
            go_aways: by_code(
                "http2_go_aways_sent",
                "GOAWAY frames of HTTP/2 sent, by code",
            ),
        }
    }

    pub(super) fn count(&self, fault: Fault) {
        let (counters, code) = match fault {
            Fault::Reset { code, .. } => (&self.resets, code),
            Fault::GoAway { code } => (&self.go_aways, code),
            Fault::OneField { .. } => return,
        };
        counters[(code as usize).min(CODES.len() - 1)].inc();
    }
}

/// The codes of RFC 9113, section 7, each at its own number, and then all others.
const CODES: [&str; 15] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
    "other",
];
