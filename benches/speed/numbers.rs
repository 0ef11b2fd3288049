//! Samples, percentiles, the table.

use std::fmt;
use std::time::{Duration, Instant};

/// Times of one operation.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Runs `work` and keeps how long it took.
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(start.elapsed());
        result
    }

    /// Keeps what somebody else has timed.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The value below which `percent` of the samples lie, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted
            .get(at)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }

    pub fn median(&self) -> f64 {
        self.percentile(50)
    }
}

/// What a row promises about its ratio or its value.
#[derive(Clone, Copy, Debug)]
pub enum Promise {
    /// Ours is at most this many times the other's.
    AtMost(f64),
    /// Ours is at least this many times better: the other's divided by ours.
    Faster(f64),
    /// Ours divided by the other's is at least this (rates).
    AtLeast(f64),
    /// Our value stays below this; there is no other.
    Below(f64),
    /// Shown without a promise.
    Nothing,
}

#[derive(Clone, Debug)]
struct Row {
    what: String,
    unit: &'static str,
    ours: f64,
    against: Option<(&'static str, f64)>,
    promise: Promise,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let (_, other) = self.against?;
        Some(match self.promise {
            Promise::Faster(_) => other / self.ours,
            _ => self.ours / other,
        })
    }

    /// Whether the promise is kept; nothing without one.
    fn kept(&self) -> Option<bool> {
        Some(match self.promise {
            Promise::AtMost(limit) => self.ratio()? <= limit,
            Promise::Faster(limit) | Promise::AtLeast(limit) => self.ratio()? >= limit,
            Promise::Below(limit) => self.ours < limit,
            Promise::Nothing => return None,
        })
    }
}

/// The result.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a row and prints it at once.
    pub fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        ours: f64,
        against: Option<(&'static str, f64)>,
        promise: Promise,
    ) {
        let row = Row {
            what: what.into(),
            unit,
            ours,
            against,
            promise,
        };
        eprintln!("{row}");
        self.0.push(row);
    }

    pub fn has_missed(&self) -> bool {
        self.0.iter().any(|row| row.kept() == Some(false))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        write!(f, "| {} | {} {unit} |", self.what, round(self.ours))?;
        match self.against {
            Some((name, value)) => write!(f, " {} {unit} ({name}) |", round(value))?,
            None => f.write_str(" – |")?,
        }
        match self.ratio() {
            Some(ratio) => write!(f, " {ratio:.2} |")?,
            None => f.write_str(" – |")?,
        }
        match self.promise {
            Promise::AtMost(limit) => write!(f, " at most {limit}x |")?,
            Promise::Faster(limit) => write!(f, " {limit}x faster |")?,
            Promise::AtLeast(limit) => write!(f, " at least {limit}x |")?,
            Promise::Below(limit) => write!(f, " below {limit} {unit} |")?,
            Promise::Nothing => f.write_str(" – |")?,
        }
        f.write_str(match self.kept() {
            Some(true) => " yes |",
            Some(false) => " **no** |",
            None => " – |",
        })
    }
}

fn round(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| What | Strata | Against | Ratio | Promise | Kept |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.0 {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}
