//! The hub connects sources to subscribers: who asks for what is already followed joins it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use shared::{
    close::Close,
    definition::{Definition, Definitions},
    following::Following,
    name::{DatabaseName, Namespace, StreamName},
    refusal::{Kind, Refusal},
};

use crate::{
    config::Limits,
    known::Known,
    metrics::Metrics,
    mongo::{self, Mongo},
    position::Position,
    seal::Seal,
    source::{self, JoinError, Parts, Source},
    subscription::Subscription,
};

/// What makes two subscribers share a source: the same stream, of which the same is left to MongoDB, compared by value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// The collection.
    pub namespace: Namespace,
    /// The stream's name: a change of its definition closes its subscribers and nobody else's.
    pub stream: StreamName,
    /// What is declared of it, as [`Definition::key`] has it. Where only what this node evaluates has changed, sources of
    /// both definitions are open until the old one is closed.
    pub declared: Arc<[u8]>,
    /// What MongoDB evaluates, as [`Following::source_key`] has it.
    pub pipeline: Arc<[u8]>,
}

/// What a subscriber asks the hub for.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The collection.
    pub namespace: &'a Namespace,
    /// The stream.
    pub definition: &'a Definition,
    /// The part of it that is for this subscriber.
    pub following: &'a Following,
    /// What seals its positions.
    pub seal: &'a Arc<Seal>,
    /// Everything up to here is known already.
    pub after: Option<Position>,
    /// Whether nothing is to be delivered before the subscription is released.
    pub held: bool,
}

/// All open sources of this node.
#[derive(Debug)]
pub struct Hub {
    mongo: Mongo,
    metrics: Arc<Metrics>,
    known: Arc<Known>,
    queue_bytes: usize,
    replay_bytes: usize,
    sources: Mutex<HashMap<SourceKey, Arc<Source>>>,
    is_down: AtomicBool,
}

/// A source whose task runs. However that ends, nobody finds the source in the hub any more, or waits at it in vain.
struct Running {
    hub: Arc<Hub>,
    source: Arc<Source>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hub.forget(&self.source);
        if thread::panicking() {
            self.source.close(Close::Internal);
        }
    }
}

