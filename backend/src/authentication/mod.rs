//! Who calls: a token, a password, or a ticket of the caller's own, or what the edge says in a signed statement.

mod attempts;
mod config;
mod key_server;
mod password;
mod replay;
mod signature;
mod tickets;
mod users;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use shared::{
    credentials::{Basic, Credentials, Presented, TokenParameter},
    edge_definitions::{Collection, Settings, Signed},
    edge_key::EdgeKeys,
    identity::{Claims, Identity},
    name::Namespace,
    origin::Verdict,
    refusal::{Kind, Refusal},
    request::Head,
    statement::{self, Bound, Purpose, Received},
    ticket::{self, TicketId},
    token::{KeySource, Policy, Unverified},
};

pub use self::config::{AuthConfig, EdgeConfig, Secret, UserConfig};
pub(crate) use self::users::Users;
use self::{attempts::Attempts, key_server::KeyServer, replay::Replay, tickets::Tickets};
use crate::{collection_path::CollectionPath, config::Limits, seal::PositionKey, sessions::Sessions};

/// Who sent a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// The identity.
    pub identity: Identity,
    /// When the session ends (close code 4401), in Unix seconds; never, for anonymous callers.
    pub expires_at: Option<u64>,
    /// The client's address: the peer's, or the one that the edge names.
    pub client_address: Option<IpAddr>,
    /// Whether the request came through the edge.
    pub from_edge: bool,
    /// What the edge found of the `Origin`; `None` when the backend has to judge it.
    pub origin: Option<Verdict>,
    /// Whether the credentials are such as browsers send on their own.
    pub ambient: bool,
    /// The ticket that was shown. It counts once: it is burned when the stream is open.
    pub ticket: Option<TicketId>,
}

/// An edge worker that asks for definitions or settings; made only by [`Authenticator::authenticate_edge`].
#[derive(Debug)]
pub struct EdgeCaller {
    keys: EdgeKeys,
}

/// Judges who sent a request.
#[derive(Debug)]
pub struct Authenticator {
    anonymous: bool,
    policy: Option<Policy>,
    key_server: Option<KeyServer>,
    edge_keys: EdgeKeys,
    edge_required: bool,
    deployment: String,
    replay: Replay,
    parameter: Option<TokenParameter>,
    users: Option<Arc<Users>>,
    shared: Option<Shared>,
}

/// What all nodes of the deployment share, in MongoDB.
#[derive(Debug)]
struct Shared {
    key: Arc<PositionKey>,
    tickets: Tickets,
}

impl Authenticator {
    /// Checks the configuration. The error names the key and what it takes. `admits_anonymous`: somebody who brings no
    /// credentials is not refused here.
    pub fn new(auth: &AuthConfig, edge: &EdgeConfig, admits_anonymous: bool) -> Result<Self, String> {
        let policy = auth.jwt.policy()?;
        users::check(&auth.users)?;
        let edge_keys = edge.checked_keys()?;
        if let Some(secret) = &auth.jwt.secret
            && edge_keys.contains_secret(secret.expose())
        {
            return Err("edge.keys holds the value of auth.jwt.secret, expected keys of its own".to_owned());
        }
        let key_server = match policy.as_ref().map(Policy::keys) {
            Some(KeySource::Jwks(address)) => {
                Some(KeyServer::new(address.clone()).map_err(|fault| format!("auth.jwt.jwks: {fault}"))?)
            }
            _ => None,
        };
        Ok(Self {
            anonymous: admits_anonymous,
            policy,
            key_server,
            edge_keys,
            edge_required: edge.required,
            deployment: edge.audience.clone(),
            replay: Replay::new(Limits::default().edge_statements),
            parameter: auth.query_parameter.clone(),
            users: None,
            shared: None,
        })
    }

    /// Takes users of the configuration and of a collection, and tickets. The error names the key and what it takes.
    pub fn with_database(
        mut self,
        auth: &AuthConfig,
        client: &mongodb::Client,
        key: Arc<PositionKey>,
        sessions: &Arc<Sessions>,
        limits: &Limits,
    ) -> Result<Self, String> {
        if !auth.users.is_empty() || auth.users_collection.is_some() {
            let collection = auth.users_collection.clone().map(|path| (client.clone(), path));
            let attempts = Attempts::new(auth.failures_per_minute, &limits.uncounted_addresses);
            let users = Users::new(&auth.users, collection, attempts, Arc::clone(sessions))?;
            self.users = Some(users);
        }
        self.replay = Replay::new(limits.edge_statements);
        let tickets = Tickets::new(client.clone(), key.database(), &self.edge_keys, &self.deployment);
        self.shared = Some(Shared { key, tickets });
        Ok(self)
    }

