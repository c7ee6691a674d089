//! Configuration: a TOML file, the environment over it, flags over both.
//!
//! Every key is documented at its field. In the environment a key is written `TAILRACE_` and its path with two
//! underscores for each dot and one for each hyphen: `auth.jwt.secret` is `TAILRACE_AUTH__JWT__SECRET`.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::Path,
    time::Duration,
};

use bson::Document;
use ipnet::IpNet;
use serde::Deserialize;
use shared::{
    address::{MAX_URL_BYTES, Mount, Mounts},
    limit::RequestLimits,
    name::{DatabaseName, Namespace},
    origin::Origins,
    permission::Rules,
    variables::{MAX_AVARS_BYTES, OperatorCheck},
};

use tracing_subscriber::EnvFilter;

use crate::{
    authentication::{AuthConfig, Authenticator, EdgeConfig, Secret},
    collection_path::CollectionPath,
    tls::{Tls, TlsConfig},
};

/// The prefix of every variable that is ours in the environment.
const PREFIX: &str = "TAILRACE_";

/// Variables with our prefix that are no keys: they name the file, or what the development tools use.
const NOT_KEYS: &[&str] = &[
    "TAILRACE_CONFIG",
    "TAILRACE_MONGOD",
    "TAILRACE_CHROMIUM",
    "TAILRACE_RESTHEART",
    "TAILRACE_CENTRIFUGO",
    "TAILRACE_SOAK",
];

/// Prefixes of those of the development server and of the tests.
const NOT_KEYS_FROM: &[&str] = &["TAILRACE_DEV_", "TAILRACE_TEST_"];

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Other processes of the same user may listen there too; the kernel spreads new connections over them.
    pub reuse_port: bool,
    /// Where operators look.
    pub admin: AdminConfig,
    /// The certificate of `listen`.
    pub tls: TlsConfig,
    /// Where MongoDB is.
    pub mongodb: MongoConfig,
    /// Which paths serve which databases. Empty: the database that the URI names (else `test`) at `/`.
    pub mounts: Vec<Mount>,
    /// Who callers are.
    pub auth: AuthConfig,
    /// Who may do what, as `shared::permission` reads it. Without any, whoever has a good token reads and follows.
    pub permissions: Vec<Document>,
    /// A collection with more of them, as `app.acl`; a change of it acts within a second.
    pub permissions_collection: Option<CollectionPath>,
    /// The edge workers that this backend believes.
    pub edge: EdgeConfig,
    /// Sizes, counts, and times that bound what a client can take.
    pub limits: Limits,
    /// Web origins, as `https://app.example`, whose pages may use credentials that browsers send on their own.
    pub origins: Vec<String>,
    /// What clients hold to continue behind an event.
    pub positions: PositionsConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Refuse operators in `avars`. Off is for closed networks only.
    pub aggregation_check_operators: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            reuse_port: false,
            admin: AdminConfig::default(),
            tls: TlsConfig::default(),
            mongodb: MongoConfig::default(),
            mounts: Vec::new(),
            auth: AuthConfig::default(),
            permissions: Vec::new(),
            permissions_collection: None,
            edge: EdgeConfig::default(),
            limits: Limits::default(),
            origins: Vec::new(),
            positions: PositionsConfig::default(),
            log: LogConfig::default(),
            aggregation_check_operators: true,
        }
    }
}

/// `admin.*`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AdminConfig {
    /// Address and port at which `/_metrics`, `/_health`, and `/_ready` answer everybody who reaches it. Default: nowhere.
    pub listen: Option<SocketAddr>,
}

/// `mongodb.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MongoConfig {
    /// Connection string. The servers must be a replica set or a sharded cluster: a standalone has no change streams.
    pub uri: String,
}

impl Default for MongoConfig {
    fn default() -> Self {
        Self { uri: "mongodb://127.0.0.1:27017".to_owned() }
    }
}

/// Clients take a line on which nothing comes for 60 s for a dead one: a keepalive, which comes with the ping, has to be
/// there before.
const MAX_PING_SECONDS: u64 = 50;

