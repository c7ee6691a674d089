//! One client: it remembers the last position that it was given, and comes back behind it whatever ends its connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::crowd::Servers;
use super::verdict::Seen;
use super::wire::{Form, Told, Wire};
use super::writer::now;

/// A server answers within five seconds, 503 if need be; an edge within eight.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// What the client and those who watch it share.
#[derive(Debug)]
pub(crate) struct Shared {
    seen: Mutex<Seen>,
    /// Asks the client to leave, and to come back.
    pub(crate) leave: Notify,
}

impl Shared {
    pub(crate) fn new(form: Form) -> Self {
        Self { seen: Mutex::new(Seen::nothing(form)), leave: Notify::new() }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) form: Form,
    pub(crate) path: String,
    pub(crate) servers: Servers,
    pub(crate) shared: Arc<Shared>,
    pub(crate) position: Option<String>,
}

impl Client {
    /// Follows the stream until it is aborted.
    pub(crate) async fn run(mut self) {
        for attempt in 0_usize.. {
            let server = self.servers.one(attempt);
            self.visit(&server).await;
            // Not all at the same moment, as no browser's clients are.
            tokio::time::sleep(Duration::from_millis(rand::random_range(20..200))).await;
        }
    }

    /// One connection, from its beginning to its end.
    async fn visit(&mut self, server: &str) {
        let opening = Wire::open(server, self.form, &self.path, self.position.as_deref());
        let mut wire = match timeout(ANSWERS_WITHIN, opening).await {
            Ok(Ok(Ok(wire))) => wire,
            Ok(Ok(Err(refused))) => {
                let status = refused.status.as_u16();
                return self.shared.seen().note(match status {
                    503 => status.to_string(),
                    _ => format!("{status} {}", refused.body),
                });
            }
            Ok(Err(_)) => return self.shared.seen().note("no connection"),
            Err(_) => return self.shared.seen().note("no answer"),
        };
        {
            let mut seen = self.shared.seen();
            if seen.opened > 0 && self.position.is_none() {
                seen.note("came back without a position");
            }
            seen.opened += 1;
        }
        loop {
            let told = tokio::select! {
                told = wire.next() => told,
                () = self.shared.leave.notified() => return self.shared.seen().note("left"),
            };
            let mut seen = self.shared.seen();
            match told {
                Ok(Told::Number { n, at, position }) => {
                    seen.number(n, u32::try_from(now() - at).unwrap_or_default());
                    self.position = Some(position);
                }
                Ok(Told::Notice(what, position)) => {
                    seen.note(what);
                    self.position = Some(position);
                }
                Ok(Told::Close(code, _)) => return seen.note(format!("close {code}")),
                Ok(Told::Nothing) => {}
                Ok(Told::Strange(what)) => seen.note(what),
                Err(_) => return seen.note("cut"),
            }
        }
    }
}
