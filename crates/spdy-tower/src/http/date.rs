//! The field `date`, the time at which a response was made (RFC 9110, section 6.6.1).

use std::{
    cell::RefCell,
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::header::DATE;
use httpdate::HttpDate;
use spdy_frame::HeaderBlock;

use super::fields::put;

/// Calls `with` with a block whose only field is `date`, with the present time.
///
/// Each thread keeps the block, and makes a new one once a second. So all header blocks of one
/// second have the same date, and it compresses to almost nothing.
pub(crate) fn with_date<T>(with: impl FnOnce(&HeaderBlock) -> T) -> T {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let second = now.unwrap_or_default().as_secs().min(LAST_SECOND);
    LATEST.with_borrow_mut(|latest| with(latest.at(second)))
}

thread_local! {
    static LATEST: RefCell<Rendered> = RefCell::new(Rendered::new(0));
}

struct Rendered {
    second: u64,
    block: HeaderBlock,
}

impl Rendered {
    fn new(second: u64) -> Self {
        let mut text = [0; LENGTH];
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
        write!(&mut text[..], "{date}").expect("every date has this length");
        let text = str::from_utf8(&text).expect("a date is ASCII");
        let mut block = HeaderBlock::with_capacity(1, DATE.as_str().len() + LENGTH);
        put(&mut block, DATE.as_str(), text);
        Self { second, block }
    }

    /// The clock can be set back, so any other second counts as new.
    fn at(&mut self, second: u64) -> &HeaderBlock {
        if self.second != second {
            *self = Self::new(second);
        }
        &self.block
    }
}

/// The bytes of `Sun, 06 Nov 1994 08:49:37 GMT`.
const LENGTH: usize = 29;

/// The last second of the year 9999, because the format has no room for later ones.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(block: &HeaderBlock) -> &str {
        let value = block.get("date").unwrap();
        assert_eq!(block.len(), 1);
        str::from_utf8(value).unwrap()
    }

    #[test]
    fn the_date_is_rendered_again_in_each_second() {
        let mut latest = Rendered::new(0);
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_776, "Sun, 06 Nov 1994 08:49:36 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(value(latest.at(second)), text);
        }
    }

    #[test]
    fn the_date_is_that_of_the_clock() {
        let before = SystemTime::now() - Duration::from_secs(1);
        let date = with_date(|block| httpdate::parse_http_date(value(block))).unwrap();
        assert!(before <= date && date <= SystemTime::now());
    }
}