impl Hub {
    /// An empty hub. Of a collection that a source finds gone nothing is `known` any more.
    pub fn new(mongo: Mongo, limits: &Limits, metrics: Arc<Metrics>, known: Arc<Known>) -> Arc<Self> {
        Arc::new(Self {
            mongo,
            metrics,
            known,
            queue_bytes: limits.queue_bytes,
            replay_bytes: limits.replay_bytes,
            sources: Mutex::default(),
            is_down: AtomicBool::default(),
        })
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<SourceKey, Arc<Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the source that the wish belongs to, or opens it. Returns once its cursor is open: a write that begins now is
    /// seen, and so is everything behind `after`.
    pub async fn subscribe(self: &Arc<Self>, wish: Wish<'_>) -> Result<Subscription, Refusal> {
        let splits = self.mongo.splits_large_events().await.map_err(|error| mongo::refusal(&error))?;
        loop {
            let source = self.source(&wish, splits)?;
            let wanted = wish.following.wanted().cloned();
            match source.join(self.queue_bytes, wanted, wish.after.clone(), wish.held).await {
                Ok(subscription) => return Ok(subscription),
                Err(JoinError::Refused(refusal)) => return Err(refusal),
                Err(JoinError::Ended) => self.forget(&source),
            }
        }
    }

    fn source(self: &Arc<Self>, wish: &Wish<'_>, splits: bool) -> Result<Arc<Source>, Refusal> {
        let key = SourceKey {
            namespace: wish.namespace.clone(),
            stream: wish.definition.uri().clone(),
            declared: Arc::clone(wish.definition.key()),
            pipeline: Arc::clone(wish.following.source_key()),
        };
        let mut sources = self.sources();
        if self.is_down.load(Ordering::Relaxed) {
            return Err(Refusal::new(Kind::Unavailable, "the node shuts down"));
        }
        if let Some(source) = sources.get(&key) {
            return Ok(Arc::clone(source));
        }
        let parts = Parts {
            client: self.mongo.streams.clone(),
            seal: Arc::clone(wish.seal),
            metrics: Arc::clone(&self.metrics),
            known: Arc::clone(&self.known),
            splits,
            replay_bytes: self.replay_bytes,
            piece_bytes: self.queue_bytes / 4,
        };
        let screened = Arc::clone(wish.following.source());
        let source = Source::new(key.clone(), screened, wish.definition.clone(), parts);
        sources.insert(key, Arc::clone(&source));
        drop(sources);
        let start = wish.after.clone();
        let running = Running { hub: Arc::clone(self), source: Arc::clone(&source) };
        tokio::spawn(async move { source::run(Arc::clone(&running.source), start).await });
        Ok(source)
    }

    fn forget(&self, ended: &Arc<Source>) {
        let mut sources = self.sources();
        if sources.get(ended.key()).is_some_and(|source| Arc::ptr_eq(source, ended)) {
            sources.remove(ended.key());
        }
    }

    fn close_where(&self, mut judge: impl FnMut(&Source) -> Option<Close>) {
        // The lock is not held while subscribers are told.
        let mut ended = Vec::new();
        self.sources().retain(|_, source| match judge(source) {
            None => true,
            Some(close) => {
                ended.push((Arc::clone(source), close));
                false
            }
        });
        for (source, close) in ended {
            let SourceKey { namespace, stream, .. } = source.key();
            tracing::info!(%namespace, %stream, code = close.code(), "closing a stream's subscribers");
            source.close(close);
        }
    }

    /// Closes the streams of a collection whose definitions are not what they were.
    pub fn reconcile(&self, namespace: &Namespace, declared: &Definitions) {
        self.close_where(|source| {
            if source.key().namespace != *namespace {
                return None;
            }
            match declared.get(&source.key().stream) {
                Some(Ok(definition)) if definition == source.definition() => None,
                Some(_) => Some(Close::DefinitionChanged),
                None => Some(Close::Gone),
            }
        });
    }

    /// Closes all streams of a collection.
    pub fn close_collection(&self, namespace: &Namespace, close: Close) {
        self.close_where(|source| (source.key().namespace == *namespace).then_some(close));
    }

    /// Closes all streams of a database.
    pub fn close_database(&self, database: &DatabaseName, close: Close) {
        self.close_where(|source| (source.key().namespace.database == *database).then_some(close));
    }

    /// Closes everything with 1001, and opens nothing more.
    pub fn shut_down(&self) {
        self.is_down.store(true, Ordering::Relaxed);
        // Who has looked before finds its source closed by this.
        self.close_where(|_| Some(Close::GoingAway));
    }

    /// The collections that somebody follows.
    pub fn followed(&self) -> Vec<Namespace> {
        let mut followed: Vec<_> = self.sources().keys().map(|key| key.namespace.clone()).collect();
        followed.sort();
        followed.dedup();
        followed
    }

    /// Open sources and their subscribers.
    pub fn size(&self) -> (usize, usize) {
        let sources = self.sources();
        (sources.len(), sources.values().map(|source| source.len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, bson};
    use shared::{
        name::CollectionName,
        variables::{OperatorCheck, ServerVariables, Variables},
        visibility::Visibility,
    };

    use super::*;
    use crate::{config::Config, seal};

    fn namespace() -> Namespace {
        Namespace {
            database: DatabaseName::new("db").expect("a name"),
            collection: CollectionName::new("log").expect("a name"),
        }
    }

    /// A stream whose only stage is evaluated by the node: whatever its field is, MongoDB is asked the same.
    fn streams(field: &str) -> Definitions {
        let name = format!("fullDocument.{field}");
        let stages = bson!([{ "$match": { name: { "$var": "n" } } }]);
        Definitions::written(&bson!([{ "uri": "s", "stages": stages }])).expect("definitions")
    }

    fn source(hub: &Arc<Hub>, streams: &Definitions) -> Arc<Source> {
        let (_, definition) = streams.iter().next().expect("a stream");
        let definition = definition.as_ref().expect("a definition");
        let client = Variables::parse(Some(r#"{"n":1}"#), OperatorCheck::On).expect("variables");
        let server = ServerVariables { user: None, now: DateTime::from_millis(0) };
        let binding = definition.bind(&client, &server).expect("a binding");
        let wish = Wish {
            namespace: &namespace(),
            definition,
            following: &Following::new(&binding, &Visibility::default(), false),
            seal: &Arc::new(seal::for_tests()),
            after: None,
            held: false,
        };
        hub.source(&wish, true).expect("a source")
    }

    /// A hub whose MongoDB is nowhere: its sources are about to open.
    async fn hub() -> Arc<Hub> {
        let mut config: Config = toml::from_str("auth.anonymous = true").expect("a configuration");
        config.mongodb.uri = "mongodb://127.0.0.1:1/none".to_owned();
        let metrics = Arc::new(Metrics::default());
        let mongo = Mongo::new(&config.mongodb, &metrics).await.expect("a connection string");
        Hub::new(mongo, &config.limits, metrics, Arc::default())
    }

    async fn is_closed(source: &Arc<Source>) -> bool {
        matches!(source.join(1_000, None, None, false).await, Err(JoinError::Ended))
    }

    #[tokio::test]
    async fn a_source_of_a_definition_that_is_not_declared_any_more_is_closed_whichever_came_last() {
        let (old, new) = (streams("a"), streams("b"));
        for order in [[&old, &new], [&new, &old]] {
            let hub = hub().await;
            let sources = order.map(|streams| source(&hub, streams));
            assert_eq!(sources[0].key().pipeline, sources[1].key().pipeline, "MongoDB is asked the same");
            assert!(Arc::ptr_eq(&sources[0], &source(&hub, order[0])), "who asks for the same shares it");
            assert_eq!(hub.size().0, 2);
            hub.reconcile(&namespace(), &new);
            assert_eq!(hub.size().0, 1);
            for (streams, source) in order.into_iter().zip(&sources) {
                if streams == &old {
                    assert!(is_closed(source).await);
                } else {
                    assert!(Arc::ptr_eq(source, &self::source(&hub, &new)));
                }
            }
            hub.shut_down();
            for source in &sources {
                assert!(is_closed(source).await);
            }
        }
    }

    #[tokio::test]
    async fn a_source_whose_task_panics_is_closed_and_nobody_finds_it_any_more() {
        let hub = hub().await;
        let streams = streams("a");
        let source = source(&hub, &streams);
        let running = Running { hub: Arc::clone(&hub), source: Arc::clone(&source) };
        let panics = tokio::spawn(async move {
            let _running = running;
            panic!("as it never should");
        });
        assert!(panics.await.is_err_and(|error| error.is_panic()));
        assert!(is_closed(&source).await);
        assert_eq!(hub.size().0, 0);
        hub.shut_down();
    }
}
