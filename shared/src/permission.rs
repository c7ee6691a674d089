//! Who may do what: rules over roles, methods, addresses, and claims. The first that fits decides; where none fits, no.
//!
//! Edge and backend hold the same rules and decide alike. The edge refuses early; the backend decides again.

mod condition;
mod limits;
mod path;
mod roles;
mod value;
mod written;

use std::fmt;

use bson::{Bson, DateTime, Document};
use http::Method;

use self::{
    condition::Condition,
    path::PathTemplate,
    value::{Known, Template},
};
pub use self::{
    limits::Limits,
    roles::{AUTHENTICATED, RolesClaim, UNAUTHENTICATED},
    written::Written,
};
use crate::{
    address::{Address, Route},
    escape,
    identity::{Claims, Identity},
    name::Namespace,
    refusal::{Kind, Refusal},
    request::Query,
    variables::{OperatorCheck, ServerVariables, Variables},
    visibility::{self, Visibility},
};

/// What a caller asks to do.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who calls.
    pub identity: &'a Identity,
    /// With which method; an upgrade is a GET.
    pub method: &'a Method,
    /// Where.
    pub address: &'a Address,
    /// The raw query: what it says of `avars` counts.
    pub query: Option<&'a str>,
    /// When: `@now`.
    pub now: DateTime,
}

impl Question<'_> {
    fn server(&self) -> ServerVariables {
        ServerVariables { user: self.identity.claims().map(Claims::document), now: self.now }
    }

    fn reads(&self) -> bool {
        let stream = matches!(self.address.route, Route::Stream(..) | Route::Streams(_));
        stream || self.method.is_safe()
    }

    /// How many segments of the path name its collection or what is before it, and the collection.
    fn collection(&self) -> Option<(usize, &Namespace)> {
        let (behind, namespace) = match &self.address.route {
            Route::Collection(namespace) => (0, namespace),
            Route::Document(namespace, _) | Route::Streams(namespace) => (1, namespace),
            Route::Stream(namespace, _) => (2, namespace),
            _ => return None,
        };
        Some((path::segments(&self.address.canonical).len().saturating_sub(behind), namespace))
    }
}

/// What a caller may do, and how: what the rule that decided says beyond yes.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The rule that decided; `None` where there are no rules.
    pub rule: Option<String>,
    /// Which documents, and what of them.
    pub visibility: Visibility,
    /// What is set in every document that is written.
    pub merge: Document,
    /// What may be taken, where that is less than the configuration gives.
    pub limits: Limits,
    given: Given,
}

/// The variables of a stream that are not the client's to choose.
#[derive(Clone, Debug, Default, PartialEq)]
struct Given {
    allowed: Option<Vec<String>>,
    values: Document,
}

impl Grant {
    /// Everything, as it is asked for.
    pub fn everything() -> Self {
        Self {
            rule: None,
            visibility: Visibility::everything(),
            merge: Document::new(),
            limits: Limits::default(),
            given: Given::default(),
        }
    }

    /// The client's variables with those that the rule sets; 403 for one that the client may not send.
    pub fn variables(&self, client: Variables) -> Result<Variables, Refusal> {
        for name in client.names() {
            if let Some(set) = self.given.values.keys().find(|set| overlap(set, name)) {
                let message = format!("variable {set} is set by the server, expected avars without it");
                return Err(Refusal::new(Kind::Forbidden, message));
            }
            let allowed = self.given.allowed.as_ref();
            if allowed.is_some_and(|allowed| !allowed.iter().any(|allowed| is_within(name, allowed))) {
                return Err(Refusal::new(Kind::Forbidden, format!("variable {name} is not permitted here")));
            }
        }
        Ok(client.with(&self.given.values))
    }

    /// 403 for variables that the client may not send, before anything is told of what exists. What is no `avars` at all is
    /// judged later: 400.
    fn check_variables(&self, query: Option<&str>) -> Result<(), Refusal> {
        let Ok(query) = Query::parse(query) else { return Ok(()) };
        match Variables::parse(query.get("avars"), OperatorCheck::Off) {
            Ok(client) => self.variables(client).map(drop),
            Err(_) => Ok(()),
        }
    }
}

/// Whether a value under one of the names could be reached by the other: `a` and `a.b`.
fn overlap(a: &str, b: &str) -> bool {
    is_within(a, b) || is_within(b, a)
}

