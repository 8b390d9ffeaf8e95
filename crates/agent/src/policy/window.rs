//! The host's own windows: on these days, from this time of day by the host's clock, for so long.

use fettle_domain::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _};
use std::time::Duration;

/// Longest window.
pub(super) const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// One recurring window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// Empty: every day.
    pub(super) days: Vec<Weekday>,
    pub(super) from: Time,
    pub(super) length: Duration,
}

impl Window {
    /// The first moment from `earliest` on that lies in it.
    pub(super) fn opening(&self, earliest: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let now = jiff::Timestamp::from_millisecond(earliest.unix_millis()).ok()?.to_zoned(zone.clone());
        // A window that began up to a week ago may still be open.
        (-8_i64..=8).find_map(|offset| {
            let date = now.date().checked_add(Span::new().days(offset)).ok()?;
            if !self.days.is_empty() && !self.days.contains(&date.weekday()) {
                return None;
            }
            // A time of day that the clocks leave out is taken an hour later, one that comes twice the first time.
            let start = date.to_datetime(self.from).to_zoned(zone.clone()).ok()?;
            let seconds = i64::try_from(self.length.as_secs()).ok()?;
            let end = start.timestamp().checked_add(seconds.seconds()).ok()?;
            let start = Timestamp::from_unix_millis(start.timestamp().as_millisecond());
            (end > now.timestamp()).then(|| start.max(earliest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn at(text: &str, zone: &TimeZone) -> Timestamp {
        let moment: jiff::civil::DateTime = text.parse().unwrap();
        Timestamp::from_unix_millis(moment.to_zoned(zone.clone()).unwrap().timestamp().as_millisecond())
    }

    fn opening(window: &Window, text: &str, zone: &TimeZone) -> String {
        let found = window.opening(at(text, zone), zone).unwrap();
        jiff::Timestamp::from_millisecond(found.unix_millis()).unwrap().to_zoned(zone.clone()).datetime().to_string()
    }

    #[test]
    fn opens_on_its_days_and_stays_open_past_midnight() {
        let zone = TimeZone::UTC;
        let window = Window {
            days: vec![Weekday::Saturday],
            from: jiff::civil::time(22, 0, 0, 0),
            length: Duration::from_secs(4 * 3600),
        };
        assert_eq!(date(2026, 11, 28).weekday(), Weekday::Saturday);
        assert_eq!(opening(&window, "2026-11-25T12:00", &zone), "2026-11-28T22:00:00");
        assert_eq!(opening(&window, "2026-11-28T23:30", &zone), "2026-11-28T23:30:00");
        assert_eq!(opening(&window, "2026-11-29T01:59", &zone), "2026-11-29T01:59:00");
        assert_eq!(opening(&window, "2026-11-29T02:00", &zone), "2026-12-05T22:00:00");
    }

    #[test]
    fn keeps_to_the_wall_clock_when_clocks_are_changed() {
        // Central Europe by its POSIX rule, so that no time zone database is needed.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let window =
            Window { days: Vec::new(), from: jiff::civil::time(2, 30, 0, 0), length: Duration::from_secs(3600) };
        // 02:30 does not exist on 29 March 2026; the window opens at 03:30 instead.
        assert_eq!(opening(&window, "2026-03-28T12:00", &zone), "2026-03-29T03:30:00");
        assert_eq!(opening(&window, "2026-10-24T12:00", &zone), "2026-10-25T02:30:00");
    }
}
