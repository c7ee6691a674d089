//! What the backend tells the edge: the settings of the deployment (`GET /_edge`) and the stream definitions of one
//! collection (`GET /_edge/<db>/<coll>`), each with a MAC, and when what is cached of them may decide.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bson::{Bson, Document, doc};
use http::HeaderName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    address::Mount,
    address_block::AddressBlock,
    credentials::{Basic, TokenParameter},
    edge_key::EdgeKeys,
    identity::{Claims, UserVersion},
    limit::RequestLimits,
    name::Namespace,
    origin::Origins,
    permission,
};

/// The header of the answer that carries its MAC, as `<key id>.<base64url>`.
pub const MAC_HEADER: HeaderName = HeaderName::from_static("tailrace-mac");

/// How old data may be at most that refuses a request, in milliseconds. Older data may only let pass.
pub const REFUSES_UP_TO: u64 = 1_000;

/// How old data may be that lets pass, in milliseconds: the backend judges again, so this bounds only needless trips.
pub const PASSES_UP_TO: u64 = 60_000;

/// The settings of the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The mounts, as configured.
    pub mounts: Vec<Mount>,
    /// The origins whose pages may call.
    pub origins: Origins,
    /// Whether operators in `avars` are refused.
    pub check_operators: bool,
    /// Who may do what.
    pub access: permission::Written,
    /// The limits of what a request says.
    #[serde(default)]
    pub limits: RequestLimits,
    /// Whether names with passwords are accepted.
    #[serde(default)]
    pub basic: bool,
    /// The query parameter that carries a token, if there is one.
    #[serde(default)]
    pub token_parameter: Option<TokenParameter>,
}

/// The definitions of one collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// The property `streams` as stored; `None` when the collection does not exist or has none.
    pub streams: Option<Bson>,
}

/// What an answer is about. It is part of what the MAC covers, so that no answer can stand in for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The settings.
    Settings,
    /// A collection.
    Collection(Namespace),
    /// The user of this name and password.
    User(Basic),
}

impl Subject {
    /// The path at which the backend answers.
    pub fn path(&self) -> String {
        match self {
            Self::Settings => "/_edge".to_owned(),
            Self::Collection(Namespace { database, collection }) => {
                let segment = |name: &str| percent_encoding::utf8_percent_encode(name, SEGMENT).to_string();
                format!("/_edge/{}/{}", segment(database.as_str()), segment(collection.as_str()))
            }
            Self::User(_) => "/_edge/_user".to_owned(),
        }
    }

    fn message(&self, deployment: &str, body: &str) -> Vec<u8> {
        // No part but the last can hold a line feed: paths are percent-encoded, and a deployment's name is checked.
        let asked = match self {
            Self::Settings | Self::Collection(_) => String::new(),
            Self::User(basic) => format!("\n{}", basic.encoded()),
        };
        format!("tailrace definitions\n{deployment}\n{}{asked}\n{body}", self.path()).into_bytes()
    }
}

/// All but the unreserved characters (RFC 3986, section 2.3), which survive every hop as they are.
const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An answer of the backend's as it travels and is cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The JSON body.
    pub body: String,
    /// The value of [`MAC_HEADER`].
    pub mac: String,
}

impl Signed {
    /// Signs what the backend says. `None` when there is no key.
    fn new(subject: &Subject, body: String, keys: &EdgeKeys, deployment: &str) -> Option<Self> {
        let (key_id, tag) = keys.mac(&subject.message(deployment, &body))?;
        let mac = format!("{key_id}.{}", URL_SAFE_NO_PAD.encode(tag));
        Some(Self { body, mac })
    }

    /// Signs the settings. `None` when there is no key.
    pub fn settings(settings: &Settings, keys: &EdgeKeys, deployment: &str) -> Option<Self> {
        let body = serde_json::to_string(settings).expect("strings and booleans are JSON");
        Self::new(&Subject::Settings, body, keys, deployment)
    }

    /// Signs the definitions of a collection. `None` when there is no key.
    pub fn collection(
        namespace: &Namespace,
        of: &Collection,
        keys: &EdgeKeys,
        deployment: &str,
    ) -> Option<Self> {
        // BSON, since Extended JSON does not bring back a document that only looks like one of its wrappers.
        let streams = of.streams.clone().and_then(|streams| doc! { "streams": streams }.to_vec().ok());
        let body = json!({ "streams": streams.map(|bytes| STANDARD.encode(bytes)) }).to_string();
        Self::new(&Subject::Collection(namespace.clone()), body, keys, deployment)
    }

