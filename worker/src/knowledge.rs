//! What the edge knows of the deployment: mounts and origins, and the stream definitions of collections.
//!
//! It comes from the backend and is kept in this isolate and in a named cache. What is kept may only let pass; before it
//! refuses it is fetched again (`shared::edge_definitions::Cached`).

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use futures_util::future::Either;
use http::Method;
use shared::{
    address::Mounts,
    address_block::AddressBlock,
    credentials::TokenParameter,
    definition::Definitions,
    edge_definitions::{
        self, Budget, Cached, MAC_HEADER, PASSES_UP_TO, Signed, Spender, Subject, UnknownBudget,
    },
    limit::RequestLimits,
    name::Namespace,
    origin::Origins,
    permission::Access,
    refusal::{Kind, Refusal},
    statement::{Purpose, Statement},
    variables::OperatorCheck,
};
use worker::{Cache, Context, console_error, console_warn};

use crate::{
    answer, runtime,
    settings::Settings,
    turn::Turn,
    upstream::{self, Outgoing},
};

/// The most collections that an isolate keeps: more names than that come from someone who invents them.
const MOST: usize = 1_000;

/// The largest answer that is read, in bytes: a document of MongoDB's, in base64.
const LIMIT: usize = 24 * 1024 * 1024;

/// The settings of the deployment, checked.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) mounts: Mounts,
    pub(crate) origins: Origins,
    pub(crate) operators: OperatorCheck,
    pub(crate) access: Access,
    pub(crate) limits: RequestLimits,
    /// Whether names with passwords are accepted.
    pub(crate) basic: bool,
    /// The query parameter that carries a token, if there is one.
    pub(crate) token_parameter: Option<TokenParameter>,
}

/// The definitions of a collection; `None` where it has none.
pub(crate) type Declared = Option<Definitions>;

/// One subject's data with its budget for fetches.
struct Entry<T> {
    cached: Cached<Rc<T>>,
    version: Version,
    budget: Budget,
    /// Since when somebody fetches it again, because it is too old to let pass.
    renewed_since: Option<u64>,
}

/// Which answer of the backend data was read from.
#[derive(Clone)]
struct Version {
    etag: String,
    mac: String,
}

/// What a fetch brought.
struct Fetched<T> {
    data: Rc<T>,
    version: Version,
    /// When it began.
    began: u64,
}

/// How long others use what is kept while one fetches: he may have gone away in the middle of it.
const RENEWED_WITHIN: u64 = 8_000;

impl<T> Entry<T> {
    fn known(&self) -> (Version, Rc<T>) {
        (self.version.clone(), self.cached.data().clone())
    }

    /// What may let pass. When it becomes too old the first who asks gets nothing, and fetches it; the others need not wait.
    fn may_pass(&mut self) -> Option<Rc<T>> {
        let now = runtime::now();
        if !self.cached.may_pass(now) {
            let is_renewed = self.renewed_since.is_some_and(|since| now < since + RENEWED_WITHIN);
            if !is_renewed || !self.cached.may_pass_meanwhile(now) {
                self.renewed_since = Some(now);
                return None;
            }
        }
        Some(self.cached.data().clone())
    }
}

impl Version {
    fn of(signed: &Signed) -> Self {
        Self { etag: signed.etag(), mac: signed.mac.clone() }
    }
}

thread_local! {
    static DEPLOYMENT: RefCell<Option<Entry<Deployment>>> = const { RefCell::new(None) };
    static COLLECTIONS: RefCell<HashMap<Namespace, Entry<Declared>>> = RefCell::default();
    // For all collections together that are not known to declare a stream.
    static UNKNOWN: RefCell<UnknownBudget> = const { RefCell::new(UnknownBudget::new()) };
}

/// How the edge asks: for one request, which arrived at a moment of its own.
pub(crate) struct Knowledge<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) context: &'a Context,
    /// When the request arrived, in milliseconds.
    pub(crate) arrived: u64,
    /// Where it came from, where that is known.
    pub(crate) address: Option<AddressBlock>,
}

