//! The time as text.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns a time in the form of RFC 3339, in UTC with milliseconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let milli = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Returns the current time in a form that names of files can have.
pub(crate) fn for_names() -> String {
    let mut text = rfc3339(SystemTime::now());
    text.retain(|char| char.is_ascii_alphanumeric());
    text
}

/// Returns the date of a day since 1970. The year of this calculation begins in March, so that the
/// day of a leap year comes last.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let in_next = month >= 10;
    let month = if in_next { month - 9 } else { month + 3 };
    (year + era * 400 + in_next as u64, month, date)
}

const DAY: u64 = 24 * 60 * 60;

/// From the first of March of the year 0.
const DAYS_BEFORE_1970: u64 = 719_468;

/// The days of 400 years.
const ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_reads_as_date_prints_it() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (68_169_599, "1972-02-28T23:59:59.007Z"),
            (68_169_600, "1972-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_796_044_984, "2026-11-30T13:23:04.007Z"),
            (4_107_542_399, "2100-02-28T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            let time = UNIX_EPOCH + Duration::new(seconds, 7_000_000);
            assert_eq!(rfc3339(time), expected);
        }
    }
}