    /// Signs who somebody with the right password is. `None` when there is no key.
    pub fn user(asked: &Basic, claims: &Claims, keys: &EdgeKeys, deployment: &str) -> Option<Self> {
        let body = json!({ "claims": claims.as_object(), "version": claims.version() }).to_string();
        Self::new(&Subject::User(asked.clone()), body, keys, deployment)
    }

    /// Who somebody is, if the MAC is right.
    pub fn read_user(&self, asked: &Basic, keys: &EdgeKeys, deployment: &str) -> Result<Claims, String> {
        #[derive(Deserialize)]
        struct Body {
            claims: Map<String, Value>,
            version: UserVersion,
        }
        let body = self.checked(&Subject::User(asked.clone()), keys, deployment)?;
        let body: Body = serde_json::from_str(body).map_err(|fault| format!("/_edge/_user: {fault}"))?;
        Ok(Claims::of_user(body.claims, body.version))
    }

    /// A version of the body, as an `ETag`.
    pub fn etag(&self) -> String {
        format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(self.body.as_bytes())[..12]))
    }

    fn checked(&self, subject: &Subject, keys: &EdgeKeys, deployment: &str) -> Result<&str, String> {
        let valid = self.mac.rsplit_once('.').is_some_and(|(key_id, tag)| {
            let message = subject.message(deployment, &self.body);
            URL_SAFE_NO_PAD.decode(tag).is_ok_and(|tag| keys.verifies(key_id, &message, &tag))
        });
        if valid { Ok(&self.body) } else { Err(format!("the MAC of {} is not valid", subject.path())) }
    }

    /// The settings, if the MAC is right.
    pub fn read_settings(&self, keys: &EdgeKeys, deployment: &str) -> Result<Settings, String> {
        let body = self.checked(&Subject::Settings, keys, deployment)?;
        serde_json::from_str(body).map_err(|fault| format!("/_edge: {fault}"))
    }

    /// The definitions of a collection, if the MAC is right.
    pub fn read_collection(
        &self,
        namespace: &Namespace,
        keys: &EdgeKeys,
        deployment: &str,
    ) -> Result<Collection, String> {
        let subject = Subject::Collection(namespace.clone());
        let fault = |fault: &dyn std::fmt::Display| format!("{}: {fault}", subject.path());
        let body: Value =
            serde_json::from_str(self.checked(&subject, keys, deployment)?).map_err(|e| fault(&e))?;
        let streams = match body.get("streams") {
            None | Some(Value::Null) => None,
            Some(streams) => {
                let bytes = STANDARD.decode(streams.as_str().unwrap_or_default()).map_err(|e| fault(&e))?;
                let mut document = Document::from_reader(bytes.as_slice()).map_err(|e| fault(&e))?;
                document.remove("streams")
            }
        };
        Ok(Collection { streams })
    }
}

/// Data with the moment of its fetch, in milliseconds of any clock that does not run backwards.
#[derive(Clone, Debug)]
pub struct Cached<T> {
    data: T,
    fetched: u64,
}

impl<T> Cached<T> {
    /// Data whose fetch *began* at `fetched`: what was written before that moment is in it.
    pub fn new(data: T, fetched: u64) -> Self {
        Self { data, fetched }
    }

    /// Data from a store whose clock is not ours: it may let pass at most.
    pub fn from_store(data: T, now: u64) -> Self {
        Self { data, fetched: now.saturating_sub(REFUSES_UP_TO + 1) }
    }

    /// The data.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Whether it may let a request pass.
    pub fn may_pass(&self, now: u64) -> bool {
        now.saturating_sub(self.fetched) <= PASSES_UP_TO
    }

    /// Whether it may let a request pass while it is being fetched again.
    pub fn may_pass_meanwhile(&self, now: u64) -> bool {
        now.saturating_sub(self.fetched) <= 2 * PASSES_UP_TO
    }

    /// Whether it may refuse a request that arrived at `arrived`; if not, it is to be fetched again first.
    ///
    /// Data that was fetched since the request arrived may. That of the last second may only while the budget for
    /// fetching is spent, which `spent` tells: what was created within that second would be refused.
    pub fn may_refuse(&self, arrived: u64, now: u64, spent: impl FnOnce() -> bool) -> bool {
        self.fetched >= arrived || (now.saturating_sub(self.fetched) <= REFUSES_UP_TO && spent())
    }
}