impl Knowledge<'_> {
    /// The settings, possibly kept ones: they may let pass.
    pub(crate) async fn deployment(&self) -> Result<Rc<Deployment>, Refusal> {
        let kept = || DEPLOYMENT.with_borrow_mut(|entry| entry.as_mut()?.may_pass());
        let _turn = match kept_or_turn(&Subject::Settings, kept).await {
            Either::Left(kept) => return Ok(kept),
            Either::Right(turn) => turn,
        };
        if let Some(signed) = self.cache_get(&Subject::Settings).await
            && let Ok(deployment) = self.read_deployment(&signed)
        {
            let deployment = Rc::new(deployment);
            let cached = Cached::from_store(deployment.clone(), runtime::now());
            keep_deployment(cached, Version::of(&signed));
            return Ok(deployment);
        }
        self.fresh_deployment().await
    }

    /// The origins, where they are known without asking anybody: for the headers of a refusal.
    pub(crate) fn remembered_origins(&self) -> Option<Origins> {
        let kept = || DEPLOYMENT.with_borrow(|entry| Some(entry.as_ref()?.cached.data().origins.clone()));
        self.settings.origins.clone().or_else(kept)
    }

    /// The settings, as they may refuse this request.
    pub(crate) async fn deciding_deployment(&self) -> Result<Rc<Deployment>, Refusal> {
        let deciding = DEPLOYMENT.with_borrow_mut(|entry| {
            let Entry { cached, budget, .. } = entry.as_mut()?;
            let now = runtime::now();
            cached.may_refuse(self.arrived, now, || !budget.spend(now)).then(|| cached.data().clone())
        });
        match deciding {
            Some(deciding) => Ok(deciding),
            None => self.fresh_deployment().await,
        }
    }

    async fn fresh_deployment(&self) -> Result<Rc<Deployment>, Refusal> {
        let known = DEPLOYMENT.with_borrow(|entry| entry.as_ref().map(Entry::known));
        let fetched =
            self.fetch(&Subject::Settings, "", known, |signed| self.read_deployment(signed)).await?;
        let deployment = fetched.data;
        keep_deployment(Cached::new(deployment.clone(), fetched.began), fetched.version);
        Ok(deployment)
    }

    /// The definitions of a collection, possibly kept ones: they may let pass.
    pub(crate) async fn declared(&self, namespace: &Namespace) -> Result<Rc<Declared>, Refusal> {
        let subject = Subject::Collection(namespace.clone());
        let kept = || COLLECTIONS.with_borrow_mut(|collections| collections.get_mut(namespace)?.may_pass());
        let _turn = match kept_or_turn(&subject, kept).await {
            Either::Left(kept) => return Ok(kept),
            Either::Right(turn) => turn,
        };
        if let Some(signed) = self.cache_get(&subject).await
            && let Ok(declared) = self.read_declared(namespace, &signed)
        {
            let declared = Rc::new(declared);
            let cached = Cached::from_store(declared.clone(), runtime::now());
            keep_declared(namespace, cached, Version::of(&signed));
            return Ok(declared);
        }
        self.fresh_declared(namespace).await
    }

    /// The definitions of a collection, as they may refuse this request.
    pub(crate) async fn deciding_declared(&self, namespace: &Namespace) -> Result<Rc<Declared>, Refusal> {
        let deciding = COLLECTIONS.with_borrow_mut(|collections| {
            let Entry { cached, budget, .. } = collections.get_mut(namespace)?;
            let now = runtime::now();
            let spent = || match cached.data().as_ref() {
                Some(_) => !budget.spend(now),
                None => UNKNOWN.with_borrow(|budget| budget.is_spent(now, self.address).is_some()),
            };
            cached.may_refuse(self.arrived, now, spent).then(|| cached.data().clone())
        });
        match deciding {
            Some(deciding) => Ok(deciding),
            None => self.fresh_declared(namespace).await,
        }
    }

    async fn fresh_declared(&self, namespace: &Namespace) -> Result<Rc<Declared>, Refusal> {
        let known = COLLECTIONS.with_borrow(|collections| collections.get(namespace).map(Entry::known));
        let exists = known.as_ref().is_some_and(|(_, declared)| declared.is_some());
        if !exists {
            let spent = UNKNOWN.with_borrow_mut(|budget| budget.spend(runtime::now(), self.address));
            spent.map_err(too_many_collections)?;
        }
        let subject = Subject::Collection(namespace.clone());
        let read = |signed: &Signed| self.read_declared(namespace, signed);
        let fetched = self.fetch(&subject, &namespace.to_string(), known, read).await?;
        let declared = fetched.data;
        keep_declared(namespace, Cached::new(declared.clone(), fetched.began), fetched.version);
        Ok(declared)
    }

    fn read_deployment(&self, signed: &Signed) -> Result<Deployment, String> {
        let edge_definitions::Settings {
            mounts,
            origins,
            check_operators,
            access,
            limits,
            basic,
            token_parameter,
        } = signed.read_settings(&self.settings.keys, &self.settings.deployment)?;
        Ok(Deployment {
            mounts: Mounts::new(&mounts)?,
            origins: self.settings.origins.clone().unwrap_or(origins),
            limits,
            operators: if check_operators { OperatorCheck::On } else { OperatorCheck::Off },
            access: access.read()?,
            basic,
            token_parameter,
        })
    }

    fn read_declared(&self, namespace: &Namespace, signed: &Signed) -> Result<Declared, String> {
        let collection = signed.read_collection(namespace, &self.settings.keys, &self.settings.deployment)?;
        Ok(collection.streams.map(|streams| Definitions::stored(Some(&streams))))
    }

    /// Asks the backend whether what is `known` has changed, if anything is, and reads the answer.
    async fn fetch<T>(
        &self,
        subject: &Subject,
        key: &str,
        mut known: Option<(Version, Rc<T>)>,
        read: impl Fn(&Signed) -> Result<T, String>,
    ) -> Result<Fetched<T>, Refusal> {
        let began = runtime::now();
        loop {
            let version = known.as_ref().map(|(version, _)| version);
            let answer = self.ask(subject, key, version).await?;
            let mac = answer.headers().get(MAC_HEADER.as_str()).ok().flatten().unwrap_or_default();
            match (answer.status(), known.take()) {
                (304, Some((version, data))) => {
                    // It was checked by this very MAC. By another key it is asked for whole.
                    if version.mac == mac {
                        return Ok(Fetched { data, version, began });
                    }
                }
                (200, _) => {
                    let body = runtime::body(&answer, LIMIT, Duration::from_secs(8)).await;
                    let body = body.map_err(|fault| {
                        console_warn!("{}: {fault}", subject.path());
                        answer::unanswered()
                    })?;
                    let signed = Signed { body, mac };
                    let data = Rc::new(read(&signed).map_err(|fault| misread(&fault))?);
                    self.cache_put(subject, &signed);
                    return Ok(Fetched { data, version: Version::of(&signed), began });
                }
                // Its own "not now": MongoDB is away.
                (503, _) => {
                    let message = "the backend does not know its streams yet";
                    return Err(Refusal::new(Kind::Unavailable, message));
                }
                (status, _) => {
                    console_error!(
                        "{}: the backend answered {status}: do EDGE_KEY and EDGE_AUDIENCE equal its edge.keys and edge.audience?",
                        subject.path()
                    );
                    return Err(answer::misconfigured());
                }
            }
        }
    }

    async fn ask(
        &self,
        subject: &Subject,
        key: &str,
        known: Option<&Version>,
    ) -> Result<web_sys::Response, Refusal> {
        let headers = web_sys::Headers::new().map_err(|_| answer::internal())?;
        if let Some(Version { etag, .. }) = known {
            headers.set("if-none-match", etag).map_err(|_| answer::internal())?;
        }
        let outgoing = Outgoing {
            method: &Method::GET,
            path: &subject.path(),
            query: None,
            headers: &headers,
            body: None,
            statement: &Statement::of_edge(None),
            purpose: Purpose::Definitions,
        };
        upstream::send(&outgoing, key, self.settings).await
    }

    fn address(&self, subject: &Subject) -> String {
        // No host of this name exists; the cache wants an address.
        let deployment = percent_encoding::utf8_percent_encode(
            &self.settings.deployment,
            percent_encoding::NON_ALPHANUMERIC,
        );
        format!("https://tailrace.invalid/{deployment}{}", subject.path())
    }

    /// From the named cache, which other isolates of this place fill; best effort.
    async fn cache_get(&self, subject: &Subject) -> Option<Signed> {
        let mut answer =
            Cache::open(CACHE.to_owned()).await.get(self.address(subject), false).await.ok()??;
        let mac = answer.headers().get(MAC_HEADER.as_str()).ok()??;
        Some(Signed { body: answer.text().await.ok()?, mac })
    }

    /// Into the named cache, behind the answer; best effort.
    fn cache_put(&self, subject: &Subject, signed: &Signed) {
        let (address, signed) = (self.address(subject), signed.clone());
        self.context.wait_until(async move {
            let headers = worker::Headers::new();
            let age = format!("max-age={}", PASSES_UP_TO / 1_000);
            if headers.set(MAC_HEADER.as_str(), &signed.mac).is_ok()
                && headers.set("cache-control", &age).is_ok()
                && let Ok(answer) = worker::Response::ok(signed.body)
            {
                let put =
                    Cache::open(CACHE.to_owned()).await.put(address, answer.with_headers(headers)).await;
                drop(put); // it does nothing on workers.dev or behind Access, and all works without it
            }
        });
    }
}

