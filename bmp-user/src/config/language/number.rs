//! Numbers in commands: each range and unit stands once, for the parser, the help and the
//! reference.

use std::{fmt, time::Duration};

use super::value::ArgumentValue;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Unit {
    /// The number is a name or a code: a port, a DSCP.
    None,
    Milliseconds,
    Seconds,
    Minutes,
    Bytes,
    Megabytes,
    Connections,
    Routes,
    UpdatesPerSecond,
}

impl Unit {
    /// Returns the plural that messages use; `None` where there is no unit.
    pub(in crate::config) fn plural(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Milliseconds => Some("milliseconds"),
            Self::Seconds => Some("seconds"),
            Self::Minutes => Some("minutes"),
            Self::Bytes => Some("bytes"),
            Self::Megabytes => Some("megabytes"),
            Self::Connections => Some("connections"),
            Self::Routes => Some("routes"),
            Self::UpdatesPerSecond => Some("updates per second"),
        }
    }
}

/// The numbers that one argument takes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct NumberRange {
    /// What the reference calls the argument: `MILLISECONDS`.
    pub(in crate::config) name: &'static str,
    /// Subject and verb of the sentence that refuses another number: `a hold-down is`.
    pub(in crate::config) subject: &'static str,
    pub(in crate::config) unit: Unit,
    /// The first number, unless [`Self::or_zero`].
    pub(in crate::config) first: u32,
    pub(in crate::config) last: u32,
    /// Zero is taken too, although it lies before the first number.
    pub(in crate::config) or_zero: bool,
}

/// A TCP port.
pub(in crate::config) static PORT: NumberRange =
    NumberRange { name: "PORT", subject: "a port is", unit: Unit::None, first: 1, last: 65_535, or_zero: false };

/// An AS number in its plain form.
pub(in crate::config) static AS_NUMBER: NumberRange = NumberRange {
    name: "AS-NUMBER",
    subject: "an AS number is",
    unit: Unit::None,
    first: 1,
    last: u32::MAX,
    or_zero: false,
};

/// The range in words: `from 0 to 600000`, `0, or from 3 to 65535`.
impl fmt::Display for NumberRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.or_zero {
            f.write_str("0, or ")?;
        }
        write!(f, "from {} to {}", self.first, self.last)
    }
}

impl NumberRange {
    /// Returns what stands for the argument in help: `INTEGER<0-600000>`.
    pub(in crate::config) fn placeholder(&self) -> String {
        let zero = if self.or_zero { "0," } else { "" };
        format!("INTEGER<{zero}{}-{}>", self.first, self.last)
    }

    /// Reads a number.
    ///
    /// # Errors
    ///
    /// The word is not a decimal number without a sign, or is out of range. The message says the
    /// range.
    pub(in crate::config) fn read(&self, word: &str) -> Result<u32, String> {
        // `parse` alone would take a sign.
        let number = if is_decimal(word) { word.parse().ok() } else { None };
        let in_range = |number: &u32| (self.first..=self.last).contains(number) || (self.or_zero && *number == 0);
        number.filter(in_range).ok_or_else(|| {
            let unit = self.unit.plural().map(|unit| format!(" of {unit}")).unwrap_or_default();
            let comma = if self.or_zero { "," } else { "" };
            format!("{} a number{unit}{comma} {self}", self.subject)
        })
    }

    /// Reads a number as the value that a setting stores: a time for the units of time.
    ///
    /// # Errors
    ///
    /// See [`Self::read`].
    pub(in crate::config) fn read_value(&self, word: &str) -> Result<ArgumentValue, String> {
        let number = self.read(word)?;
        Ok(match self.unit {
            Unit::Milliseconds => ArgumentValue::Time(Duration::from_millis(number.into())),
            Unit::Seconds => ArgumentValue::Time(Duration::from_secs(number.into())),
            Unit::None
            | Unit::Minutes
            | Unit::Bytes
            | Unit::Megabytes
            | Unit::Connections
            | Unit::Routes
            | Unit::UpdatesPerSecond => ArgumentValue::Number(number),
        })
    }

    /// Writes a time in the unit of the argument.
    pub(in crate::config) fn write_time(&self, time: Duration) -> String {
        match self.unit {
            Unit::Milliseconds => time.as_millis().to_string(),
            _ => time.as_secs().to_string(),
        }
    }
}

/// Decides whether a word consists of decimal digits.
pub(in crate::config) fn is_decimal(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}
