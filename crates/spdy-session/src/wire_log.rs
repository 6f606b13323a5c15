//! Logs each frame as one line, under the target `spdy::wire` at level `TRACE`.
//!
//! If no subscriber wants the lines, each costs one look at a flag.

use std::fmt;

use spdy_frame::{Frame, HeaderBlock, Headers, Side, StreamId, SynReply, SynStream};

/// The target of the lines.
const TARGET: &str = "spdy::wire";

/// Logs a frame of the peer.
#[inline]
pub(crate) fn received(side: Side, frame: &Frame) {
    tracing::trace!(target: TARGET, "{side} < {frame}");
}

/// Logs a frame of this side that has no header block.
#[inline]
pub(crate) fn sent(side: Side, frame: impl fmt::Display) {
    tracing::trace!(target: TARGET, "{side} > {frame}");
}

#[inline]
pub(crate) fn sent_data(side: Side, stream: StreamId, length: usize, fin: bool) {
    tracing::trace!(target: TARGET, "{side} > DATA stream={stream} fin={fin} length={length}");
}

#[inline]
pub(crate) fn sent_syn_stream(side: Side, frame: &SynStream<&HeaderBlock>) {
    tracing::trace!(
        target: TARGET,
        "{side} > SYN_STREAM stream={} associated={} priority={} fin={} unidirectional={} fields={}",
        frame.stream,
        frame.associated.map_or(0, StreamId::get),
        frame.priority.get(),
        frame.fin,
        frame.unidirectional,
        frame.block.len(),
    );
}

#[inline]
pub(crate) fn sent_syn_reply(side: Side, frame: &SynReply<&HeaderBlock>) {
    let SynReply { stream, fin, block } = frame;
    tracing::trace!(target: TARGET, "{side} > SYN_REPLY stream={stream} fin={fin} fields={}", block.len());
}

#[inline]
pub(crate) fn sent_headers(side: Side, frame: &Headers<&HeaderBlock>) {
    let Headers { stream, fin, block } = frame;
    tracing::trace!(target: TARGET, "{side} > HEADERS stream={stream} fin={fin} fields={}", block.len());
}
