//! Users with passwords: those of the configuration, and those of a collection, whose changes act at once.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bson::{Bson, Document, doc};
use mongodb::{Client, error::Error};
use ring::hmac;
use sha2::{Digest, Sha256};
use shared::{
    close::Close,
    credentials::Basic,
    identity::{Claims, UserVersion},
    refusal::{Kind, Refusal},
};
use tokio::{sync::Semaphore, time::timeout};

use super::{attempts::Attempts, config::UserConfig, password::PasswordHash, refused};
use crate::{
    collection_path::CollectionPath,
    follow::Follower,
    mongo,
    sessions::{Session, Sessions},
};

/// For how long a password that was right is not compared again.
const REMEMBERED: Duration = Duration::from_mins(1);

/// How long a password waits for its turn to be compared.
const PATIENCE: Duration = Duration::from_secs(3);

/// The most users, and the most right passwords, that are kept in memory.
const MOST: usize = 10_000;

/// The largest user, in bytes of JSON: what is known of a user has to fit into a header from edge to backend.
const LARGEST: usize = 8 * 1024;

/// A user, by the document.
#[derive(Debug)]
struct User {
    claims: Claims,
    password: PasswordHash,
}

impl User {
    /// Reads a document as RESTHeart stores it: `_id`, `password`, `roles`, and whatever else. The error says what is wrong.
    fn of(document: &Document) -> Result<Self, String> {
        let name = document.get_str("_id").map_err(|_| "_id is no text".to_owned())?;
        let password = document.get_str("password").ok().and_then(PasswordHash::parse);
        let password = password
            .ok_or("password is no hash, expected bcrypt ($2a$, $2b$, $2y$) or argon2id".to_owned())?;
        let mut claims: serde_json::Map<_, _> = document
            .iter()
            .filter(|(member, _)| !["password", "_etag"].contains(&member.as_str()))
            .map(|(member, value)| (member.clone(), value.clone().into_relaxed_extjson()))
            .collect();
        claims.insert("sub".to_owned(), name.into());
        let roles = claims.get("roles").map(ToString::to_string).unwrap_or_default();
        let whole = serde_json::to_string(&claims).unwrap_or_default();
        if whole.len() > LARGEST {
            return Err(format!("{} bytes without the password, expected at most {LARGEST}", whole.len()));
        }
        let version = UserVersion {
            access: digest(&[password.as_str(), &roles]),
            whole: digest(&[password.as_str(), &whole]),
        };
        Ok(Self { claims: Claims::of_user(claims, version), password })
    }

    fn version(&self) -> &UserVersion {
        self.claims.version().expect("claims of a user have a version")
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..12])
}

/// Everybody who has a password.
pub(crate) struct Users {
    configured: HashMap<String, Arc<User>>,
    collection: Option<(Client, CollectionPath)>,
    kept: Mutex<Kept>,
    /// Compares passwords, so few at a time that the streams go on beside it.
    turns: Semaphore,
    attempts: Attempts,
    /// MACs of right passwords by a key of this process, until when they count.
    right: Mutex<HashMap<[u8; 32], Instant>>,
    key: hmac::Key,
    stand_in: Mutex<PasswordHash>,
    sessions: Arc<Sessions>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("configured", &self.configured.len()).finish_non_exhaustive()
    }
}

/// What is kept of the collection. Nothing is, unless its changes are followed.
#[derive(Debug, Default)]
struct Kept {
    followed: bool,
    /// Counts the changes that were seen, so that what was read before one is not kept after it.
    changes: u64,
    users: HashMap<String, Option<Arc<User>>>,
}

/// Checks the users of the configuration. The error names the place and what it takes.
pub(super) fn check(users: &[UserConfig]) -> Result<(), String> {
    configured(users).map(drop)
}

