//! The connections to MongoDB, and what its errors mean to a client.

use std::{sync::Arc, time::Duration};

use mongodb::{
    Client,
    bson::doc,
    error::{Error, ErrorKind, WriteFailure},
    event::{EventHandler, cmap::CmapEvent, sdam::SdamEvent},
    options::ClientOptions,
};
use shared::{
    limit::Limit,
    refusal::{Kind, Refusal},
};

use tokio::{
    sync::{OnceCell, Semaphore},
    time::timeout,
};

use crate::{
    config::{ConfigError, MongoConfig},
    metrics::Metrics,
};

/// Connections for short operations, unless the connection string says otherwise.
const CONNECTIONS: u32 = 64;

/// MongoDB's code for what takes longer than it may (`MaxTimeMSExpired`).
const TIME_EXPIRED: i32 = 50;

/// How long an operation waits for a usable server. A request is answered within five seconds (503 if need be).
const SERVER_SELECTION: Duration = Duration::from_secs(3);

/// The two pools of connections.
#[derive(Clone, Debug)]
pub struct Mongo {
    /// For short operations.
    pub operations: Client,
    /// For change streams. Each open cursor occupies a connection while it waits for events, so that one pool for both
    /// would stop every short operation once there are as many cursors as connections.
    pub streams: Client,
    /// Reads of documents, which may be dear: a part of the connections for short operations stays for the others.
    reads: Arc<Semaphore>,
    default_database: Option<String>,
    splits_large_events: Arc<OnceCell<bool>>,
}

impl Mongo {
    /// Reads the connection string; connects later, when first used.
    pub async fn new(config: &MongoConfig, metrics: &Metrics) -> Result<Self, ConfigError> {
        let named = |error: Error| ConfigError(format!("mongodb.uri: {error}"));
        let mut options = ClientOptions::parse(&config.uri).await.map_err(named)?;
        options.app_name.get_or_insert_with(|| "tailrace".to_owned());
        options.server_selection_timeout.get_or_insert(SERVER_SELECTION);
        options.connect_timeout.get_or_insert(SERVER_SELECTION);
        let default_database = options.default_database.clone();

        let mut for_streams = options.clone();
        count_connections(&mut options, metrics, "operations");
        count_connections(&mut for_streams, metrics, "streams");
        for_streams.max_pool_size = Some(u32::MAX);
        for_streams.max_connecting = Some(16);
        let most = *options.max_pool_size.get_or_insert(CONNECTIONS);
        // Zero is no limit.
        let most = if most == 0 { Semaphore::MAX_PERMITS } else { most as usize };
        Ok(Self {
            operations: Client::with_options(options).map_err(named)?,
            streams: Client::with_options(for_streams).map_err(named)?,
            reads: Arc::new(Semaphore::new((most / 2).max(1))),
            default_database,
            splits_large_events: Arc::default(),
        })
    }

    /// The database that the connection string names.
    pub fn default_database(&self) -> Option<&str> {
        self.default_database.as_deref()
    }

    /// Whether the servers know `$changeStreamSplitLargeEvent`: 6.0.9 and later.
    pub async fn splits_large_events(&self) -> Result<bool, Error> {
        let known = self.splits_large_events.get_or_try_init(|| async {
            let info = self.operations.database("admin").run_command(doc! { "buildInfo": 1 }).await?;
            let part = |index: usize| {
                let parts = info.get_array("versionArray").ok();
                parts.and_then(|parts| parts.get(index)).and_then(bson::Bson::as_i32).unwrap_or_default()
            };
            Ok::<_, Error>((part(0), part(1), part(2)) >= (6, 0, 9))
        });
        known.await.copied()
    }

    /// Reads documents for a client, within a limit of time and one of connections.
    pub async fn read<T>(
        &self,
        within: Duration,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Refusal> {
        let too_long = || Limit::ReadTime.refusal(within.as_secs());
        let Ok(_turn) = timeout(within, self.reads.acquire()).await else { return Err(too_long()) };
        read.await
            .map_err(|error| if code(&error) == Some(TIME_EXPIRED) { too_long() } else { refusal(&error) })
    }

    /// Whether a primary answers now.
    pub async fn ready(&self) -> Result<(), Error> {
        self.operations.database("admin").run_command(doc! { "ping": 1 }).await.map(|_| ())
    }
}

/// Lets the driver tell of its connections, and of members that do not answer. It tells of commands too, at the price of a
/// copy of each reply: that is not asked for.
fn count_connections(options: &mut ClientOptions, metrics: &Metrics, pool: &'static str) {
    let connections = metrics.mongodb_connections(pool);
    options.cmap_event_handler = Some(EventHandler::callback(move |event| match event {
        CmapEvent::ConnectionCreated(_) => drop(connections.inc()),
        CmapEvent::ConnectionClosed(_) => drop(connections.dec()),
        _ => {}
    }));
    let failed = metrics.mongodb_heartbeats_failed();
    options.sdam_event_handler = Some(EventHandler::callback(move |event| {
        if matches!(event, SdamEvent::ServerHeartbeatFailed(_)) {
            failed.inc();
        }
    }));
}

/// What an error of MongoDB says about what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No server, or one that steps down or starts: the same again, later, will work.
    Unreachable,
    /// The oplog does not hold the position any more (`ChangeStreamHistoryLost` and its kin).
    HistoryLost,
    /// MongoDB refuses the command itself, with this code.
    Refused(i32),
}