/// `limits.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Connections at once; one more is answered 503 and closed.
    pub connections: usize,
    /// Connections at once of one address (IPv6: of one /64); through the edge, streams.
    pub connections_per_address: usize,
    /// Streams at once of one user: of the same `iss` and `sub`.
    pub connections_per_user: usize,
    /// Subscribers at once of one stream, whatever their variables.
    pub connections_per_stream: usize,
    /// Streams with different values of their variables that one user follows at once, or one address of anonymous callers.
    pub bindings_per_user: usize,
    /// Streams that all clients may ask for in a second, opened or not.
    pub upgrades_per_second: NonZeroU32,
    /// Streams that one address may ask for in a second.
    pub upgrades_per_second_per_address: NonZeroU32,
    /// Addresses that stand for many clients, and are not counted: proxies and tunnels.
    pub uncounted_addresses: Vec<IpNet>,
    /// Bytes of path and query.
    pub url_bytes: usize,
    /// Bytes of `avars`, after percent-decoding.
    pub avars_bytes: usize,
    /// Milliseconds until a request's head must have arrived; and before that, as many for a TLS handshake.
    pub header_timeout_ms: u64,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Bytes of a request's body: of a document.
    pub body_bytes: usize,
    /// Milliseconds until a request's body must have arrived.
    pub body_timeout_ms: u64,
    /// Statements of the edge, one with each request that it passes on, that are remembered for two minutes: each counts once.
    pub edge_statements: usize,
    /// Seconds in which MongoDB finds the documents that a request reads.
    pub read_seconds: u64,
    /// Bytes of BSON of the documents that one answer holds. One document always fits.
    pub page_bytes: usize,
    /// Bytes of events that wait for one slow client before it is closed with 4003. One event always fits.
    pub queue_bytes: usize,
    /// Bytes of recent events that each source keeps for clients that come back.
    pub replay_bytes: usize,
    /// Bytes of one message that a client sends.
    pub message_bytes: usize,
    /// Seconds between two pings; at most 50: clients take a line that is silent for 60 s for a dead one.
    pub ping_seconds: u64,
    /// Seconds in which a client answers a ping before it counts as gone.
    pub pong_seconds: u64,
    /// Seconds that clients have to leave when the node shuts down.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 19_000,
            connections_per_address: 1_000,
            connections_per_user: 1_000,
            connections_per_stream: 19_000,
            bindings_per_user: 100,
            upgrades_per_second: const { NonZeroU32::new(5_000).unwrap() },
            upgrades_per_second_per_address: const { NonZeroU32::new(100).unwrap() },
            uncounted_addresses: vec![
                IpNet::new_assert(Ipv4Addr::LOCALHOST.into(), 8).trunc(),
                IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128),
            ],
            url_bytes: RequestLimits::default().url_bytes,
            avars_bytes: RequestLimits::default().avars_bytes,
            header_timeout_ms: 10_000,
            header_bytes: 48 * 1024,
            body_bytes: 16 * 1024 * 1024,
            body_timeout_ms: 30_000,
            edge_statements: 500_000,
            read_seconds: 10,
            page_bytes: 16 * 1024 * 1024,
            queue_bytes: 1024 * 1024,
            replay_bytes: 1024 * 1024,
            message_bytes: 64 * 1024,
            ping_seconds: 25,
            pong_seconds: 10,
            drain_seconds: 5,
        }
    }
}

impl Limits {
    /// How long a request's head may take.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// How long a request's body may take.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    /// How long documents may take to be found.
    pub fn read_timeout(&self) -> Duration {
        Duration::from_secs(self.read_seconds)
    }

