//! `limits` of a rule: what a caller may take by it, where that is less than the configuration gives everybody.

use bson::{Bson, Document};

use crate::limit::{Limit, RequestLimits};

/// What a rule may narrow. The rest is counted or measured before it is known which rule decides.
const NARROWED: &[Limit] = &[
    Limit::ConnectionsPerAddress,
    Limit::ConnectionsPerUser,
    Limit::BindingsPerUser,
    Limit::AvarsBytes,
    Limit::BodyBytes,
];

/// The limits of one rule. They narrow those of the configuration, and never widen them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(Vec<(Limit, usize)>);

impl Limits {
    /// `{"connections-per-user": 5}`: keys of the configuration, without `limits.`.
    pub(super) fn check(value: Option<&Bson>, place: &str) -> Result<Self, String> {
        let limits = match value {
            None => return Ok(Self::default()),
            Some(Bson::Document(limits)) => limits,
            Some(_) => {
                return Err(format!("{place}: expected an object, as {{\"connections-per-user\": 5}}"));
            }
        };
        Self::read(limits, place).map(Self)
    }

    fn read(limits: &Document, place: &str) -> Result<Vec<(Limit, usize)>, String> {
        let mut read = Vec::new();
        for (key, value) in limits {
            let Some(limit) = NARROWED.iter().find(|limit| limit.key() == key) else {
                let keys: Vec<_> = NARROWED.iter().map(|limit| limit.key()).collect();
                return Err(format!("{place}.{key}: unknown member, expected {}", keys.join(", ")));
            };
            let most = whole(value).filter(|most| *most > 0);
            let most = most.ok_or_else(|| format!("{place}.{key}: expected a whole number above 0"))?;
            read.push((*limit, most));
        }
        Ok(read)
    }

    /// What the rule sets, if it sets this one.
    pub fn get(&self, limit: Limit) -> Option<usize> {
        self.0.iter().find(|(set, _)| *set == limit).map(|(_, most)| *most)
    }

    /// What counts where the configuration gives `configured`: the smaller of the two.
    pub fn narrow(&self, limit: Limit, configured: usize) -> usize {
        self.get(limit).map_or(configured, |most| most.min(configured))
    }

    /// The limits of a request that is decided by this rule.
    #[must_use]
    pub fn of_request(&self, configured: RequestLimits) -> RequestLimits {
        RequestLimits { avars_bytes: self.narrow(Limit::AvarsBytes, configured.avars_bytes), ..configured }
    }

    pub(super) fn describe(&self) -> Option<String> {
        let set: Vec<_> = self.0.iter().map(|(limit, most)| format!("{} {most}", limit.key())).collect();
        (!set.is_empty()).then(|| format!("limits: {}", set.join(", ")))
    }
}

/// A count, in whichever number a tool has stored it.
fn whole(value: &Bson) -> Option<usize> {
    match value {
        Bson::Int32(number) => usize::try_from(*number).ok(),
        Bson::Int64(number) => usize::try_from(*number).ok(),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and fits")]
        Bson::Double(number) if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number) => {
            Some(*number as usize)
        }
        _ => None,
    }
}
