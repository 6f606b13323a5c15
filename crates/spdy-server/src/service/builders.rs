//! The settings of each protocol, as its library takes them.

use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use crate::{
    config::{Config, Http1, Http2, Timeouts, countable},
    observe::Observers,
    stall::{self, Answers},
};

pub(super) fn spdy_builder(observers: &Observers, config: &Config) -> spdy_tower::Builder {
    let mut session = config.spdy.session(config.timeouts);
    session.memory = Some(Arc::clone(&observers.memory));
    session.counters = observers
        .metrics
        .as_ref()
        .map(|metrics| Arc::clone(metrics.frames()));
    spdy_tower::Builder::new()
        .config(session)
        .body_timeout(config.timeouts.body)
}

pub(super) fn http2_builder(
    answers: Answers,
    http2: Http2,
    timeouts: Timeouts,
) -> http2::Builder<Answers> {
    let mut builder = http2::Builder::new(answers);
    builder
        .timer(TokioTimer::new())
        // While requests are open, PING distinguishes a waiting peer from a vanished one, and its
        // replies keep `Idle` from ending the connection.
        .keep_alive_interval(timeouts.keep_alive.map(countable))
        .keep_alive_timeout(http2.keep_alive_reply)
        .max_send_buf_size(stall::SEND_BUFFER)
        .max_concurrent_streams(http2.max_streams)
        .initial_stream_window_size(http2.stream_window)
        .initial_connection_window_size(http2.connection_window)
        .max_frame_size(http2.max_frame)
        .max_pending_accept_reset_streams(http2.max_pending_resets)
        .max_local_error_reset_streams(http2.max_error_resets)
        .max_header_list_size(http2.max_headers);
    builder
}

pub(super) fn http1_builder(http1: Http1) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(http1.header_timeout)
        .max_buf_size(http1.max_headers);
    if http1.max_fields != Http1::FIELDS_OF_HYPER {
        builder.max_headers(http1.max_fields);
    }
    builder
}