impl Fault {
    /// How figures name it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::HistoryLost => "history_lost",
            Self::Refused(_) => "refused",
        }
    }
}

/// Codes that pass by themselves: those of the driver specifications ("Server Discovery and Monitoring", "Change
/// Streams") and interruptions by an operator.
const PASSING: &[i32] = &[
    6, 7, 24, 43, 50, 63, 89, 91, 112, 133, 134, 150, 175, 189, 202, 216, 234, 237, 262, 290, 317, 358, 365,
    374, 384, 9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436,
];

/// Sorts an error.
pub fn fault(error: &Error) -> Fault {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => match command.code {
            // 136 CappedPositionLost, 280 ChangeStreamFatalError, 286 ChangeStreamHistoryLost
            136 | 280 | 286 => Fault::HistoryLost,
            code if PASSING.contains(&code) => Fault::Unreachable,
            _ if error.contains_label("ResumableChangeStreamError") => Fault::Unreachable,
            code => Fault::Refused(code),
        },
        ErrorKind::Write(_)
        | ErrorKind::InsertMany(_)
        | ErrorKind::BulkWrite(_)
        | ErrorKind::InvalidArgument { .. }
        // What cannot be read once cannot be read again.
        | ErrorKind::Bson(_)
        | ErrorKind::BsonDeserialization(_)
        | ErrorKind::BsonSerialization(_) => Fault::Refused(0),
        _ => Fault::Unreachable,
    }
}

/// The code of MongoDB's own error, if it is one.
pub fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        ErrorKind::InsertMany(many) => many.write_errors.as_ref()?.first().map(|write| write.code),
        _ => None,
    }
}

/// The message of MongoDB itself, without the driver's wrapping.
pub fn message(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => command.message.clone(),
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.message.clone(),
        other => other.to_string(),
    }
}

/// An error as a log may hold it. What MongoDB says of a command quotes values, a client's variables and documents among
/// them: its code stands for that.
pub fn unquoted(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => format!("MongoDB answers {} {}", command.code, command.code_name),
        ErrorKind::Write(_) | ErrorKind::InsertMany(_) | ErrorKind::BulkWrite(_) => match code(error) {
            Some(code) => format!("MongoDB refuses the write, error {code}"),
            None => "MongoDB refuses the write".to_owned(),
        },
        other => other.to_string(),
    }
}

/// The answer to a client whose request MongoDB did not carry out.
pub fn refusal(error: &Error) -> Refusal {
    match fault(error) {
        Fault::Unreachable => {
            tracing::warn!(error = unquoted(error), "MongoDB is not reachable");
            Refusal::new(Kind::Unavailable, "MongoDB is not reachable")
        }
        Fault::HistoryLost | Fault::Refused(_) => Refusal::new(Kind::RefusedByMongo, message(error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn reads_leave_half_of_the_connections_to_others_and_wait_no_longer_than_they_may_take() {
        let mut config: Config = toml::from_str("auth.anonymous = true").expect("a configuration");
        config.mongodb.uri = "mongodb://127.0.0.1:1/?maxPoolSize=4".to_owned();
        let mongo = Mongo::new(&config.mongodb, &Metrics::default()).await.expect("a connection string");
        let second = Duration::from_secs(1);
        let stays = || mongo.read::<()>(second, std::future::pending());
        let third = async {
            let refused: Result<(), _> = mongo.read(second, std::future::ready(Ok(()))).await;
            refused.expect_err("no turn")
        };
        let refusal = tokio::select! {
            biased;
            _ = stays() => unreachable!("it never ends"),
            _ = stays() => unreachable!("it never ends"),
            refusal = third => refusal,
        };
        assert_eq!(refusal.to_string(), "503 the documents take too long to find: limits.read-seconds is 1");
    }

    #[test]
    fn what_a_log_is_told_of_an_error_quotes_no_document() {
        let told = json!({ "code": 121, "codeName": "DocumentValidationFailure", "errmsg": "dup key: { name: 'ada' }" });
        let write = serde_json::from_value(told.clone()).map(WriteFailure::WriteError).expect("an error");
        let command = serde_json::from_value(told).map(ErrorKind::Command).expect("an error");
        assert_eq!(unquoted(&ErrorKind::Write(write).into()), "MongoDB refuses the write, error 121");
        assert_eq!(unquoted(&command.into()), "MongoDB answers 121 DocumentValidationFailure");
    }

    #[test]
    fn the_codes_that_pass_are_listed_once_in_their_order() {
        assert!(PASSING.is_sorted_by(|one, next| one < next), "{PASSING:?}");
    }
}