    /// What the edge judges as well.
    pub fn of_request(&self) -> RequestLimits {
        RequestLimits { url_bytes: self.url_bytes, avars_bytes: self.avars_bytes }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let at_least = |key: &str, value: u64, least: u64| {
            if value < least {
                return Err(ConfigError(format!("limits.{key} is {value}, expected at least {least}")));
            }
            Ok(())
        };
        let bytes = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let at_most = |key: &str, value: u64, most: u64| {
            if value > most {
                return Err(ConfigError(format!("limits.{key} is {value}, expected at most {most}")));
            }
            Ok(())
        };
        for (key, count) in [
            ("connections", self.connections),
            ("connections-per-address", self.connections_per_address),
            ("connections-per-user", self.connections_per_user),
            ("connections-per-stream", self.connections_per_stream),
            ("bindings-per-user", self.bindings_per_user),
            ("edge-statements", self.edge_statements),
        ] {
            at_least(key, bytes(count), 1)?;
        }
        at_least("url-bytes", bytes(self.url_bytes), 256)?;
        // Clients and hops in between count on no more.
        at_most("url-bytes", bytes(self.url_bytes), bytes(MAX_URL_BYTES))?;
        at_least("avars-bytes", bytes(self.avars_bytes), 2)?;
        at_most("avars-bytes", bytes(self.avars_bytes), bytes(MAX_AVARS_BYTES))?;
        at_least("body-timeout-ms", self.body_timeout_ms, 100)?;
        at_least("header-timeout-ms", self.header_timeout_ms, 100)?;
        at_least("read-seconds", self.read_seconds, 1)?;
        at_least("page-bytes", bytes(self.page_bytes), 1024)?;
        // hyper's buffer cannot be smaller.
        at_least("header-bytes", bytes(self.header_bytes), 8192)?;
        at_least("queue-bytes", bytes(self.queue_bytes), 1024)?;
        at_least("message-bytes", bytes(self.message_bytes), 125)?;
        at_least("ping-seconds", self.ping_seconds, 1)?;
        at_most("ping-seconds", self.ping_seconds, MAX_PING_SECONDS)?;
        at_least("pong-seconds", self.pong_seconds, 1)
    }
}

/// `positions.*`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PositionsConfig {
    /// The secret that seals positions, at least 32 bytes, the same on every node. Default: one is created and kept in
    /// MongoDB, in the collection `_tailrace`.
    pub secret: Option<Secret>,
}

