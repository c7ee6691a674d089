//! Who calls.

use http::header::AUTHORIZATION;
use shared::{
    credentials::{Credentials, Presented},
    identity::{Claims, Identity},
    permission::Mode,
    refusal::{Kind, Refusal},
    request::Head,
    ticket::{self, TicketId},
    token::{KeySource, Policy, Unverified},
};
use worker::console_warn;

use crate::{
    key_server,
    knowledge::{Deployment, Knowledge},
    runtime,
    settings::Settings,
    users, webcrypto,
};

/// Who sent a request, and by what that is known.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// What was presented, if anything.
    pub(crate) presented: Option<Presented>,
    /// The ticket that was shown, for the backend to burn.
    pub(crate) ticket: Option<TicketId>,
    /// Whether the password was compared for an earlier request, and the user may have changed since.
    pub(crate) remembered: bool,
}

impl Caller {
    /// Whether the credentials are such as browsers send on their own.
    pub(crate) fn is_ambient(&self) -> bool {
        self.presented.as_ref().is_some_and(|presented| presented.ambient)
    }
}

/// What the settings of the deployment say of a request's credentials.
#[derive(PartialEq)]
struct Shown {
    presented: Option<Presented>,
    /// Whether nobody needs some here, or the rules say what those may do who bring none.
    anonymous: bool,
    /// The canonical path, by which a ticket is judged; empty where the address is none.
    path: String,
}

impl Shown {
    fn of(head: &Head, knowledge: &Knowledge<'_>, deployment: &Deployment) -> Result<Self, Refusal> {
        let query = head.query.as_deref();
        let path = deployment.mounts.resolve(&head.path).map(|address| address.canonical);
        Ok(Self {
            presented: Credentials::of(&head.headers, query, deployment.token_parameter.as_ref())?,
            anonymous: knowledge.settings.anonymous || matches!(deployment.access.mode, Mode::Rules(_)),
            path: path.unwrap_or_default(),
        })
    }
}

/// Whether a 401 may be due to the settings of the deployment. What stands in `Authorization` counts whatever they are.
pub(crate) fn depends_on_settings(head: &Head) -> bool {
    !head.headers.contains_key(AUTHORIZATION)
}

/// Whether the two settings see other credentials in a request, or judge them otherwise.
pub(crate) fn differs(head: &Head, knowledge: &Knowledge<'_>, one: &Deployment, other: &Deployment) -> bool {
    Shown::of(head, knowledge, one) != Shown::of(head, knowledge, other)
}

/// Who sent the request: 401 for bad credentials, or for none where some are needed.
pub(crate) async fn of(
    head: &Head,
    knowledge: &Knowledge<'_>,
    deployment: &Deployment,
) -> Result<Caller, Refusal> {
    let Shown { presented, anonymous, path } = Shown::of(head, knowledge, deployment)?;
    let (mut ticket, mut remembered) = (None, false);
    let identity = match presented.as_ref().map(|presented| &presented.credentials) {
        None if anonymous => Identity::Anonymous,
        None => return Err(refused("credentials needed, expected a Bearer token")),
        Some(Credentials::Token(token)) => match &knowledge.settings.tokens {
            None => return Err(refused("tokens are not accepted here")),
            Some(policy) => Identity::Verified(verified(token, policy).await?),
        },
        Some(Credentials::Basic(basic)) => {
            if !deployment.basic && !knowledge.deciding_deployment().await?.basic {
                return Err(refused("passwords are not accepted here, expected a Bearer token"));
            }
            let user = users::user(basic, head.peer, knowledge).await?;
            remembered = user.remembered;
            Identity::Verified(user.claims)
        }
        Some(Credentials::Ticket(shown)) => {
            let settings = knowledge.settings;
            let now = runtime::now() / 1_000;
            let (claims, id) = ticket::verify(shown, &path, &settings.keys, &settings.deployment, now)?;
            ticket = Some(id);
            Identity::Verified(claims)
        }
    };
    Ok(Caller { identity, presented, ticket, remembered })
}

/// Judges what needs no backend: 401 for a bad token, while the backend does not answer.
pub(crate) async fn check_token(head: &Head, settings: &Settings) -> Result<(), Refusal> {
    let presented = Credentials::of(&head.headers, head.query.as_deref(), None)?;
    match (presented.map(|presented| presented.credentials), &settings.tokens) {
        (Some(Credentials::Token(token)), Some(policy)) => verified(&token, policy).await.map(drop),
        (Some(Credentials::Token(_)), None) => Err(refused("tokens are not accepted here")),
        _ => Ok(()),
    }
}

fn refused(message: &str) -> Refusal {
    Refusal::new(Kind::Unauthenticated, message)
}

async fn verified(token: &str, policy: &Policy) -> Result<Claims, Refusal> {
    let token = Unverified::parse(token, policy)?;
    let fetched;
    let key = match policy.keys() {
        KeySource::Secret(key) | KeySource::Public(key) => key,
        KeySource::Jwks(address) => {
            fetched = key_server::key(address, token.algorithm(), token.key_id()).await?;
            &fetched
        }
    };
    let check = token.against(key)?;
    let valid = webcrypto::is_valid(&check).await.unwrap_or_else(|error| {
        console_warn!("a key is not taken by WebCrypto: {}", runtime::text_of(&error));
        false
    });
    check.verdict(valid)?.claims(policy, runtime::now() / 1_000)
}
