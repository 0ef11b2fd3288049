//! [`Pace`]: whether a registry's stream brings enough to be waited for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use super::client::{RegistryOptions, chain};

/// Bytes that came of late, and how long they were waited for. What whoever takes them needs does not count: a slow disk
/// makes no slow registry.
#[derive(Debug)]
pub(super) struct Pace {
    least: u64,
    window: Duration,
    brought: u64,
    waited: Duration,
}

/// Why there is no next piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The connection broke or fell silent.
    Cut(String),
    /// It brings too little.
    Slow(String),
}

impl Stopped {
    pub(super) fn detail(self) -> String {
        match self {
            Self::Cut(detail) | Self::Slow(detail) => detail,
        }
    }
}

impl Pace {
    pub(super) fn new(options: &RegistryOptions) -> Self {
        Self {
            least: options.least_bytes,
            window: options.least_window,
            brought: 0,
            waited: Duration::ZERO,
        }
    }

    /// The answer's next piece; none at its end.
    pub(super) async fn next(&mut self, answer: &mut Response) -> Result<Option<Bytes>, Stopped> {
        let start = Instant::now();
        let patience = self.window.saturating_sub(self.waited);
        match tokio::time::timeout(patience, answer.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                if self.count(bytes.len() as u64, start.elapsed()) {
                    return Ok(Some(bytes));
                }
                Err(self.slow())
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(Stopped::Cut(chain(&error.without_url()))),
            Err(_) => Err(self.slow()),
        }
    }

    /// Notes so many bytes that came after so long; whether that is enough.
    fn count(&mut self, bytes: u64, waited: Duration) -> bool {
        self.brought += bytes;
        self.waited += waited;
        if self.brought >= self.least {
            self.brought = 0;
            self.waited = Duration::ZERO;
        }
        self.waited < self.window
    }

    fn slow(&self) -> Stopped {
        Stopped::Slow(format!(
            "it is too slow: fewer than {} bytes came in {} s",
            self.least,
            self.window.as_secs_f64()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_in_a_long_time_is_too_slow_and_much_starts_anew() {
        let options = RegistryOptions {
            least_bytes: 1000,
            least_window: Duration::from_secs(10),
            ..RegistryOptions::default()
        };
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(&options);
        // A thousand bytes in nine seconds, over and over.
        for _ in 0..100 {
            assert!(pace.count(100, second * 9 / 10));
        }
        let mut pace = Pace::new(&options);
        let drops = (0..20).take_while(|_| pace.count(1, second)).count();
        assert_eq!(drops, 9);
        // A single piece that took longer than all may, and is large enough.
        assert!(Pace::new(&options).count(1000, second * 60));
    }
}
