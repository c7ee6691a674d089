//! Structured logs on standard error.

use tracing_subscriber::fmt;

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Starts logging, once a process.
pub fn start(config: &LogConfig) -> Result<(), ConfigError> {
    let lines = fmt().with_env_filter(config.filter()?).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| ConfigError(format!("log: {error}")))
}