fn configured(users: &[UserConfig]) -> Result<HashMap<String, Arc<User>>, String> {
    let mut checked = HashMap::new();
    for (index, user) in users.iter().enumerate() {
        let place = format!("auth.users[{index}]");
        if user.id.is_empty() || user.id.contains(':') {
            return Err(format!("{place}.id is {:?}, expected a name without a colon", user.id));
        }
        let mut document = doc! { "_id": &user.id, "password": user.password.expose(), "roles": &user.roles };
        for (member, value) in &user.more {
            let value = Bson::try_from(value.clone()).map_err(|_| format!("{place}.{member} is no value"))?;
            document.insert(member, value);
        }
        let user_of = User::of(&document).map_err(|fault| format!("{place}: {fault}"))?;
        if checked.insert(user.id.clone(), Arc::new(user_of)).is_some() {
            return Err(format!("{place}.id is {:?}, which an earlier user has already", user.id));
        }
    }
    Ok(checked)
}

impl Users {
    /// Everybody whom the configuration names, and whom the collection holds.
    pub(super) fn new(
        users: &[UserConfig],
        collection: Option<(Client, CollectionPath)>,
        attempts: Attempts,
        sessions: Arc<Sessions>,
    ) -> Result<Arc<Self>, String> {
        let configured = configured(users)?;
        // Any user's hash costs what the others' do.
        let stand_in = configured.values().next().map(|user| user.password.clone());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            configured,
            collection,
            kept: Mutex::default(),
            turns: Semaphore::new((cores / 2).max(1)),
            attempts,
            right: Mutex::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()),
            stand_in: Mutex::new(stand_in.unwrap_or_else(PasswordHash::stand_in)),
            sessions,
        }))
    }

    /// The collection, if there is one.
    pub(crate) fn collection(&self) -> Option<&CollectionPath> {
        self.collection.as_ref().map(|(_, path)| path)
    }

    /// Who this is: 401 for a wrong password and for a user who does not exist, which takes as long; 429 after too many.
    pub(super) async fn sign_in(&self, basic: &Basic, address: Option<IpAddr>) -> Result<Claims, Refusal> {
        let user = self.find(&basic.user).await?;
        if let Some(claims) = self.remembered(user.as_deref(), basic) {
            return Ok(claims);
        }
        self.attempts.check(address, &basic.user)?;
        let turn = timeout(PATIENCE, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Refusal::new(Kind::Unavailable, "too many passwords to compare"));
        };
        // Whoever waited before us may have answered for us.
        if let Some(claims) = self.remembered(user.as_deref(), basic) {
            return Ok(claims);
        }
        self.attempts.check(address, &basic.user)?;
        let hash = match &user {
            Some(user) => user.password.clone(),
            None => self.stand_in.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let password = basic.password.clone();
        let fits = tokio::task::spawn_blocking(move || hash.fits(&password)).await.unwrap_or(false);
        if let Some(user) = user.filter(|_| fits) {
            self.attempts.succeeded(address, &basic.user);
            self.remember(&user, basic);
            return Ok(user.claims.clone());
        }
        self.attempts.failed(address, &basic.user);
        Err(refused("user or password is wrong"))
    }

    /// 401 for a user who was changed or removed since these claims were read.
    pub(super) async fn check(&self, claims: &Claims) -> Result<(), Refusal> {
        let (Some(version), Some(name)) = (claims.version(), claims.subject()) else { return Ok(()) };
        match self.find(name).await? {
            Some(user) if user.version() == version => Ok(()),
            _ => Err(refused("the user has changed, expected the password again")),
        }
    }

    fn mac(&self, user: &User, basic: &Basic) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [&basic.user, &basic.password, &user.version().whole] {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    fn right(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, user: Option<&User>, basic: &Basic) -> Option<Claims> {
        let user = user?;
        let until = self.right().get(&self.mac(user, basic)).copied()?;
        (Instant::now() < until).then(|| user.claims.clone())
    }

    fn remember(&self, user: &User, basic: &Basic) {
        let now = Instant::now();
        let mut right = self.right();
        if right.len() >= MOST {
            right.retain(|_, until| now < *until);
            if right.len() >= MOST {
                right.clear();
            }
        }
        right.insert(self.mac(user, basic), now + REMEMBERED);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user of this name; 503 when the collection cannot be asked.
    async fn find(&self, name: &str) -> Result<Option<Arc<User>>, Refusal> {
        if let Some(user) = self.configured.get(name) {
            return Ok(Some(Arc::clone(user)));
        }
        let changes = {
            let kept = self.kept();
            match kept.users.get(name) {
                Some(user) if kept.followed => return Ok(user.clone()),
                _ => kept.changes,
            }
        };
        let user = self.read(name).await.map_err(|error| mongo::refusal(&error))?;
        let mut kept = self.kept();
        if kept.followed && kept.changes == changes {
            if kept.users.len() >= MOST {
                kept.users.clear();
            }
            kept.users.insert(name.to_owned(), user.clone());
        }
        Ok(user)
    }

    async fn read(&self, name: &str) -> Result<Option<Arc<User>>, Error> {
        let Some((client, path)) = &self.collection else { return Ok(None) };
        let Some(document) = path.of(client).find_one(doc! { "_id": name }).await? else { return Ok(None) };
        match User::of(&document) {
            Ok(user) => Ok(Some(Arc::new(user))),
            Err(fault) => {
                tracing::warn!(collection = %path, fault, "a user cannot sign in");
                Ok(None)
            }
        }
    }

    /// Ends the streams of those who were changed or removed; of these users, or of all.
    async fn judge_again(&self, names: Option<&[String]>) -> Result<(), Error> {
        let open: HashSet<String> = self.sessions.users();
        for name in open {
            let concerned = names.is_none_or(|names| names.contains(&name));
            if !concerned || self.configured.contains_key(&name) {
                continue;
            }
            let user = self.read(&name).await?;
            self.sessions.close_where(|session| verdict(session, &name, user.as_deref()));
        }
        Ok(())
    }
}

/// What becomes of a stream of the user of this name, who now is as here.
fn verdict(session: &Session, name: &str, user: Option<&User>) -> Option<Close> {
    let claims = session.identity.claims().filter(|claims| claims.subject() == Some(name))?;
    let before = claims.version()?;
    match user.map(User::version) {
        Some(now) if now == before => None,
        // The rest of the document may be in the stream's variables: it comes back, and is judged anew.
        Some(now) if now.access == before.access => Some(Close::Expired),
        _ => Some(Close::NoLongerPermitted),
    }
}

impl Follower for Users {
    async fn opened(&self) -> Result<(), Error> {
        {
            let mut kept = self.kept();
            kept.followed = true;
            kept.changes += 1;
            kept.users.clear();
        }
        if let Some((client, path)) = &self.collection
            && let Some(any) = path.of(client).find_one(doc! { "password": { "$type": "string" } }).await?
            && let Ok(user) = User::of(&any)
        {
            *self.stand_in.lock().unwrap_or_else(PoisonError::into_inner) = user.password;
        }
        self.judge_again(None).await
    }

    async fn changed(&self, ids: Option<Vec<Bson>>) -> Result<(), Error> {
        let names = ids.map(|ids| ids.iter().filter_map(Bson::as_str).map(str::to_owned).collect::<Vec<_>>());
        {
            let mut kept = self.kept();
            kept.changes += 1;
            match &names {
                None => kept.users.clear(),
                Some(names) => names.iter().for_each(|name| drop(kept.users.remove(name))),
            }
        }
        self.judge_again(names.as_deref()).await
    }

    fn lost(&self) {
        let mut kept = self.kept();
        kept.followed = false;
        kept.users.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::Secret;

    fn user(id: &str, cost: u32) -> UserConfig {
        let password = Secret::new(bcrypt::hash(format!("{id}'s"), cost).expect("a hash"));
        let more = [("team".to_owned(), serde_json::json!("red"))].into();
        UserConfig { id: id.to_owned(), password, roles: vec!["user".to_owned()], more }
    }

    fn users(of: &[UserConfig], failures: u32) -> Arc<Users> {
        Users::new(of, None, Attempts::new(failures, &[]), Arc::default()).expect("users")
    }

    async fn sign_in(users: &Users, user: &str, password: &str) -> Result<Claims, String> {
        let basic = Basic { user: user.to_owned(), password: password.to_owned() };
        users.sign_in(&basic, None).await.map_err(|refusal| refusal.to_string())
    }

    #[tokio::test]
    async fn a_user_is_what_is_known_of_it_but_the_password() {
        let users = users(&[user("uji", 4)], 10);
        let claims = sign_in(&users, "uji", "uji's").await.expect("the right password");
        let expected = doc! { "_id": "uji", "roles": ["user"], "team": "red", "sub": "uji" };
        assert_eq!(claims.document(), expected);
        users.check(&claims).await.expect("nothing has changed");
    }

    #[tokio::test]
    async fn a_right_password_is_compared_once() {
        let users = users(&[user("uji", 9)], 10);
        let began = Instant::now();
        sign_in(&users, "uji", "uji's").await.expect("the right password");
        let compared = began.elapsed();
        let began = Instant::now();
        for _ in 0..100 {
            sign_in(&users, "uji", "uji's").await.expect("the right password");
        }
        assert!(began.elapsed() < compared, "{:?}, {compared:?}", began.elapsed());
        sign_in(&users, "uji", "uji'").await.expect_err("and another one is");
    }

    #[tokio::test]
    async fn an_unknown_user_and_a_wrong_password_are_told_alike_and_take_as_long() {
        let users = users(&[user("uji", 8)], 1000);
        let mut times = [Duration::MAX; 2];
        for _ in 0..3 {
            for (time, name) in times.iter_mut().zip(["uji", "nobody"]) {
                let began = Instant::now();
                let refused = sign_in(&users, name, "wrong").await.unwrap_err();
                assert_eq!(refused, "401 user or password is wrong");
                *time = began.elapsed().min(*time);
            }
        }
        let [wrong, unknown] = times;
        assert!(unknown > wrong / 3 && wrong > unknown / 3, "{wrong:?} {unknown:?}");
    }

    #[tokio::test]
    async fn after_too_many_wrong_ones_not_even_the_right_password_is_compared() {
        let users = users(&[user("uji", 4), user("other", 4)], 3);
        for _ in 0..3 {
            sign_in(&users, "uji", "wrong").await.expect_err("wrong");
        }
        let refused = sign_in(&users, "uji", "uji's").await.unwrap_err();
        assert_eq!(refused, "429 too many wrong passwords for this user from this address");
        sign_in(&users, "other", "other's").await.expect("another user");
    }

    #[test]
    fn a_wrong_user_stops_the_start_with_its_place() {
        let fault = |users: &[UserConfig]| check(users).unwrap_err();
        let plain = UserConfig { password: Secret::new("hunter2"), ..user("uji", 4) };
        assert_eq!(
            fault(&[user("a", 4), plain]),
            "auth.users[1]: password is no hash, expected bcrypt ($2a$, $2b$, $2y$) or argon2id"
        );
        assert_eq!(fault(&[user("a:b", 4)]), "auth.users[0].id is \"a:b\", expected a name without a colon");
        assert_eq!(
            fault(&[user("a", 4), user("a", 4)]),
            "auth.users[1].id is \"a\", which an earlier user has already"
        );
    }

    #[test]
    fn a_user_of_the_collection_is_read_as_restheart_stores_it() {
        let password = bcrypt::hash("p", 4).expect("a hash");
        let document = doc! {
            "_id": "uji", "password": &password, "roles": ["user"], "_etag": bson::oid::ObjectId::new(),
            "team": bson::oid::ObjectId::from_bytes([1; 12]), "sub": "root",
        };
        let first = User::of(&document).expect("a user");
        let expected = doc! {
            "_id": "uji", "roles": ["user"], "team": bson::oid::ObjectId::from_bytes([1; 12]), "sub": "uji",
        };
        assert_eq!(first.claims.document(), expected);
        let changed = |change: Document| {
            let mut document = document.clone();
            document.extend(change);
            User::of(&document).expect("a user").version().clone()
        };
        let version = first.version();
        assert_eq!(changed(doc! { "_etag": 1 }), *version);
        assert_eq!(changed(doc! { "team": "red" }).access, version.access);
        assert_ne!(changed(doc! { "team": "red" }).whole, version.whole);
        assert_ne!(changed(doc! { "roles": ["admin"] }).access, version.access);
        assert_ne!(
            changed(doc! { "password": bcrypt::hash("q", 4).expect("a hash") }).access,
            version.access
        );
        for broken in [
            doc! { "_id": "uji" },
            doc! { "_id": 1, "password": &password },
            doc! { "_id": "uji", "password": &password, "x": "y".repeat(9_000) },
        ] {
            assert!(User::of(&broken).is_err(), "{broken}");
        }
    }
}
