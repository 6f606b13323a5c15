//! The ranges of what can be set. A session checks its configuration once, when it begins, and uses
//! it as it is from then on.

use std::{sync::Arc, time::Duration};

use spdy_frame::{DEFAULT_WINDOW, MAX_WINDOW};

use super::{Config, Limits, Timeouts};

/// Brings each value into its range. The configuration stays the shared one if all were.
pub(crate) fn check(config: &mut Arc<Config>) {
    if !is_in_range(config) {
        let config = Arc::make_mut(config);
        restrict_limits(&mut config.limits);
        restrict_timeouts(&mut config.timeouts);
    }
}

fn is_in_range(config: &Config) -> bool {
    let Limits {
        stream_window,
        session_window,
        max_stream_window,
        max_session_window,
        stream_buffer,
        session_buffer,
        stream_send_queue,
        min_send_queue,
        large_send_pieces,
        data_frame,
        max_queued_replies,
        ..
    } = config.limits;
    let Timeouts {
        close,
        linger,
        probe,
        ..
    } = config.timeouts;
    (1..=MAX_WINDOW).contains(&stream_window)
        && (DEFAULT_WINDOW..=MAX_WINDOW).contains(&session_window)
        && max_stream_window.max(max_session_window) <= MAX_WINDOW
        && stream_buffer.min(session_buffer) > 0
        && stream_send_queue.min(min_send_queue) > 0
        && large_send_pieces >= MIN_LARGE_PIECES
        && (1..=MAX_DATA_FRAME).contains(&data_frame)
        && max_queued_replies > 0
        && close.max(linger) <= MAX_LINGER
        && probe.is_none_or(|probe| probe >= MIN_PROBE)
}

fn restrict_limits(limits: &mut Limits) {
    let at_least = |value: &mut usize, least| *value = (*value).max(least);
    limits.stream_window = limits.stream_window.clamp(1, MAX_WINDOW);
    limits.session_window = limits.session_window.clamp(DEFAULT_WINDOW, MAX_WINDOW);
    limits.max_stream_window = limits.max_stream_window.min(MAX_WINDOW);
    limits.max_session_window = limits.max_session_window.min(MAX_WINDOW);
    at_least(&mut limits.stream_buffer, 1);
    at_least(&mut limits.session_buffer, 1);
    at_least(&mut limits.min_send_queue, 1);
    at_least(&mut limits.stream_send_queue, 1);
    at_least(&mut limits.large_send_pieces, MIN_LARGE_PIECES);
    limits.data_frame = limits.data_frame.clamp(1, MAX_DATA_FRAME);
    at_least(&mut limits.max_queued_replies, 1);
}

fn restrict_timeouts(timeouts: &mut Timeouts) {
    timeouts.close = timeouts.close.min(MAX_LINGER);
    timeouts.linger = timeouts.linger.min(MAX_LINGER);
    timeouts.probe = timeouts.probe.map(|probe| probe.max(MIN_PROBE));
}

/// The longest payload of a DATA frame, whose length has 24 bits.
const MAX_DATA_FRAME: usize = (1 << 24) - 1;

/// A stream without a window may have an eighth of it, which is something.
const MIN_LARGE_PIECES: usize = 8;

/// Longer than any transport stays. The clock might not reach as far as a duration does.
pub(crate) const MAX_LINGER: Duration = Duration::from_secs(24 * 60 * 60);

/// The time to the first probe.
pub(crate) const MIN_PROBE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use spdy_frame::{Side, Version};

    use super::*;
    use crate::proto::Connection;

    /// Sets all values to the least or to the most that their types have.
    fn extreme(small: u32, large: usize, time: Duration) -> Config {
        let mut config = Config::default();
        let limits = &mut config.limits;
        limits.stream_window = small;
        limits.session_window = small;
        limits.max_stream_window = small;
        limits.max_session_window = small;
        limits.stream_buffer = large;
        limits.session_buffer = large;
        limits.stream_send_queue = large;
        limits.min_send_queue = large;
        limits.large_send_pieces = large;
        limits.data_frame = large;
        limits.max_queued_replies = large;
        config.timeouts.close = time;
        config.timeouts.linger = time;
        config.timeouts.probe = Some(time);
        config
    }

    #[test]
    fn a_configuration_within_its_ranges_stays_the_shared_one() {
        let shared = Arc::new(Config::default());
        let mut config = Arc::clone(&shared);
        check(&mut config);
        assert!(Arc::ptr_eq(&shared, &config));
    }

    #[test]
    fn each_value_is_brought_into_its_range() {
        let least = extreme(0, 0, Duration::ZERO);
        let most = extreme(u32::MAX, usize::MAX, Duration::MAX);
        for (config, data, linger) in [
            (least, 1, Duration::ZERO),
            (most, MAX_DATA_FRAME, MAX_LINGER),
        ] {
            assert!(!is_in_range(&config));
            let mut config = Arc::new(config);
            check(&mut config);
            assert!(is_in_range(&config), "{config:?}");
            assert_eq!(config.limits.data_frame, data);
            assert_eq!(config.timeouts.close, linger);
            assert_eq!(config.timeouts.linger, linger);
        }
    }

    #[test]
    fn a_connection_uses_values_in_their_ranges() {
        for config in [
            extreme(0, 0, Duration::ZERO),
            extreme(u32::MAX, usize::MAX, Duration::MAX),
        ] {
            let config = Arc::new(config);
            let connection = Connection::new(Side::Client, Version::V3_1, config, Instant::now());
            assert!(is_in_range(connection.config()));
        }
    }

    #[test]
    fn a_single_value_out_of_its_range_is_noticed() {
        type Change = fn(&mut Config);
        let changes: [Change; 14] = [
            |it| it.limits.stream_window = 0,
            |it| it.limits.session_window = 65_535,
            |it| it.limits.max_stream_window = u32::MAX,
            |it| it.limits.max_session_window = u32::MAX,
            |it| it.limits.stream_buffer = 0,
            |it| it.limits.session_buffer = 0,
            |it| it.limits.min_send_queue = 0,
            |it| it.limits.stream_send_queue = 0,
            |it| it.limits.large_send_pieces = 7,
            |it| it.limits.data_frame = 0,
            |it| it.limits.max_queued_replies = 0,
            |it| it.timeouts.close = Duration::MAX,
            |it| it.timeouts.linger = Duration::MAX,
            |it| it.timeouts.probe = Some(Duration::ZERO),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut config = Config::default();
            change(&mut config);
            let mut config = Arc::new(config);
            assert!(!is_in_range(&config), "change {number}");
            check(&mut config);
            assert!(is_in_range(&config), "change {number}: {config:?}");
        }
    }
}
