//! Who calls.

use shared::{
    credentials::Credentials,
    identity::Identity,
    refusal::{Kind, Refusal},
    request::Head,
    token::{KeySource, Policy, Unverified},
};
use worker::console_warn;

use crate::{key_server, runtime, settings::Settings, webcrypto};

/// Who sent the request: 401 for bad credentials, or for none where some are needed. `anonymous`: nobody needs some here,
/// or the rules say what those may do who bring none.
pub(crate) async fn of(head: &Head, settings: &Settings, anonymous: bool) -> Result<Identity, Refusal> {
    let refused = |message: &str| Refusal::new(Kind::Unauthenticated, message);
    match (Credentials::of(&head.headers, head.query.as_deref())?, &settings.tokens) {
        (None, _) if anonymous => Ok(Identity::Anonymous),
        (None, _) => Err(refused("credentials needed, expected a Bearer token")),
        (Some(_), None) => Err(refused("tokens are not accepted here")),
        (Some(credentials), Some(policy)) => verified(credentials.token(), policy).await,
    }
}

async fn verified(token: &str, policy: &Policy) -> Result<Identity, Refusal> {
    let token = Unverified::parse(token, policy)?;
    let fetched;
    let key = match policy.keys() {
        KeySource::Secret(key) => key,
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
    Ok(Identity::Verified(check.verdict(valid)?.claims(policy, runtime::now() / 1_000)?))
}
