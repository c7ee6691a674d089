//! The ports of `cargo xtask dev`: fixed, so that the addresses can be remembered, and each can be changed.

use anyhow::{Result, bail};
use clap::Args;

#[derive(Args, Clone, Copy)]
pub(crate) struct Ports {
    /// The edge worker.
    #[arg(long = "edge-port", env = "TAILRACE_DEV_EDGE_PORT", default_value_t = 8787, value_name = "PORT")]
    pub(crate) edge: u16,
    /// The backend.
    #[arg(
        long = "backend-port",
        env = "TAILRACE_DEV_BACKEND_PORT",
        default_value_t = 8080,
        value_name = "PORT"
    )]
    pub(crate) backend: u16,
    /// The web chat.
    #[arg(long = "chat-port", env = "TAILRACE_DEV_CHAT_PORT", default_value_t = 8000, value_name = "PORT")]
    pub(crate) chat: u16,
    /// MongoDB, when none is named in `MONGODB_URI`.
    #[arg(
        long = "mongodb-port",
        env = "TAILRACE_DEV_MONGODB_PORT",
        default_value_t = 27117,
        value_name = "PORT"
    )]
    pub(crate) mongodb: u16,
}

impl Ports {
    /// Tells which port is taken, and how to take another, before anything is started.
    pub(crate) fn check(self) -> Result<()> {
        for (part, port, flag, variable) in [
            ("the edge worker", self.edge, "--edge-port", "TAILRACE_DEV_EDGE_PORT"),
            ("the backend", self.backend, "--backend-port", "TAILRACE_DEV_BACKEND_PORT"),
            ("the web chat", self.chat, "--chat-port", "TAILRACE_DEV_CHAT_PORT"),
            ("MongoDB", self.mongodb, "--mongodb-port", "TAILRACE_DEV_MONGODB_PORT"),
        ] {
            let mongodb_is_elsewhere = part == "MongoDB" && std::env::var_os("MONGODB_URI").is_some();
            if !mongodb_is_elsewhere && !parts::port::is_free(port) {
                bail!(
                    "port {port}, meant for {part}, is taken: end what listens there, or choose another with {flag} or {variable}"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_changes_it() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        // The first that is looked at: whether the others are free does not matter.
        let ports = Ports { edge: taken, backend: 8080, chat: 8000, mongodb: 27117 };
        assert_eq!(
            ports.check().unwrap_err().to_string(),
            format!(
                "port {taken}, meant for the edge worker, is taken: end what listens there, or choose another with \
                 --edge-port or TAILRACE_DEV_EDGE_PORT"
            )
        );
    }
}
