//! The rules of this node: those of its configuration, and those of a collection, whose changes act at once.

use std::sync::{Arc, Mutex, PoisonError};

use bson::{Bson, DateTime, Document};
use futures_util::TryStreamExt;
use http::Method;
use mongodb::{Client, error::Error};
use shared::{
    address::Address,
    name::Namespace,
    permission::{Access, Grant, Mode, Question, RolesClaim, Rule, Rules},
    refusal::{Kind, Refusal},
    request::Head,
};
use tokio::sync::watch;

use crate::{
    authentication::Caller, collection_path::CollectionPath, config::Config, follow::Follower,
    sessions::Sessions,
};

/// A caller with a request, and what decides about it.
#[derive(Clone, Copy, Debug)]
pub struct May<'a> {
    /// What decides.
    pub access: &'a Access,
    /// The request.
    pub head: &'a Head,
    /// Whose it is.
    pub caller: &'a Caller,
}

impl May<'_> {
    /// What the caller may do at an address with the request's method: 401 or 403 if nothing.
    pub fn decide(&self, address: &Address) -> Result<Grant, Refusal> {
        self.access.decide(&Question {
            identity: &self.caller.identity,
            method: &self.head.method,
            address,
            query: self.head.query.as_deref(),
            now: DateTime::now(),
        })
    }

    /// Whether the caller may follow the stream at an address, with some variables or others.
    pub fn follows(&self, address: &Address) -> bool {
        let identity = &self.caller.identity;
        let question =
            Question { identity, method: &Method::GET, address, query: None, now: DateTime::now() };
        self.access.decide(&question).is_ok()
    }
}

/// What decides, now.
#[derive(Debug)]
pub struct Permissions {
    configured: Vec<Rule>,
    stored: Option<(Client, CollectionPath)>,
    roles: RolesClaim,
    protected: Vec<Namespace>,
    /// `None` until the collection has been read for the first time.
    current: watch::Sender<Option<Arc<Access>>>,
    sessions: Arc<Sessions>,
    /// Reads one after the other, so that an older one never comes last.
    reading: tokio::sync::Mutex<()>,
    /// Faults that were logged, so that a broken rule is not told of at every change.
    told: Mutex<Vec<String>>,
}

impl Permissions {
    /// The rules as configured; those of a collection are there once it is followed.
    pub fn new(config: &Config, client: &Client, sessions: Arc<Sessions>) -> Result<Arc<Self>, String> {
        let configured = Rules::configured(&config.permissions)?;
        let stored = config.permissions_collection.clone().map(|path| (client.clone(), path));
        let protected =
            stored.iter().filter_map(|(_, path)| path.namespace()).chain(config.users_namespace()).collect();
        let permissions = Self {
            configured,
            stored,
            roles: config.auth.roles_claim.clone(),
            protected,
            current: watch::Sender::new(None),
            sessions,
            reading: tokio::sync::Mutex::default(),
            told: Mutex::default(),
        };
        if permissions.stored.is_none() {
            let mode = match config.has_permissions() {
                true => Mode::Rules(Rules::new(permissions.configured.clone())),
                false if config.auth.anonymous => Mode::Everybody,
                false => Mode::Holders,
            };
            permissions.current.send_replace(Some(Arc::new(permissions.access(mode))));
        }
        Ok(Arc::new(permissions))
    }

    fn access(&self, mode: Mode) -> Access {
        Access { mode, roles: self.roles.clone(), protected: self.protected.clone() }
    }

    /// The collection that holds rules, if there is one.
    pub fn collection(&self) -> Option<&CollectionPath> {
        self.stored.as_ref().map(|(_, path)| path)
    }

    /// What decides; 503 while the collection of rules has not been read yet.
    pub fn current(&self) -> Result<Arc<Access>, Refusal> {
        self.current
            .borrow()
            .clone()
            .ok_or_else(|| Refusal::new(Kind::Unavailable, "the permissions are not read yet"))
    }

    /// What is judged by what decides: again, where that has changed in the meantime. What is installed by a judgement is
    /// judged by every later change, as [`Permissions::read`] does.
    pub fn judge<T>(&self, mut judge: impl FnMut(&Access) -> T) -> Result<T, Refusal> {
        loop {
            let access = self.current()?;
            let judged = judge(&access);
            if self.is_current(&access) {
                return Ok(judged);
            }
        }
    }

    /// Whether these still are what decides.
    pub fn is_current(&self, access: &Arc<Access>) -> bool {
        self.current.borrow().as_ref().is_some_and(|current| Arc::ptr_eq(current, access))
    }

    /// Reads the collection, and judges the open streams by what it says now.
    pub async fn read(&self) -> Result<(), Error> {
        let Some((client, path)) = &self.stored else { return Ok(()) };
        let _one = self.reading.lock().await;
        let documents: Vec<Document> =
            path.of(client).find(Document::new()).sort(bson::doc! { "_id": 1 }).await?.try_collect().await?;
        let mut rules = self.configured.clone();
        rules.extend(documents.iter().map(Rule::stored));
        self.tell_faults(path, &rules);
        let access = Arc::new(self.access(Mode::Rules(Rules::new(rules))));
        self.current.send_replace(Some(Arc::clone(&access)));
        self.sessions.judge_again(&access);
        Ok(())
    }

    fn tell_faults(&self, path: &CollectionPath, rules: &[Rule]) {
        let faults: Vec<String> = rules.iter().filter_map(Rule::fault).map(str::to_owned).collect();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in faults.iter().filter(|fault| !told.contains(fault)) {
            tracing::error!(collection = %path, fault, "a permission is broken: what it may be for is refused");
        }
        *told = faults;
    }
}

impl Follower for Permissions {
    async fn opened(&self) -> Result<(), Error> {
        self.read().await
    }

    async fn changed(&self, _: Option<Vec<Bson>>) -> Result<(), Error> {
        // Rules are few, and decide together: the first that fits.
        self.read().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_judged_by_rules_that_were_just_replaced_is_judged_again() {
        let config: Config = toml::from_str("auth.anonymous = true").expect("a configuration");
        let client = Client::with_uri_str("mongodb://127.0.0.1:1").await.expect("a connection string");
        let permissions = Permissions::new(&config, &client, Arc::default()).expect("permissions");
        let mut judged = Vec::new();
        let last = permissions.judge(|access| {
            let everybody = matches!(access.mode, Mode::Everybody);
            judged.push(everybody);
            if judged.len() == 1 {
                let replaced = Arc::new(permissions.access(Mode::Holders));
                permissions.current.send_replace(Some(replaced));
            }
            everybody
        });
        assert_eq!(last, Ok(false));
        assert_eq!(judged, [true, false]);
    }
}
