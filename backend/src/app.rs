//! The parts of a running node, and the one place where a request meets them.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Buf;
use futures_util::Stream;
use http::{Method, StatusCode};
use shared::{
    address::{Mounts, Route},
    admission::stops_event_source,
    credentials,
    limit::Limit,
    origin::{Origins, Verdict},
    refusal::{Kind, Refusal},
    request::Head,
    session_cookie, statement,
};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use warp::reply::Response;

use crate::{
    answer,
    api::{collection, database, document, sign_in},
    authentication::{Authenticator, Secret},
    body::Body,
    catalog::Catalog,
    config::{Config, ConfigError},
    edge,
    follow::{self, Followed},
    health::{self, Readiness},
    hub::Hub,
    known::Known,
    limits::{Places, Rates},
    metrics::{Metrics, Part},
    mongo::Mongo,
    permission::{May, Permissions},
    routes::Upgrade,
    seal::PositionKey,
    sessions::Sessions,
    stream::{self, Wish},
    tls::Tls,
    watcher::{self, Scope},
};

/// How long who asks too often waits to hear it, at least. Who is refused together comes back together, so each waits for a time
/// of its own, up to twice as long.
const REFUSED_AFTER: Duration = Duration::from_millis(500);

/// A node: everything that lives as long as the process.
#[derive(Debug)]
pub struct App {
    /// As it was started.
    pub config: Config,
    /// What operators see of all that happens.
    pub metrics: Arc<Metrics>,
    /// The connections to MongoDB.
    pub mongo: Mongo,
    /// Which paths serve what.
    pub mounts: Mounts,
    /// Whose pages may call.
    pub origins: Origins,
    /// Who calls.
    pub authenticator: Authenticator,
    /// Who may do what.
    pub permissions: Arc<Permissions>,
    /// Who follows which stream, and by what right.
    pub sessions: Arc<Sessions>,
    /// What is declared.
    pub catalog: Arc<Catalog>,
    /// What is followed.
    pub hub: Arc<Hub>,
    /// What seals positions.
    pub position_key: Arc<PositionKey>,
    /// How many connections and bindings each client holds.
    pub places: Arc<Places>,
    /// The certificate, where the node itself ends TLS.
    pub tls: Option<Arc<Tls>>,
    /// Collections of users and rules, and whether they are followed.
    pub collections: Vec<Arc<Followed>>,
    /// Whether MongoDB answers.
    pub readiness: Readiness,
    /// How often streams are asked for.
    pub rates: Rates,
    /// The sockets of subscribers; the drain waits for them.
    pub sockets: TaskTracker,
}

impl App {
    /// Builds the parts, and starts to follow the metadata. MongoDB need not be there yet.
    pub async fn start(config: Config) -> Result<Arc<Self>, ConfigError> {
        let metrics = Arc::new(Metrics::default());
        let mongo = Mongo::new(&config.mongodb, &metrics).await?;
        let mounts = config.mounts(mongo.default_database())?;
        let origins = Origins::new(&config.origins).map_err(ConfigError)?;
        let sessions = Arc::new(Sessions::default());
        let permissions = Permissions::new(&config, &mongo.operations, Arc::clone(&sessions));
        let permissions = permissions.map_err(ConfigError)?;
        let known = Arc::<Known>::default();
        let hub = Hub::new(mongo.clone(), &config.limits, Arc::clone(&metrics), Arc::clone(&known));
        // A database that every node of the deployment agrees on.
        let first_mounted =
            mounts.databases().and_then(|databases| databases.first().map(ToString::to_string));
        let of_key = mongo.default_database().map(str::to_owned).or(first_mounted);
        let position_key = PositionKey::new(
            config.positions.secret.as_ref().map(Secret::expose),
            of_key.as_deref().unwrap_or("tailrace"),
        );
        let position_key = Arc::new(position_key);
        let authenticator = Authenticator::new(&config.auth, &config.edge, config.admits_anonymous())
            .and_then(|authenticator| {
                let key = Arc::clone(&position_key);
                authenticator.with_database(&config.auth, &mongo.operations, key, &sessions, &config.limits)
            })
            .map_err(ConfigError)?;
        let scopes = Scope::of(mounts.databases());
        let catalog = Catalog::new(mongo.operations.clone(), Arc::clone(&hub), known, scopes.len());
        for scope in scopes {
            let metrics = Arc::clone(&metrics);
            tokio::spawn(watcher::run(mongo.streams.clone(), scope, Arc::clone(&catalog), metrics));
        }
        let mut collections = Vec::new();
        if let Some(collection) = permissions.collection() {
            let (path, state) = (collection.clone(), Followed::new(Part::Permissions));
            collections.push(Arc::clone(&state));
            let (client, follower) = (mongo.streams.clone(), Arc::clone(&permissions));
            tokio::spawn(follow::run(client, path, follower, state, Arc::clone(&metrics)));
        }
        if let Some((users, collection)) = authenticator.users() {
            let (path, state) = (collection.clone(), Followed::new(Part::Users));
            collections.push(Arc::clone(&state));
            let (client, follower) = (mongo.streams.clone(), Arc::clone(users));
            tokio::spawn(follow::run(client, path, follower, state, Arc::clone(&metrics)));
        }
        let sockets = TaskTracker::new();
        let tls = Tls::new(&config.tls).map_err(ConfigError)?;
        let (places, rates) = (Places::new(&config.limits), Rates::new(&config.limits));
        Ok(Arc::new(Self {
            config,
            metrics,
            mongo,
            mounts,
            origins,
            authenticator,
            permissions,
            sessions,
            catalog,
            hub,
            position_key,
            places,
            tls,
            collections,
            readiness: Readiness::default(),
            rates,
            sockets,
        }))
    }

