//! Who calls: a token of the caller's own, or what the edge says in a signed statement.

mod config;
mod key_server;
mod replay;
mod signature;

use std::{
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use shared::{
    credentials::Credentials,
    edge_definitions::{Collection, Settings, Signed},
    identity::{self, Bound, Claims, EdgeKeys, Identity, Purpose, Received},
    name::Namespace,
    origin::Verdict,
    refusal::{Kind, Refusal},
    request::Head,
    token::{KeySource, Policy, Unverified},
};

pub use self::config::{AuthConfig, EdgeConfig, Secret};
use self::{key_server::KeyServer, replay::Replay};

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
}

impl Authenticator {
    /// Checks the configuration. The error names the key and what it takes. `admits_anonymous`: somebody who brings no
    /// credentials is not refused here.
    pub fn new(auth: &AuthConfig, edge: &EdgeConfig, admits_anonymous: bool) -> Result<Self, String> {
        let policy = auth.jwt.policy()?;
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
            replay: Replay::default(),
        })
    }

    /// Who sent the request: 401 for bad credentials, or for none where some are needed; 503 when the keys to judge by
    /// cannot be fetched.
    pub async fn authenticate(&self, request: &Head, now: SystemTime) -> Result<Caller, Refusal> {
        let now = unix_seconds(now);
        if let Some(received) = self.received(request, Purpose::Request, now)? {
            let statement = received.statement;
            if statement.identity == Identity::Anonymous {
                // The edge's setting does not open what the backend's keeps closed.
                self.admit_anonymous()?;
            }
            return Ok(Caller {
                expires_at: statement.identity.claims().map(Claims::session_end),
                identity: statement.identity,
                client_address: statement.client.or(request.peer),
                from_edge: true,
                origin: Some(statement.origin),
            });
        }
        if self.edge_required {
            return Err(refused("Tailrace-Identity is missing: this backend is reached through the edge"));
        }
        let identity = match Credentials::of(&request.headers, request.query.as_deref())? {
            None => {
                self.admit_anonymous()?;
                Identity::Anonymous
            }
            Some(credentials) => Identity::Verified(self.verify_token(credentials.token(), now).await?),
        };
        Ok(Caller {
            expires_at: identity.claims().map(Claims::session_end),
            identity,
            client_address: request.peer,
            from_edge: false,
            origin: None,
        })
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
            identity::verify(&request.headers, purpose, &bound, &self.edge_keys, &self.deployment, now)?;
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
            (KeySource::Secret(key), _) => key,
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