fn is_within(name: &str, outer: &str) -> bool {
    name.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// One rule, checked, or broken and then only good for refusing.
#[derive(Clone, Debug)]
pub struct Rule {
    id: String,
    priority: f64,
    roles: Vec<String>,
    methods: Vec<String>,
    path: PathTemplate,
    condition: Option<Condition>,
    allowed: Option<Vec<String>>,
    set: Template,
    visibility: visibility::Template,
    merge: Template,
    limits: Limits,
    fault: Option<String>,
    document: Document,
}

const MEMBERS: &[&str] = &[
    "_id",
    "id",
    "comment",
    "priority",
    "roles",
    "methods",
    "path",
    "condition",
    "avars",
    "readFilter",
    "writeFilter",
    "projectResponse",
    "mergeRequest",
    "limits",
];

/// Members that may be there and mean nothing to a rule.
const PASSED_OVER: &[&str] = &["_etag"];

const ANY_METHOD: &str = "*";

/// The member of a user that no answer and no event shows.
const PASSWORD: &str = "password";

impl Rule {
    /// Checks a rule of the configuration, where it stands at `place`, as `permissions[1]`.
    pub fn check(document: &Document, place: &str) -> Result<Self, String> {
        if let Some(unknown) = document.keys().find(|key| !MEMBERS.contains(&key.as_str())) {
            return Err(format!("{place}.{unknown}: unknown member, expected {}", MEMBERS[1..].join(", ")));
        }
        let id = match document.get("id").or_else(|| document.get("_id")) {
            None => place.to_owned(),
            Some(Bson::String(id)) => id.clone(),
            Some(Bson::ObjectId(id)) => id.to_hex(),
            Some(_) => return Err(format!("{place}.id: expected a text")),
        };
        let priority = match document.get("priority") {
            None => 0.0,
            Some(Bson::Int32(priority)) => f64::from(*priority),
            #[expect(clippy::cast_precision_loss, reason = "only the order counts")]
            Some(Bson::Int64(priority)) => *priority as f64,
            Some(Bson::Double(priority)) if priority.is_finite() => *priority,
            Some(_) => return Err(format!("{place}.priority: expected a number, the lowest is asked first")),
        };
        let roles = names(document.get("roles"))
            .filter(|roles| !roles.is_empty())
            .ok_or_else(|| format!("{place}.roles: expected an array of names, as [\"user\"]"))?;
        if let Some(odd) = roles
            .iter()
            .find(|role| role.starts_with('$') && ![UNAUTHENTICATED, AUTHENTICATED].contains(&role.as_str()))
        {
            return Err(format!(
                "{place}.roles: {odd:?} is no role of the server's, expected {UNAUTHENTICATED} or {AUTHENTICATED}"
            ));
        }
        let methods = methods(document.get("methods"), place)?;
        let path = match document.get("path") {
            Some(Bson::String(path)) => {
                PathTemplate::parse(path).map_err(|fault| format!("{place}.path: {fault}"))?
            }
            _ => return Err(format!("{place}.path: expected a text, as /messages/_streams/{{stream}}")),
        };
        let parameters: Vec<&str> = path.parameters().collect();
        let condition = document
            .get("condition")
            .map(|condition| Condition::check(condition, &format!("{place}.condition"), &parameters))
            .transpose()?;
        let (allowed, set) = avars(document.get("avars"), place, &parameters)?;
        let filter = |name: &str| match document.get(name) {
            None => Ok(None),
            Some(Bson::Document(filter)) => Ok(Some(filter)),
            Some(_) => Err(format!("{place}.{name}: expected an object")),
        };
        let visibility = visibility::Template::check(
            filter("readFilter")?,
            filter("writeFilter")?,
            filter("projectResponse")?,
        )
        .map_err(|fault| format!("{place}.{fault}"))?;
        let merge = filter("mergeRequest")?.cloned().unwrap_or_default();
        let merge = merged(&merge, &format!("{place}.mergeRequest"), &parameters)?;
        let limits = Limits::check(document.get("limits"), &format!("{place}.limits"))?;
        Ok(Self {
            id,
            priority,
            roles,
            methods,
            condition,
            allowed,
            set,
            visibility,
            merge,
            limits,
            path,
            fault: None,
            document: document.clone(),
        })
    }

    /// Reads a rule of the database, which any tool may have written, in either spelling. A broken one cannot grant
    /// anything, and it may have been meant to keep something closed: whatever it may be for, it refuses with its fault.
    pub fn stored(document: &Document) -> Self {
        let mut plain = match escape::unescape(&Bson::Document(document.clone())) {
            Bson::Document(document) => document,
            _ => document.clone(),
        };
        for name in PASSED_OVER {
            plain.remove(name);
        }
        let id = match document.get("_id") {
            Some(Bson::String(id)) => id.clone(),
            Some(Bson::ObjectId(id)) => id.to_hex(),
            other => other.map(ToString::to_string).unwrap_or_default(),
        };
        let checked = match plain.get("_id") {
            // An _id of another type is no reason to break.
            Some(Bson::String(_) | Bson::ObjectId(_)) | None => Self::check(&plain, &id),
            Some(_) => {
                plain.insert("_id", id.clone());
                Self::check(&plain, &id)
            }
        };
        let fault = match checked {
            Ok(rule) => return Self { document: document.clone(), ..rule },
            Err(fault) => fault,
        };
        let path = plain.get("path").and_then(Bson::as_str).and_then(|path| PathTemplate::parse(path).ok());
        Self {
            id,
            priority: match plain.get("priority") {
                Some(Bson::Int32(priority)) => f64::from(*priority),
                Some(Bson::Double(priority)) if priority.is_finite() => *priority,
                None => 0.0,
                Some(_) => f64::NEG_INFINITY,
            },
            roles: names(plain.get("roles")).unwrap_or_default(),
            methods: methods(plain.get("methods"), "").unwrap_or_else(|_| vec![ANY_METHOD.to_owned()]),
            path: path.unwrap_or_else(|| PathTemplate::parse("/**").expect("a good path")),
            condition: None,
            allowed: None,
            set: Template::Document(Vec::new()),
            visibility: visibility::Template::default(),
            merge: Template::Document(Vec::new()),
            limits: Limits::default(),
            fault: Some(fault),
            document: document.clone(),
        }
    }

    /// The rule's name: its `_id`, its `id`, or its place in the configuration.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is wrong with a rule of the database that cannot be read.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn judge(&self, question: &Question<'_>, roles: &[String], protected: bool) -> Fits {
        // A broken rule without readable roles is for everybody.
        let for_all = self.fault.is_some() && self.roles.is_empty();
        if !for_all && !self.roles.iter().any(|role| roles.contains(role)) {
            return Fits::OtherRoles;
        }
        let method = question.method.as_str();
        let reads = method == "HEAD" && self.methods.iter().any(|other| other == "GET");
        if !reads && !self.methods.iter().any(|other| other == method || other == ANY_METHOD) {
            return Fits::OtherMethods;
        }
        let Some(path) = self.path.values(&question.address.canonical) else { return Fits::OtherPath };
        if protected
            && self.fault.is_none()
            && question.collection().is_none_or(|(count, _)| !self.path.names_first(count))
        {
            return Fits::NotByName;
        }
        let server = question.server();
        let known = Known { server: &server, path: &path };
        match &self.condition {
            Some(condition) if !condition.holds(&known) => Fits::ConditionFails,
            _ => Fits::Yes(path),
        }
    }

    fn grant(&self, question: &Question<'_>, path: &Document) -> Result<Grant, Refusal> {
        if let Some(fault) = &self.fault {
            return Err(Refusal::new(Kind::BrokenDefinition, format!("permission {fault}")));
        }
        let server = question.server();
        let known = Known { server: &server, path };
        let document = |template: &Template| {
            template.resolve(&known).map(|value| match value {
                Bson::Document(document) => document,
                _ => Document::new(),
            })
        };
        let grant = Grant {
            rule: Some(self.id.clone()),
            visibility: self.visibility.resolve(&server)?,
            merge: if question.reads() { Document::new() } else { document(&self.merge)? },
            limits: self.limits.clone(),
            given: match question.address.route {
                Route::Stream(..) => Given { allowed: self.allowed.clone(), values: document(&self.set)? },
                _ => Given::default(),
            },
        };
        grant.check_variables(
            question.query.filter(|_| matches!(question.address.route, Route::Stream(..))),
        )?;
        Ok(grant)
    }
}