/// `log.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,tailrace::source=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl LogConfig {
    /// What lets lines pass, as `log.level` says.
    pub fn filter(&self) -> Result<EnvFilter, ConfigError> {
        EnvFilter::try_new(&self.level).map_err(|error| {
            ConfigError(format!("log.level is {:?}, expected a level such as info: {error}", self.level))
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.filter().map(|_| ())
    }
}

/// `log.format`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// A configuration that stops the start. The text names the key and what it takes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// What the command line sets, keyed as in the file.
pub type Flags = BTreeMap<String, String>;

impl Config {
    /// Reads the file (if one is named), the environment, and the flags, and checks the whole.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            None => toml::Table::new(),
            Some(path) => {
                let place = path.display();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError(format!("{place}: {error}")))?;
                text.parse().map_err(|error| ConfigError(format!("{place}: {error}")))?
            }
        };
        for (name, value) in environment {
            if NOT_KEYS.contains(&name.as_str()) || NOT_KEYS_FROM.iter().any(|from| name.starts_with(from)) {
                continue;
            }
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            let path: Vec<_> =
                key.to_ascii_lowercase().split("__").map(|part| part.replace('_', "-")).collect();
            set(&mut table, &path, &value).map_err(|why| ConfigError(format!("{name}: {why}")))?;
        }
        for (key, value) in flags {
            let path: Vec<_> = key.split('.').map(str::to_owned).collect();
            set(&mut table, &path, value).map_err(|why| ConfigError(format!("{key}: {why}")))?;
        }
        let config: Self = serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
            let path = error.path().to_string();
            let why = error.inner().to_string().trim().replace('\n', " ");
            ConfigError(if path == "." { why } else { format!("{path}: {why}") })
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.limits.check()?;
        if self.admin.listen.is_some_and(|listen| listen.port() != 0 && listen.port() == self.listen.port()) {
            let listen = self.listen;
            let message =
                format!("admin.listen has the port of listen, {listen}, expected a port of its own");
            return Err(ConfigError(message));
        }
        self.log.check()?;
        if self.positions.secret.as_ref().is_some_and(|secret| secret.expose().len() < 32) {
            return Err(ConfigError("positions.secret is too short, expected at least 32 bytes".to_owned()));
        }
        if !self.mounts.is_empty() {
            Mounts::new(&self.mounts).map_err(ConfigError)?;
        }
        Rules::configured(&self.permissions).map_err(ConfigError)?;
        self.auth.check_anonymous(self.listen, self.has_permissions()).map_err(ConfigError)?;
        Authenticator::new(&self.auth, &self.edge, self.admits_anonymous()).map_err(ConfigError)?;
        Origins::new(&self.origins).map_err(|why| ConfigError(format!("origins: {why}")))?;
        Tls::new(&self.tls).map_err(ConfigError)?;
        Ok(())
    }

    /// The mounts, or the default one for the database that the connection string names.
    pub fn mounts(&self, default_database: Option<&str>) -> Result<Mounts, ConfigError> {
        if !self.mounts.is_empty() {
            return Mounts::new(&self.mounts).map_err(ConfigError);
        }
        let name = default_database.unwrap_or("test");
        let database = DatabaseName::new(name).ok_or_else(|| {
            ConfigError(format!("mongodb.uri names the database {name:?}, which cannot be served"))
        })?;
        Ok(Mounts::of_database(&database))
    }

    /// Whether rules decide.
    pub fn has_permissions(&self) -> bool {
        !self.permissions.is_empty() || self.permissions_collection.is_some()
    }

    /// Whether a caller without credentials may get an answer: everybody may, or the rules say what such callers may.
    pub fn admits_anonymous(&self) -> bool {
        self.auth.anonymous || self.has_permissions()
    }

    /// The collection of users, if there is one that an address reaches.
    pub fn users_namespace(&self) -> Option<Namespace> {
        self.auth.users_collection.as_ref().and_then(CollectionPath::namespace)
    }

    /// Whether operators in `avars` are refused.
    pub fn operator_check(&self) -> OperatorCheck {
        if self.aggregation_check_operators { OperatorCheck::On } else { OperatorCheck::Off }
    }
}