    /// The users, to be followed where they are in a collection.
    pub(crate) fn users(&self) -> Option<(&Arc<Users>, &CollectionPath)> {
        let users = self.users.as_ref()?;
        users.collection().map(|collection| (users, collection))
    }

    /// Whether names with passwords are accepted.
    pub fn takes_basic(&self) -> bool {
        self.users.is_some()
    }

    /// Whether nothing is answered but what comes through the edge.
    pub fn is_for_edge_only(&self) -> bool {
        self.edge_required
    }

    /// The query parameter that carries a token, if there is one.
    pub fn token_parameter(&self) -> Option<&TokenParameter> {
        self.parameter.as_ref()
    }

    /// Who sent the request: 401 for bad credentials, or for none where some are needed; 503 when what to judge by cannot be
    /// had. `path` is the canonical one, where the request's fits an address.
    pub async fn authenticate(
        &self,
        request: &Head,
        path: Option<&str>,
        now: SystemTime,
    ) -> Result<Caller, Refusal> {
        let now = unix_seconds(now);
        if let Some(received) = self.received(request, Purpose::Request, now)? {
            let statement = received.statement;
            match &statement.identity {
                // The edge's setting does not open what the backend's keeps closed.
                Identity::Anonymous => self.admit_anonymous()?,
                // What it keeps of a user may be older than the last change.
                Identity::Verified(claims) => self.check_user(claims).await?,
            }
            return Ok(Caller {
                expires_at: statement.identity.claims().map(Claims::session_end),
                identity: statement.identity,
                client_address: statement.client.or(request.peer),
                from_edge: true,
                origin: Some(statement.origin),
                ambient: statement.ambient,
                ticket: statement.ticket,
            });
        }
        if self.edge_required {
            return Err(refused("Tailrace-Identity is missing: this backend is reached through the edge"));
        }
        let presented = Credentials::of(&request.headers, request.query.as_deref(), self.parameter.as_ref())?;
        let (mut ticket, mut ambient) = (None, false);
        let identity = match presented {
            None => {
                self.admit_anonymous()?;
                Identity::Anonymous
            }
            Some(presented) => {
                ambient = presented.ambient;
                Identity::Verified(match presented.credentials {
                    Credentials::Token(token) => self.verify_token(&token, now).await?,
                    Credentials::Basic(basic) => self.sign_in(&basic, request.peer).await?,
                    Credentials::Ticket(shown) => {
                        let shared = self.shared()?;
                        let path = path.unwrap_or_default();
                        let (claims, id) = shared.tickets.verify(&shown, path, &shared.key, now).await?;
                        self.check_user(&claims).await?;
                        ticket = Some(id);
                        claims
                    }
                })
            }
        };
        Ok(Caller {
            expires_at: identity.claims().map(Claims::session_end),
            identity,
            client_address: request.peer,
            from_edge: false,
            origin: None,
            ambient,
            ticket,
        })
    }

    async fn sign_in(&self, basic: &Basic, address: Option<IpAddr>) -> Result<Claims, Refusal> {
        match &self.users {
            Some(users) => users.sign_in(basic, address).await,
            None => Err(refused("passwords are not accepted here, expected a Bearer token")),
        }
    }

    /// 401 when the claims are of a user who was changed or removed since they were read.
    pub async fn check_user(&self, claims: &Claims) -> Result<(), Refusal> {
        match &self.users {
            _ if claims.version().is_none() => Ok(()),
            Some(users) => users.check(claims).await,
            None => Err(refused("passwords are not accepted here, expected a Bearer token")),
        }
    }

    fn shared(&self) -> Result<&Shared, Refusal> {
        self.shared.as_ref().ok_or_else(|| refused("tickets are not accepted here"))
    }