/// What is kept, or the turn to fetch it. Many who come at once to an isolate that knows nothing yet have it fetched once; where
/// that brought nothing, each fetches by itself, and hears why.
async fn kept_or_turn<T>(subject: &Subject, mut kept: impl FnMut() -> Option<T>) -> Either<T, Option<Turn>> {
    if let Some(kept) = kept() {
        return Either::Left(kept);
    }
    match Turn::take_or_wait(subject.path()).await {
        Some(turn) => Either::Right(Some(turn)),
        None => kept().map_or(Either::Right(None), Either::Left),
    }
}

/// The name of the cache.
const CACHE: &str = "tailrace";

fn too_many_collections(asked_by: Spender) -> Refusal {
    match asked_by {
        Spender::Address => {
            Refusal::new(Kind::TooMany, "too many collections are asked for from this address")
        }
        Spender::All => Refusal::new(Kind::Unavailable, "too many collections are asked for at this edge"),
    }
}

fn misread(fault: &str) -> Refusal {
    console_error!("{fault}: do EDGE_KEY and EDGE_AUDIENCE equal the backend's edge.keys and edge.audience?");
    answer::misconfigured()
}

fn keep_deployment(cached: Cached<Rc<Deployment>>, version: Version) {
    DEPLOYMENT.with_borrow_mut(|entry| {
        let budget = entry.as_ref().map_or(Budget::of_refusals(), |entry| entry.budget);
        *entry = Some(Entry { cached, version, budget, renewed_since: None });
    });
}

fn keep_declared(namespace: &Namespace, cached: Cached<Rc<Declared>>, version: Version) {
    COLLECTIONS.with_borrow_mut(|collections| {
        if collections.len() >= MOST && !collections.contains_key(namespace) {
            let now = runtime::now();
            // Names that somebody invents put out nothing that is there.
            collections.retain(|_, entry| entry.cached.may_pass(now) && entry.cached.data().is_some());
            if collections.len() >= MOST {
                collections.clear();
            }
        }
        let budget = collections.get(namespace).map_or(Budget::of_refusals(), |entry| entry.budget);
        let entry = Entry { cached, version, budget, renewed_since: None };
        collections.insert(namespace.clone(), entry);
    });
}
