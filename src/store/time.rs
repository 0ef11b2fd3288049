//! [`Time`]: a moment as the records have it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment, RFC 3339 in UTC with up to nine fractional digits; "not set" is the year 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Timestamp);

/// Seconds from the epoch back to the first second of the year 1: Go's zero time.
const YEAR_ONE: i64 = -62_135_596_800;

impl Time {
    /// The moment of the call.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }

    /// So many seconds after the epoch; none when the calendar ends before.
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        Timestamp::from_second(seconds).ok().map(Self)
    }

    /// Go's zero time, which says that none was set.
    pub fn unset() -> Self {
        Self(Timestamp::constant(YEAR_ONE, 0))
    }

    /// True when no time was set.
    pub fn is_unset(self) -> bool {
        self == Self::unset()
    }

    /// Seconds since the epoch; negative before it.
    pub fn seconds(self) -> i64 {
        self.0.as_second()
    }

    /// Nanoseconds within the second.
    pub fn subsecond_nanoseconds(self) -> i32 {
        self.0.subsec_nanosecond()
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::unset()
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_look_as_go_writes_them() {
        for text in [
            "0001-01-01T00:00:00Z",
            "2026-11-24T06:08:58.80972392Z",
            "2026-11-24T06:08:58Z",
        ] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        let east: Time = "2026-11-24T08:08:58+02:00".parse().unwrap();
        assert_eq!(east.to_string(), "2026-11-24T06:08:58Z");
        assert!(Time::unset().is_unset());
    }
}