    /// A ticket for the stream at a canonical path, and when it runs out, in Unix seconds.
    pub async fn issue_ticket(
        &self,
        claims: &Claims,
        stream: &str,
        now: SystemTime,
    ) -> Result<(String, u64), Refusal> {
        let (shared, now) = (self.shared()?, unix_seconds(now));
        let ticket = shared.tickets.issue(claims, stream, &shared.key, now).await?;
        Ok((ticket, now + ticket::LIFETIME))
    }

    /// Takes the ticket that was shown; 401 when it was taken before.
    pub async fn burn_ticket(&self, caller: &Caller) -> Result<(), Refusal> {
        match &caller.ticket {
            Some(ticket) => self.shared()?.tickets.burn(ticket).await,
            None => Ok(()),
        }
    }

    /// Who somebody is whose name and password an edge worker shows, signed for it.
    pub async fn user_for_edge(&self, request: &Head, now: SystemTime) -> Result<Signed, Refusal> {
        let received = self.received(request, Purpose::Credentials, unix_seconds(now))?;
        let received =
            received.ok_or_else(|| refused("Tailrace-Identity is missing: this address is for the edge"))?;
        let Some(Presented { credentials: Credentials::Basic(basic), .. }) =
            Credentials::of(&request.headers, None, None)?
        else {
            return Err(refused("Basic credentials are missing"));
        };
        let claims = self.sign_in(&basic, received.statement.client).await?;
        let keys = self.edge_keys.only(&received.key_id);
        Ok(Signed::user(&basic, &claims, &keys, &self.deployment).expect("the asker's key is there"))
    }

    /// The claims of a token that came by another way than with a request; judged like one that did.
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, Refusal> {
        self.verify_token(token, unix_seconds(now)).await
    }

    /// Whether a request for definitions or settings is an edge worker's; 401 if not.
    pub fn authenticate_edge(&self, request: &Head, now: SystemTime) -> Result<EdgeCaller, Refusal> {
        match self.received(request, Purpose::Definitions, unix_seconds(now))? {
            Some(received) => Ok(EdgeCaller { keys: self.edge_keys.only(&received.key_id) }),
            None => Err(refused("Tailrace-Identity is missing: this address is for the edge")),
        }
    }

    /// Signs the definitions of a collection for the edge worker that asked.
    pub fn sign_collection(
        &self,
        edge: &EdgeCaller,
        namespace: &Namespace,
        collection: &Collection,
    ) -> Signed {
        Signed::collection(namespace, collection, &edge.keys, &self.deployment)
            .expect("the asker's key is there")
    }

    /// Signs the settings for the edge worker that asked.
    pub fn sign_settings(&self, edge: &EdgeCaller, settings: &Settings) -> Signed {
        Signed::settings(settings, &edge.keys, &self.deployment).expect("the asker's key is there")
    }

    fn received(&self, request: &Head, purpose: Purpose, now: u64) -> Result<Option<Received>, Refusal> {
        let host = request.header("host").unwrap_or_default();
        let bound = Bound::new(request.method.as_str(), host, &request.path, request.query.as_deref());
        let received =
            statement::verify(&request.headers, purpose, &bound, &self.edge_keys, &self.deployment, now)?;
        match received {
            Some(received) => {
                self.replay.accept(received.id, now)?;
                Ok(Some(received))
            }
            None => Ok(None),
        }
    }

    fn admit_anonymous(&self) -> Result<(), Refusal> {
        if self.anonymous { Ok(()) } else { Err(refused("credentials needed, expected a Bearer token")) }
    }

    async fn verify_token(&self, token: &str, now: u64) -> Result<Claims, Refusal> {
        let Some(policy) = &self.policy else {
            return Err(refused("tokens are not accepted here"));
        };
        let token = Unverified::parse(token, policy)?;
        let fetched;
        let key = match (policy.keys(), &self.key_server) {
            (KeySource::Secret(key) | KeySource::Public(key), _) => key,
            (KeySource::Jwks(_), Some(server)) => {
                fetched = server.key(token.algorithm(), token.key_id()).await?;
                &fetched
            }
            (KeySource::Jwks(_), None) => return Err(shared::jwks::Memory::unavailable()),
        };
        let check = token.against(key)?;
        let valid = signature::is_valid(&check);
        check.verdict(valid)?.claims(policy, now)
    }
}

fn refused(message: &str) -> Refusal {
    Refusal::new(Kind::Unauthenticated, message)
}

fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
