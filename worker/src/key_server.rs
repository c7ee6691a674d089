//! The server of a JSON Web Key Set, and what this isolate has of it.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use shared::{
    jwks::{FETCH_TIMEOUT, Key, KeySet, LIMIT, Memory, NoKey},
    refusal::Refusal,
    remote::Remote,
    token::Algorithm,
};
use worker::{Delay, console_warn};

use crate::runtime;

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
    // Since when a fetch runs. It cannot be awaited by another request (the runtime forbids it), but waited for.
    static FETCHING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The key that a token of this algorithm and `kid` means: 401 when there is none, 503 when none can be fetched.
pub(crate) async fn key(
    address: &Remote,
    algorithm: Algorithm,
    key_id: Option<&str>,
) -> Result<Key, Refusal> {
    if MEMORY.with_borrow(|memory| memory.waits_for_fetch(runtime::now())) {
        fetch(address, |memory, now| memory.wants_fetch(now)).await;
    }
    match choose(algorithm, key_id)? {
        Ok(key) => Ok(key),
        Err(NoKey::Unfit(refusal)) => Err(refusal),
        Err(NoKey::Unknown(_)) => {
            fetch(address, Memory::renew_for_unknown).await;
            choose(algorithm, key_id)?.map_err(|(NoKey::Unknown(refusal) | NoKey::Unfit(refusal))| refusal)
        }
    }
}

fn choose(algorithm: Algorithm, key_id: Option<&str>) -> Result<Result<Key, NoKey>, Refusal> {
    MEMORY.with_borrow(|memory| {
        let keys = memory.keys(runtime::now()).ok_or_else(Memory::unavailable)?;
        Ok(keys.choose(algorithm, key_id).cloned())
    })
}

/// Waits for a fetch that runs, then fetches if that is still wanted.
async fn fetch(address: &Remote, wanted: impl FnOnce(&mut Memory, u64) -> bool) {
    // A request that went away in its fetch leaves the mark behind: then its time is over.
    while FETCHING.get().is_some_and(|since| runtime::now().saturating_sub(since) < 2 * FETCH_TIMEOUT) {
        Delay::from(Duration::from_millis(20)).await;
    }
    let began = runtime::now();
    if !MEMORY.with_borrow_mut(|memory| wanted(memory, began)) {
        return;
    }
    MEMORY.with_borrow_mut(|memory| memory.trying(began));
    FETCHING.set(Some(began));
    let set = read(address).await;
    FETCHING.set(None);
    match set {
        Ok(set) => MEMORY.with_borrow_mut(|memory| memory.fetched(set, began)),
        Err(fault) => console_warn!("JWKS_URL: the key set cannot be fetched: {fault}"),
    }
}

async fn read(address: &Remote) -> Result<KeySet, String> {
    let limit = Duration::from_millis(FETCH_TIMEOUT);
    let answer = runtime::fetch(address.as_str(), &web_sys::RequestInit::new(), limit).await;
    let answer = answer.map_err(|fault| fault.to_string())?;
    if answer.status() != 200 {
        return Err(format!("answered {}, expected 200", answer.status()));
    }
    KeySet::parse(runtime::body(&answer, LIMIT, limit).await?.as_bytes())
}