/// How often data may be fetched in a second, so that a flood of requests that are all refused is no flood for the backend.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    per_second: u32,
    second: u64,
    spent: u32,
}

impl Budget {
    /// For the data of one subject, for the sake of refusals.
    pub const fn of_refusals() -> Self {
        Self::new(20)
    }

    const fn new(per_second: u32) -> Self {
        Self { per_second, second: 0, spent: 0 }
    }

    /// Takes a fetch; whether there was one. `now` is in milliseconds.
    pub fn spend(&mut self, now: u64) -> bool {
        let second = now / 1_000;
        if self.second != second {
            *self = Self { second, ..Self::new(self.per_second) };
        }
        self.spent = self.spent.saturating_add(1);
        self.spent <= self.per_second
    }

    /// Whether there is none left in this second.
    pub fn is_spent(&self, now: u64) -> bool {
        self.second == now / 1_000 && self.spent >= self.per_second
    }
}

/// How many fetches there may be a second for all collections together that are not known to declare a stream: whoever invents
/// names has as many as he likes. He does not use up what others have, unless he has many addresses too.
#[derive(Clone, Debug)]
pub struct UnknownBudget {
    all: Budget,
    of_address: BTreeMap<Option<AddressBlock>, Budget>,
}

/// Who has asked for too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spender {
    /// One address, or all whose address is not known.
    Address,
    /// All together.
    All,
}

impl UnknownBudget {
    const ALL: u32 = 200;
    /// A page may well follow dozens of collections.
    const OF_ADDRESS: u32 = 50;

    /// None of it is spent.
    pub const fn new() -> Self {
        Self { all: Budget::new(Self::ALL), of_address: BTreeMap::new() }
    }

    /// Takes a fetch for a client at this address. `now` is in milliseconds.
    pub fn spend(&mut self, now: u64, address: Option<AddressBlock>) -> Result<(), Spender> {
        if let Some(spender) = self.is_spent(now, address) {
            return Err(spender);
        }
        // No more of them than there may be fetches.
        self.of_address.retain(|_, budget| budget.second == now / 1_000);
        let of_address = self.of_address.entry(address).or_insert(const { Budget::new(Self::OF_ADDRESS) });
        of_address.spend(now);
        self.all.spend(now);
        Ok(())
    }

    /// Who has left none for a client at this address in this second.
    pub fn is_spent(&self, now: u64, address: Option<AddressBlock>) -> Option<Spender> {
        if self.of_address.get(&address).is_some_and(|budget| budget.is_spent(now)) {
            Some(Spender::Address)
        } else {
            self.all.is_spent(now).then_some(Spender::All)
        }
    }
}

