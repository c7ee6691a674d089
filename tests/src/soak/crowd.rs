//! Many clients of all forms, at one server or several.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::{Client, Shared};
use super::delays::Delays;
use super::verdict::Verdict;
use super::wire::Form;

/// How long the slowest of a crowd may take to what it must reach. Generous: only a failing run waits for so long.
const REACHES: Duration = Duration::from_secs(90);

/// The servers that clients know, as `http://host:port`. With several, a client goes to the next one each time.
#[derive(Clone, Debug)]
pub struct Servers(Arc<Mutex<Vec<String>>>);

impl Servers {
    /// One server.
    pub fn new(url: &str) -> Self {
        Self(Arc::new(Mutex::new(vec![url.to_owned()])))
    }

    /// From now on the clients know these. Who is connected stays where it is.
    pub fn become_these(&self, urls: &[String]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = urls.to_vec();
    }

    pub(crate) fn one(&self, attempt: usize) -> String {
        let urls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        urls[attempt % urls.len()].clone()
    }
}

/// Clients that follow until they are dispersed.
#[derive(Debug)]
pub struct Crowd {
    clients: Vec<Arc<Shared>>,
    tasks: JoinSet<()>,
}

impl Crowd {
    /// So many clients of these forms, each at the address that `path` gives it, and all connected.
    ///
    /// # Panics
    /// When one does not connect.
    pub async fn gather(
        servers: &Servers,
        forms: &[Form],
        count: usize,
        path: impl Fn(usize) -> String,
    ) -> Self {
        let mut crowd = Self { clients: Vec::new(), tasks: JoinSet::new() };
        for index in 0..count {
            let form = forms[index % forms.len()];
            let shared = Arc::new(Shared::new(form));
            crowd.clients.push(Arc::clone(&shared));
            let client = Client { form, path: path(index), servers: servers.clone(), shared, position: None };
            crowd.tasks.spawn(client.run());
            // No more at once than a server's queue of new connections takes.
            crowd.wait("is connected", index.saturating_sub(50), |shared| shared.seen().opened > 0).await;
        }
        crowd.wait("is connected", count, |shared| shared.seen().opened > 0).await;
        crowd
    }

    async fn wait(&self, what: &str, first: usize, is_so: impl Fn(&Shared) -> bool) {
        let deadline = Instant::now() + REACHES;
        for client in self.clients.iter().take(first) {
            while !is_so(client) {
                if Instant::now() > deadline {
                    let left: Vec<_> = self.clients.iter().filter(|client| !is_so(client)).collect();
                    let first = left[0].seen().clone();
                    let first = format!("{:?} at {}, {:?}", first.form, first.next, first.told);
                    panic!("within {REACHES:?} not every client {what}: {} are left; {first}", left.len());
                }
                tokio::time::sleep(parts::process::POLL).await;
            }
        }
    }

    /// Waits until each client has come to this number.
    ///
    /// # Panics
    /// When one does not.
    pub async fn all_have(&self, number: i64) {
        let what = format!("has come to {number}");
        self.wait(&what, self.clients.len(), |shared| shared.seen().has(number)).await;
    }

    /// The greatest number that anybody has.
    pub fn furthest(&self) -> i64 {
        self.clients.iter().map(|client| client.seen().next - 1).max().unwrap_or_default()
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Makes one client leave, and come back.
    pub fn sends_away(&self, client: usize) {
        self.clients[client].leave.notify_one();
    }

    /// The delays of all numbers that came since this was asked last.
    pub fn take_delays(&self) -> Delays {
        Delays::of(self.clients.iter().flat_map(|client| std::mem::take(&mut client.seen().delays)))
    }

    /// Ends them all; what they saw.
    pub fn disperse(mut self) -> Verdict {
        self.tasks.abort_all();
        Verdict { clients: self.clients.iter().map(|client| client.seen().clone()).collect() }
    }
}