fn names(value: Option<&Bson>) -> Option<Vec<String>> {
    let Some(Bson::Array(values)) = value else { return None };
    values.iter().map(|value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned)).collect()
}

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", ANY_METHOD];

fn methods(value: Option<&Bson>, place: &str) -> Result<Vec<String>, String> {
    let methods = names(value).filter(|methods| !methods.is_empty());
    let methods = methods
        .ok_or_else(|| format!("{place}.methods: expected an array of methods, as [\"GET\"] or [\"*\"]"))?;
    match methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
        Some(odd) => Err(format!("{place}.methods: {odd:?}, expected some of {}", METHODS.join(", "))),
        None => Ok(methods),
    }
}

type Avars = (Option<Vec<String>>, Template);

/// `{"allow": ["n"], "set": {"tenant": "@user.tenant"}}`
fn avars(value: Option<&Bson>, place: &str, parameters: &[&str]) -> Result<Avars, String> {
    let expected = "expected an object {\"allow\": [<name>, …], \"set\": {<name>: <value>}}";
    let avars = match value {
        None => return Ok((None, Template::Document(Vec::new()))),
        Some(Bson::Document(avars)) => avars,
        Some(_) => return Err(format!("{place}.avars: {expected}")),
    };
    if let Some(unknown) = avars.keys().find(|key| !["allow", "set"].contains(&key.as_str())) {
        return Err(format!("{place}.avars.{unknown}: unknown member, {expected}"));
    }
    let allowed = match avars.get("allow") {
        None => None,
        value => {
            Some(names(value).ok_or_else(|| format!("{place}.avars.allow: expected an array of names"))?)
        }
    };
    let set = match avars.get("set") {
        None => Template::Document(Vec::new()),
        Some(set @ Bson::Document(values)) => {
            if let Some(odd) = values.keys().find(|name| name.starts_with(['@', '$', '.']) || name.is_empty())
            {
                return Err(format!("{place}.avars.set.{odd}: expected a name without @ or $ before it"));
            }
            Template::check(set, &format!("{place}.avars.set"), parameters)?
        }
        Some(_) => return Err(format!("{place}.avars.set: expected an object")),
    };
    Ok((allowed, set))
}