    /// Answers one request.
    pub async fn respond<S, B, E>(self: Arc<Self>, head: Head, body: S, upgrade: Option<Upgrade>) -> Response
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Buf,
        E: std::fmt::Display,
    {
        let mut verdict = self.origins.judge(&head.headers);
        let method = head.method.clone();
        let limits = &self.config.limits;
        let body = Body::new(body, limits.body_bytes, limits.body_timeout());
        let answered = if method == Method::OPTIONS {
            Ok(answer::empty(StatusCode::NO_CONTENT))
        } else {
            self.answer(&head, body, upgrade, &mut verdict).await
        };
        let mut response = answered.unwrap_or_else(|refusal| {
            self.metrics.refused(&refusal);
            let basic = self.authenticator.takes_basic();
            answer::refused(&if basic { refusal.offering_basic(&head) } else { refusal })
        });
        let cors = if method == Method::OPTIONS {
            self.origins.preflight_headers(&verdict)
        } else {
            self.origins.headers(&verdict)
        };
        for (name, value) in cors {
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// 429 when the address asks for streams too often. It hears so after a moment: who is answered at once asks again at
    /// once, and each answer costs more than the waiting does.
    async fn count_request(&self, client: Option<IpAddr>) -> Result<(), Refusal> {
        match client.and_then(|address| self.places.block(address)) {
            Some(block) => {
                let counted = self.rates.ask_from(block);
                if counted.is_err() {
                    sleep(REFUSED_AFTER.mul_f64(rand::random_range(1.0..=2.0))).await;
                }
                counted
            }
            None => Ok(()),
        }
    }

    async fn answer(
        self: &Arc<Self>,
        head: &Head,
        body: Body,
        upgrade: Option<Upgrade>,
        verdict: &mut Verdict,
    ) -> Result<Response, Refusal> {
        let address = self.mounts.resolve(&head.path);
        let now = SystemTime::now();
        match address.as_ref().map(|address| &address.route) {
            Ok(Route::Health) => return health::health(head),
            Ok(Route::Ready) => return health::ready(self, head).await,
            Ok(Route::EdgeSettings) => {
                let asker = self.authenticator.authenticate_edge(head, now)?;
                return edge::settings(self, head, &asker);
            }
            Ok(Route::EdgeDefinitions(namespace)) => {
                let asker = self.authenticator.authenticate_edge(head, now)?;
                return edge::definitions(self, head, &asker, namespace).await;
            }
            Ok(Route::EdgeUser) => return edge::user(self, head).await,
            _ => {}
        }
        let asks_for_stream = matches!(address.as_ref().map(|address| &address.route), Ok(Route::Stream(..)));
        let from_edge = head.headers.contains_key(&statement::HEADER);
        if asks_for_stream && !from_edge {
            // Before anything is computed: a signature costs more than this.
            self.count_request(head.peer).await?;
        }
        if let Ok(address) = &address
            && !self.authenticator.is_for_edge_only()
            && session_cookie::signs_out(head, &address.route, verdict)
        {
            return Ok(sign_in::signed_out());
        }
        // Who calls is judged first, so that nobody else learns what exists.
        let path = address.as_ref().ok().map(|address| address.canonical.as_str());
        let caller = self.authenticator.authenticate(head, path, now).await?;
        if asks_for_stream && from_edge {
            self.count_request(caller.client_address).await?;
        }
        if let Some(judged) = &caller.origin {
            // The edge has judged: it alone saw the address that the page called.
            verdict.clone_from(judged);
        }
        verdict.admit()?;
        if caller.ambient {
            verdict.admit_ambient(head)?;
        }
        self.config.limits.of_request().check_url(head)?;
        match address.as_ref().map(|address| &address.route) {
            Ok(Route::Tickets) => return sign_in::ticket(self, head, &caller, body).await,
            Ok(Route::Session) => return sign_in::session(self, head, &caller),
            _ => {}
        }
        // From here on nobody is to see what was shown in the address.
        let parameter = self.authenticator.token_parameter();
        let query = credentials::without_credentials(head.query.as_deref(), parameter);
        let head = &Head { query, ..head.clone() };
        let access = self.permissions.current()?;
        let address = address.map_err(|refusal| access.unresolved(&caller.identity, refusal))?;
        if let Route::Stream(namespace, name) = &address.route {
            let wanted = Wish { head, caller: &caller, address: &address, namespace, name };
            return match stream::open(self, &wanted, upgrade).await {
                Err(refusal) if stops_event_source(head, &refusal) => {
                    Ok(answer::empty(StatusCode::NO_CONTENT))
                }
                opened => opened,
            };
        }
        let may = May { access: &access, head, caller: &caller };
        let grant = may.decide(&address)?;
        let body = body.at_most(grant.limits.narrow(Limit::BodyBytes, self.config.limits.body_bytes));
        match &address.route {
            Route::Streams(namespace) => stream::list(self, &may, &address, namespace).await,
            Route::Collection(namespace) => {
                collection::answer(self, &may, &grant, body, &address, namespace).await
            }
            Route::Document(namespace, id) => document::answer(self, head, &grant, body, namespace, id).await,
            Route::Database(database) => database::answer(self, head, body, &address, database).await,
            Route::Root => database::root(self, head).await,
            Route::Stream(..)
            | Route::Metrics
            | Route::Health
            | Route::Ready
            | Route::EdgeSettings
            | Route::EdgeUser
            | Route::Tickets
            | Route::Session
            | Route::EdgeDefinitions(_) => Err(Refusal::new(Kind::NotFound, "Resource does not exist")),
        }
    }
}
