//! Logging set-up: lines for people or JSON for machines, on standard error, without secrets.
//!
//! Nothing here keeps secrets out by looking for them; they never get in. A request is never logged as
//! a whole, only its call, volume and target; credentials are types that do not print.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging can't be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter is not understood.
    #[error("log filter {filter:?}: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody set it up already.
    #[error("logging is set up already")]
    Twice,
}

/// Logs what `filter` lets through ("info", "strata=debug,warn") to standard error.
///
/// # Errors
/// When the filter is not understood, or logging is set up already.
pub fn init(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    match format {
        Format::Text => registry.with(layer.with_ansi(false)).try_init(),
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}