fn merged(merge: &Document, place: &str, parameters: &[&str]) -> Result<Template, String> {
    if let Some(odd) = merge
        .keys()
        .find(|name| *name == "_id" || *name == "_etag" || name.starts_with('$') || name.contains('.'))
    {
        return Err(format!(
            "{place}.{odd}: expected names of fields other than _id and _etag, without dots"
        ));
    }
    Template::check(&Bson::Document(merge.clone()), place, parameters)
}

/// Whether a rule is for a question.
#[derive(Clone, Debug, PartialEq)]
enum Fits {
    /// It decides; with the values of its path's parameters.
    Yes(Document),
    OtherRoles,
    OtherMethods,
    OtherPath,
    /// The collection holds users or rules, and the rule's path has it by a parameter or a star only.
    NotByName,
    ConditionFails,
}

impl fmt::Display for Fits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes(_) => "decides",
            Self::OtherRoles => "is for other roles",
            Self::OtherMethods => "is for other methods",
            Self::OtherPath => "is for another path",
            Self::NotByName => "does not name this collection, which only a path without parameters opens",
            Self::ConditionFails => "has a condition that does not hold",
        })
    }
}

/// All rules of a deployment.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// Puts rules into the order in which they are asked: the lowest priority first, equal ones as they come.
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| a.priority.total_cmp(&b.priority));
        Self { rules }
    }

    /// Checks those of the configuration.
    pub fn configured(documents: &[Document]) -> Result<Vec<Rule>, String> {
        let mut rules: Vec<Rule> = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let rule = Rule::check(document, &format!("permissions[{index}]"))?;
            if rules.iter().any(|other| other.id == rule.id) {
                return Err(format!("permissions[{index}].id: {:?} is the id of another rule", rule.id));
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    /// The rules in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// As they were written, for an edge worker: [`Rules::written`] reads them back.
    pub fn documents(&self) -> Vec<Document> {
        self.rules
            .iter()
            .map(|rule| {
                let mut document = rule.document.clone();
                document.insert("_id", rule.id.clone());
                document.remove("id");
                document
            })
            .collect()
    }

    /// Reads what [`Rules::documents`] gave.
    pub fn written(documents: &[Document]) -> Self {
        Self::new(documents.iter().map(Rule::stored).collect())
    }
}

/// How a deployment decides.
#[derive(Clone, Debug)]
pub struct Access {
    /// By what.
    pub mode: Mode,
    /// Where tokens have their roles.
    pub roles: RolesClaim,
    /// Collections of users and rules: only a rule that names them opens them.
    pub protected: Vec<Namespace>,
}

/// By what a deployment decides.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Everybody may do everything: `auth.anonymous`.
    Everybody,
    /// Whoever brings good credentials may read and follow streams: there are no rules.
    Holders,
    /// By rules.
    Rules(Rules),
}

