//! Structured logs on standard error.

use tracing::{Level, Metadata};
use tracing_subscriber::{filter::filter_fn, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Starts logging, once a process.
pub fn start(config: &LogConfig) -> Result<(), ConfigError> {
    let lines = fmt().with_env_filter(config.filter()?).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => lines.with_ansi(false).finish().with(filter_fn(is_told)).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().with(filter_fn(is_told)).try_init(),
    };
    started.map_err(|error| ConfigError(format!("log: {error}")))
}

/// Below `info` libraries tell what goes over the wire, and so queries, credentials, and variables: whatever the level is,
/// that is not logged.
fn is_told(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || line.target().starts_with("tailrace")
}