/// Puts a text from the environment or a flag at its place. What looks like a TOML list or table is read as one; a
/// boolean or number as such only where the key takes one, so that a secret of digits stays a text.
fn set(table: &mut toml::Table, path: &[String], text: &str) -> Result<(), String> {
    let Some((last, parents)) = path.split_last() else { return Err("names no key".to_owned()) };
    let mut here = table;
    for part in parents {
        let next = here.entry(part.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = next.as_table_mut().ok_or_else(|| format!("{part} is a value, not a group of keys"))?;
    }
    let texts = ["secret", "uri", "level", "issuer", "audience", "jwks", "signing-key"];
    let in_keys = parents.last().is_some_and(|parent| parent == "keys");
    let value = if texts.contains(&last.as_str()) || in_keys {
        toml::Value::String(text.to_owned())
    } else {
        format!("value = {text}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(text.to_owned()))
    };
    here.insert(last.clone(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, String> {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tailrace-{}-{number}.toml", std::process::id()));
        std::fs::write(&path, file).expect("write");
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let loaded = Config::load(Some(&path), pairs(environment), &pairs(flags).into_iter().collect());
        let place = path.display().to_string();
        let _ = std::fs::remove_file(&path);
        loaded.map_err(|error| error.to_string().replace(&place, "FILE"))
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "listen = \"127.0.0.1:1\"\n[mongodb]\nuri = \"mongodb://file\"";
        let config = load(
            file,
            &[("TAILRACE_LISTEN", "127.0.0.1:2"), ("TAILRACE_MONGODB__URI", "mongodb://env")],
            &[("listen", "127.0.0.1:3")],
        )
        .expect("config");
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.mongodb.uri, "mongodb://env");
    }

    #[test]
    fn the_environment_takes_booleans_numbers_and_lists() {
        let config = load(
            "",
            &[
                ("TAILRACE_LIMITS__PING_SECONDS", "7"),
                ("TAILRACE_AGGREGATION_CHECK_OPERATORS", "false"),
                ("TAILRACE_MOUNTS", "[{what='*', where='/'}]"),
                ("TAILRACE_ORIGINS", "['https://a.example']"),
            ],
            &[],
        )
        .expect("config");
        assert_eq!(config.limits.ping_seconds, 7);
        assert_eq!(config.operator_check(), OperatorCheck::Off);
        assert_eq!(config.mounts[0].what, "*");
        assert_eq!(config.origins, ["https://a.example"]);
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_what_it_takes() {
        for (file, expected) in [
            (
                "lisen = 1",
                "unknown field `lisen`, expected one of `listen`, `reuse-port`, `admin`, `tls`, `mongodb`, `mounts`",
            ),
            ("[limits]\nping = 1", "limits.ping: unknown field `ping`, expected one of `connections`"),
            ("[limits]\nping-seconds = 'x'", "limits.ping-seconds: invalid type: string \"x\", expected u64"),
            ("[limits]\nping-seconds = 0", "limits.ping-seconds is 0, expected at least 1"),
            ("[limits]\nping-seconds = 51", "limits.ping-seconds is 51, expected at most 50"),
            (
                "listen = '127.0.0.1:9180'\nadmin.listen = '127.0.0.1:9180'",
                "admin.listen has the port of listen, 127.0.0.1:9180, expected a port of its own",
            ),
            ("[limits]\nurl-bytes = 20000", "limits.url-bytes is 20000, expected at most 16384"),
            (
                "[limits]\nuncounted-addresses = ['10.0.0.0/40']",
                "limits.uncounted-addresses[0]: invalid IP address syntax",
            ),
            ("tls.key = 'key.pem'", "tls.certificate is not set, expected that of tls.key"),
            ("listen = 'here'", "listen: invalid socket address syntax"),
            ("mounts = [{what = 'x', where = '/'}]", "mounts[0].what is \"x\", expected \"*\", \"/<db>\""),
            ("[log]\nlevel = 'a=b=c'", "log.level is \"a=b=c\", expected a level such as info"),
            ("[log]\nformat = 'xml'", "log.format: unknown variant `xml`, expected `text` or `json`"),
            ("listen =", "FILE: TOML parse error"),
        ] {
            let error = load(file, &[], &[]).expect_err(file);
            assert!(error.contains(expected), "{file}: {error}");
        }
    }

    #[test]
    fn an_unknown_variable_in_the_environment_stops_the_start() {
        let error = load("", &[("TAILRACE_LISTN", "127.0.0.1:1")], &[]).expect_err("unknown");
        assert!(error.contains("unknown field `listn`"), "{error}");
        load("", &[("TAILRACE_CONFIG", "x"), ("OTHER", "y")], &[]).expect("not ours");
    }

    #[test]
    fn variables_of_the_development_tools_do_not_stop_the_start() {
        for name in [
            "RESTHEART",
            "CENTRIFUGO",
            "CHROMIUM",
            "MONGOD",
            "SOAK",
            "DEV_EDGE_PORT",
            "TEST_SCALE",
            "TEST_NATIVE",
        ] {
            load("", &[(&format!("TAILRACE_{name}"), "x")], &[]).expect(name);
        }
    }

    #[test]
    fn the_default_mount_is_the_database_of_the_connection_string() {
        let config = load("", &[], &[]).expect("config");
        let configured = |name| config.mounts(name).expect("mounts").configured()[0].clone();
        assert_eq!(configured(Some("shop")), Mount { what: "/shop".into(), at: "/".into() });
        assert_eq!(configured(None), Mount { what: "/test".into(), at: "/".into() });
    }
}