impl Access {
    /// Whether a caller without credentials may get an answer at all.
    pub fn admits_anonymous(&self) -> bool {
        !matches!(self.mode, Mode::Holders)
    }

    /// Decides: 401 where credentials are needed and none were brought, 403 where they are not enough.
    pub fn decide(&self, question: &Question<'_>) -> Result<Grant, Refusal> {
        let protected =
            question.collection().is_some_and(|(_, namespace)| self.protected.contains(namespace));
        let anonymous = question.identity.claims().is_none();
        match &self.mode {
            Mode::Everybody if !protected => Ok(Grant::everything()),
            Mode::Holders if !protected && !anonymous && question.reads() => Ok(Grant::everything()),
            Mode::Everybody | Mode::Holders if anonymous => Err(unauthenticated()),
            Mode::Everybody | Mode::Holders => {
                let what = if question.reads() { "this" } else { "this write" };
                Err(Refusal::new(Kind::Forbidden, format!("no permission allows {what}")))
            }
            Mode::Rules(rules) => {
                let held = self.roles.of(question.identity);
                for rule in rules.iter() {
                    if let Fits::Yes(path) = rule.judge(question, &held, protected) {
                        let grant = rule.grant(question, &path)?;
                        return Ok(if protected { grant.without_passwords() } else { grant });
                    }
                }
                Err(if anonymous { unauthenticated() } else { denied() })
            }
        }
    }

    /// What is answered where the address is none: who may not know what exists is told neither that this does not.
    pub fn unresolved(&self, identity: &Identity, refusal: Refusal) -> Refusal {
        match (&self.mode, refusal.kind()) {
            (Mode::Rules(_), Kind::NotFound) if identity.claims().is_none() => unauthenticated(),
            (Mode::Rules(_), Kind::NotFound) => denied(),
            _ => refusal,
        }
    }

    /// What each rule says, in the order in which they are asked, and what comes of it: for whoever writes them.
    pub fn explain(&self, question: &Question<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        let held = self.roles.of(question.identity);
        lines.push(format!("roles    {}", held.join(", ")));
        let protected =
            question.collection().is_some_and(|(_, namespace)| self.protected.contains(namespace));
        match &self.mode {
            Mode::Everybody => lines.push("rules    none: auth.anonymous is on".to_owned()),
            Mode::Holders => {
                lines.push("rules    none: good credentials read and follow, nobody writes".to_owned());
            }
            Mode::Rules(rules) => {
                for rule in rules.iter() {
                    let fits = rule.judge(question, &held, protected);
                    lines.push(format!("rule     {} {fits}", rule.id));
                    if matches!(fits, Fits::Yes(_)) {
                        break;
                    }
                }
            }
        }
        lines.push(match self.decide(question) {
            Ok(grant) => format!("allowed  {}", grant.describe()),
            Err(refusal) => format!("refused  {refusal}"),
        });
        lines
    }
}

impl Grant {
    /// Whether the two let the same be seen and done, whichever rule says so. Limits count for what is asked for anew.
    pub fn has_effect_of(&self, other: &Self) -> bool {
        self.visibility == other.visibility && self.merge == other.merge && self.given == other.given
    }

    /// No rule shows the hash of a password.
    fn without_passwords(self) -> Self {
        Self { visibility: self.visibility.without(PASSWORD), ..self }
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        if let Some(allowed) = &self.given.allowed {
            parts.push(format!(
                "avars allowed: {}",
                if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") }
            ));
        }
        if !self.given.values.is_empty() {
            parts.push(format!("avars set: {}", self.given.values));
        }
        if !self.visibility.is_everything() {
            parts.push(self.visibility.to_string());
        }
        if !self.merge.is_empty() {
            parts.push(format!("merged into what is written: {}", self.merge));
        }
        parts.extend(self.limits.describe());
        if parts.is_empty() { "everything asked for".to_owned() } else { parts.join("; ") }
    }
}

fn denied() -> Refusal {
    Refusal::new(Kind::Forbidden, "no permission allows this")
}

fn unauthenticated() -> Refusal {
    Refusal::new(Kind::Unauthenticated, "credentials needed")
}

#[cfg(test)]
mod tests;