impl Default for UnknownBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use bson::{bson, oid::ObjectId};

    use super::*;

    fn keys() -> EdgeKeys {
        EdgeKeys::new([("k1", "the key that edge and backend share")]).unwrap()
    }

    fn namespace(collection: &str) -> Namespace {
        serde_json::from_value(serde_json::json!({"database":"app","collection":collection})).unwrap()
    }

    fn collection() -> Collection {
        let streams = bson!([{"uri":"mine","stages":[{"_$match":{"fullDocument::owner":ObjectId::from_bytes([1; 12]),"n":5_i64,"d":1.0,"r":{"$regex":"^a","$options":"i"},"x":{"$date":"no date"}}}]}]);
        Collection { streams: Some(streams) }
    }

    #[test]
    fn definitions_arrive_as_stored_with_their_types() {
        for sent in [collection(), Collection { streams: None }] {
            let signed = Signed::collection(&namespace("messages"), &sent, &keys(), "chat").unwrap();
            assert_eq!(signed.read_collection(&namespace("messages"), &keys(), "chat"), Ok(sent));
        }
    }

    #[test]
    fn settings_arrive() {
        let access = permission::Access {
            mode: permission::Mode::Holders,
            roles: permission::RolesClaim::default(),
            protected: vec![namespace("users")],
        };
        let sent = Settings {
            mounts: vec![Mount { what: "/app".into(), at: "/".into() }],
            origins: Origins::new(["https://app.example"]).unwrap(),
            check_operators: true,
            access: permission::Written::from(&access),
            limits: RequestLimits::default(),
            basic: true,
            token_parameter: TokenParameter::try_from("securetoken".to_owned()).ok(),
        };
        let signed = Signed::settings(&sent, &keys(), "chat").unwrap();
        assert_eq!(signed.read_settings(&keys(), "chat"), Ok(sent));
    }

    #[test]
    fn who_a_user_is_arrives_for_the_password_that_was_asked_about() {
        let Value::Object(claims) = serde_json::json!({"sub":"uji","roles":["user"]}) else { unreachable!() };
        let version = UserVersion { access: "a".into(), whole: "w".into() };
        let sent = Claims::of_user(claims, version);
        let asked = Basic { user: "uji".into(), password: "p".into() };
        let signed = Signed::user(&asked, &sent, &keys(), "chat").unwrap();
        assert_eq!(signed.read_user(&asked, &keys(), "chat"), Ok(sent));
        let other = Basic { password: "q".into(), ..asked };
        let fault = "the MAC of /_edge/_user is not valid".to_owned();
        assert_eq!(signed.read_user(&other, &keys(), "chat"), Err(fault));
    }

    #[test]
    fn an_answer_stands_for_its_address_its_body_and_its_deployment_only() {
        let signed = Signed::collection(&namespace("messages"), &collection(), &keys(), "chat").unwrap();
        let fault = Err("the MAC of /_edge/app/other is not valid".to_owned());
        assert_eq!(signed.read_collection(&namespace("other"), &keys(), "chat"), fault);
        let fault = Err("the MAC of /_edge/app/messages is not valid".to_owned());
        assert_eq!(signed.read_collection(&namespace("messages"), &keys(), "other"), fault);
        let changed = Signed { body: signed.body.replace("streams", "stream"), ..signed.clone() };
        assert_eq!(changed.read_collection(&namespace("messages"), &keys(), "chat"), fault);
        assert_ne!(changed.etag(), signed.etag());
    }

    #[test]
    fn data_from_before_a_request_does_not_refuse_it_but_lets_it_pass() {
        let left = || false;
        let cached = Cached::new((), 5_000);
        assert!(cached.may_refuse(5_000, 5_100, left));
        assert!(!cached.may_refuse(5_001, 5_100, left), "it may have been created in between");
        assert!(cached.may_pass(65_000));
        assert!(!cached.may_pass(65_001));
        assert!(cached.may_pass_meanwhile(125_000), "another fetches it");
        assert!(!cached.may_pass_meanwhile(125_001));
        let stored = Cached::from_store((), 9_000);
        assert!(stored.may_pass(9_000) && !stored.may_refuse(9_000, 9_000, left));
    }

    #[test]
    fn a_flood_of_refusals_is_no_flood_of_fetches_and_even_then_only_the_last_second_refuses() {
        let mut budget = Budget::of_refusals();
        let cached = Cached::new((), 5_000);
        let fetches =
            (0..1_000).filter(|_| !cached.may_refuse(5_500, 5_500, || !budget.spend(5_500))).count();
        assert_eq!(fetches, 20);
        assert!(!cached.may_refuse(6_001, 6_001, || !budget.spend(6_001)));
    }

    #[test]
    fn a_budget_that_is_spent_says_so_until_the_second_is_over() {
        let mut budget = Budget::of_refusals();
        assert!(!budget.is_spent(5_999));
        assert_eq!((0..1_000).filter(|_| budget.spend(5_999)).count(), 20);
        assert!(budget.is_spent(5_999) && !budget.is_spent(6_000));
        assert!(budget.spend(6_000));
    }

    #[test]
    fn who_invents_names_has_fifty_a_second_and_all_have_two_hundred() {
        let address = |last: u8| Some(AddressBlock::of(std::net::Ipv4Addr::new(192, 0, 2, last).into()));
        let mut budget = UnknownBudget::new();
        let mut spends = |now, address| (0..1_000).filter(|_| budget.spend(now, address).is_ok()).count();
        assert_eq!([1, 2, 3].map(|last| spends(5_000, address(last))), [50; 3]);
        assert_eq!(spends(5_500, address(1)), 0);
        assert_eq!(spends(5_500, None), 50, "those without an address are one");
        assert_eq!(spends(5_999, address(5)), 0);
        assert_eq!(budget.spend(5_999, address(1)), Err(Spender::Address));
        assert_eq!(budget.spend(5_999, address(5)), Err(Spender::All));
        assert_eq!(budget.is_spent(6_000, address(1)), None);
        assert_eq!(budget.spend(6_000, address(1)), Ok(()));
        assert_eq!(budget.of_address.len(), 1, "nobody is remembered longer than counts");
    }

    #[test]
    fn names_are_escaped_in_the_path() {
        assert_eq!(Subject::Collection(namespace("a b.ü?")).path(), "/_edge/app/a%20b.%C3%BC%3F");
    }
}
