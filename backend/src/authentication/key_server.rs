//! The server of a JSON Web Key Set, and what was fetched from it.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use shared::{
    jwks::{FETCH_TIMEOUT, Key, KeySet, LIMIT, Memory, NoKey},
    refusal::Refusal,
    remote::Remote,
    token::Algorithm,
};
use tracing::warn;

#[derive(Debug)]
pub(super) struct KeyServer {
    address: Remote,
    client: reqwest::Client,
    memory: Mutex<Memory>,
    /// Held while a fetch runs, so that all who wait share it.
    fetching: tokio::sync::Mutex<()>,
    started: Instant,
}

impl KeyServer {
    pub(super) fn new(address: Remote) -> Result<Self, String> {
        // The driver may have set it before: then it is the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut client = reqwest::Client::builder()
            .timeout(Duration::from_millis(FETCH_TIMEOUT))
            // A redirect would lead to an address that nobody checked.
            .redirect(reqwest::redirect::Policy::none());
        if address.is_loopback() {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|fault| fault.to_string())?;
        Ok(Self {
            address,
            client,
            memory: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            started: Instant::now(),
        })
    }

    /// The key that a token of this algorithm and `kid` means: 401 when there is none, 503 when none can be fetched.
    pub(super) async fn key(&self, algorithm: Algorithm, key_id: Option<&str>) -> Result<Key, Refusal> {
        let waits = self.memory().waits_for_fetch(self.now());
        if waits {
            self.fetch(|memory, now| memory.wants_fetch(now)).await;
        }
        match self.choose(algorithm, key_id)? {
            Ok(key) => Ok(key),
            Err(NoKey::Unfit(refusal)) => Err(refusal),
            Err(NoKey::Unknown(_)) => {
                self.fetch(Memory::renew_for_unknown).await;
                self.choose(algorithm, key_id)?
                    .map_err(|(NoKey::Unknown(refusal) | NoKey::Unfit(refusal))| refusal)
            }
        }
    }

    fn choose(&self, algorithm: Algorithm, key_id: Option<&str>) -> Result<Result<Key, NoKey>, Refusal> {
        let memory = self.memory();
        let keys = memory.keys(self.now()).ok_or_else(Memory::unavailable)?;
        Ok(keys.choose(algorithm, key_id).cloned())
    }

    /// Waits for a fetch that runs, then fetches if that is still wanted.
    async fn fetch(&self, wanted: impl FnOnce(&mut Memory, u64) -> bool) {
        let _one_at_a_time = self.fetching.lock().await;
        let began = self.now();
        {
            let mut memory = self.memory();
            if !wanted(&mut memory, began) {
                return;
            }
            memory.trying(began);
        }
        match self.read().await {
            Ok(set) => self.memory().fetched(set, began),
            Err(fault) => warn!(address = self.address.as_str(), %fault, "the key set cannot be fetched"),
        }
    }

    async fn read(&self) -> Result<KeySet, String> {
        let text = |fault: reqwest::Error| {
            fault.source().map_or_else(|| fault.to_string(), |source| format!("{fault}: {source}"))
        };
        let mut answer = self.client.get(self.address.as_str()).send().await.map_err(text)?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("answered {}, expected 200", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(text)? {
            body.extend_from_slice(&chunk);
            if body.len() > LIMIT {
                break; // and the parser says what is wrong
            }
        }
        KeySet::parse(&body)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
