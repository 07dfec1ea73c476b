//! Times of the calendar in UTC, to the second: read from words, and given back as words.

use std::fmt;

/// The seconds of a day. UTC of POSIX has no leap seconds.
const DAY: u64 = 86_400;

/// The days of 400 years, after which the calendar repeats.
const ERA: u64 = 146_097;

/// The days from 1 March of year 0 to 1 January 1970.
const BEFORE_1970: u64 = 719_468;

/// A time from 1970 to 9999 in UTC, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcTime(u64);

/// A day from 1970 to 9999, in days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) struct UtcDate(u32);

/// A time of the day, in seconds since midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) struct TimeOfDay(u32);

impl UtcTime {
    /// Returns the time that is this many seconds after the beginning of 1970.
    pub fn from_unix(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Returns the seconds since the beginning of 1970.
    pub fn as_unix(self) -> u64 {
        self.0
    }

    pub(in crate::config) fn new(date: UtcDate, time: TimeOfDay) -> Self {
        Self(u64::from(date.0) * DAY + u64::from(time.0))
    }

    pub(in crate::config) fn date(self) -> UtcDate {
        UtcDate(u32::try_from(self.0 / DAY).unwrap_or(u32::MAX))
    }

    pub(in crate::config) fn time_of_day(self) -> TimeOfDay {
        TimeOfDay(u32::try_from(self.0 % DAY).unwrap_or_default())
    }
}

/// `10:00 2026-12-01`, as the command has it.
impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.time_of_day(), self.date())
    }
}

impl UtcDate {
    /// Reads `YYYY-MM-DD`. Month and day may have one digit.
    ///
    /// # Errors
    ///
    /// The word is no date, or the calendar from 1970 to 9999 has no such day.
    pub(in crate::config) fn read(word: &str) -> Result<Self, String> {
        const FORM: &str = "a date is written YYYY-MM-DD";
        let mut parts = word.split('-');
        let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(FORM.to_owned());
        };
        let (Some(year), Some(month), Some(day)) = (digits(year, 4..=4), digits(month, 1..=2), digits(day, 1..=2))
        else {
            return Err(FORM.to_owned());
        };
        if year < 1970 || !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
            return Err("the calendar from 1970 to 9999 has no such day".to_owned());
        }
        // The year begins in March here, so that a leap day is the last day of a year.
        let (year, month) = if month > 2 { (u64::from(year), month - 3) } else { (u64::from(year) - 1, month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + u64::from(days_before(month) + day - 1);
        Ok(Self(u32::try_from(days - BEFORE_1970).unwrap_or(u32::MAX)))
    }
}

/// `2026-12-01`.
impl fmt::Display for UtcDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = u64::from(self.0) + BEFORE_1970;
        let (era, day) = (days / ERA, days % ERA);
        // The number of leap days before this day is taken off, and whole years remain.
        let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
        let day = u32::try_from(day - (year * 365 + year / 4 - year / 100)).unwrap_or_default();
        let month = (0..12).rfind(|month| days_before(*month) <= day).unwrap_or_default();
        let of_month = day - days_before(month) + 1;
        let (year, month) = (era * 400 + year, month + 3);
        let (year, month) = if month > 12 { (year + 1, month - 12) } else { (year, month) };
        write!(f, "{year:04}-{month:02}-{of_month:02}")
    }
}

/// Returns the days from 1 March to the first of the month that is this many months later.
fn days_before(month: u32) -> u32 {
    (153 * month + 2) / 5
}

fn days_of(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl TimeOfDay {
    /// Reads `HH:MM` or `HH:MM:SS`. The hour may have one digit.
    ///
    /// # Errors
    ///
    /// The word is no time of a day.
    pub(in crate::config) fn read(word: &str) -> Result<Self, String> {
        let refused = || "a time is written HH:MM or HH:MM:SS, from 00:00 to 23:59:59".to_owned();
        let mut parts = word.split(':');
        let hour = parts.next().and_then(|hour| digits(hour, 1..=2)).filter(|hour| *hour < 24);
        let minute = parts.next().and_then(|minute| digits(minute, 2..=2)).filter(|minute| *minute < 60);
        let second = match parts.next() {
            Some(second) => digits(second, 2..=2).filter(|second| *second < 60),
            None => Some(0),
        };
        match (hour, minute, second, parts.next()) {
            (Some(hour), Some(minute), Some(second), None) => Ok(Self(hour * 3600 + minute * 60 + second)),
            _ => Err(refused()),
        }
    }
}

/// `10:00`, with `:30` behind it where it is not on the minute.
impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 3600, self.0 / 60 % 60)?;
        if self.0.is_multiple_of(60) { Ok(()) } else { write!(f, ":{:02}", self.0 % 60) }
    }
}

/// Reads a number of so many digits.
fn digits(word: &str, length: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let is_number = length.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { word.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_and_times_are_read_and_printed() {
        for (word, days, printed) in [
            ("1970-01-01", 0, "1970-01-01"),
            ("1970-1-2", 1, "1970-01-02"),
            ("2000-02-29", 11_016, "2000-02-29"),
            ("2026-12-01", 20_788, "2026-12-01"),
            ("9999-12-31", 2_932_896, "9999-12-31"),
        ] {
            let date = UtcDate::read(word).unwrap();
            assert_eq!((date, date.to_string().as_str()), (UtcDate(days), printed));
        }
        for (word, seconds, printed) in
            [("00:00", 0, "00:00"), ("9:05", 32_700, "09:05"), ("23:59:59", 86_399, "23:59:59")]
        {
            let time = TimeOfDay::read(word).unwrap();
            assert_eq!((time, time.to_string().as_str()), (TimeOfDay(seconds), printed));
        }
        let both = UtcTime::new(UtcDate::read("2026-12-01").unwrap(), TimeOfDay::read("10:00:30").unwrap());
        assert_eq!((both.as_unix(), both.to_string().as_str()), (1_796_119_230, "10:00:30 2026-12-01"));
    }

    #[test]
    fn what_is_no_day_and_no_time_is_refused() {
        for word in [
            "",
            "2026",
            "2026-12",
            "2026-12-1-1",
            "26-12-01",
            "2026-13-01",
            "2026-00-01",
            "2026-04-31",
            "2026-02-29",
            "1900-02-29",
            "1969-12-31",
            "+2026-1-1",
            "2026-1-1x",
            "2026/12/01",
        ] {
            assert!(UtcDate::read(word).is_err(), "{word}");
        }
        for word in ["", "10", "24:00", "10:60", "10:00:60", "10:0", "10:00:", "10:00:00:00", "-1:00", "100:00"] {
            assert!(TimeOfDay::read(word).is_err(), "{word}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_time_is_read_again_and_later_times_are_later(one in 0_u64..253_402_300_800, other in 0_u64..253_402_300_800) {
            let read = |seconds: u64| {
                let text = UtcTime::from_unix(seconds).to_string();
                let (time, date) = text.split_once(' ').unwrap();
                (UtcTime::new(UtcDate::read(date).unwrap(), TimeOfDay::read(time).unwrap()), date.to_owned())
            };
            let ((first, first_date), (second, second_date)) = (read(one), read(other));
            prop_assert_eq!((first.as_unix(), second.as_unix()), (one, other));
            if one / DAY < other / DAY {
                prop_assert!(first_date < second_date);
            }
        }
    }
}
