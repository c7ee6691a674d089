//! Which of many filters can match a document, without asking each of them.
//!
//! Filters of one definition differ in a few values: `{name: "ada"}`, `{name: "bob"}`, … Equality and `$in` are found by a
//! hash of the document's own values, ranges by an ordered map, and what has neither is asked always. Whoever is found is a
//! candidate; whether it matches is for its [`Matcher`] to say. To ask one or two filters is quicker than to look them up:
//! then all are asked.

use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher},
    ops::Bound,
};

use bson::{RawBson, RawBsonRef, RawDocument};

use super::{
    Matcher,
    key::{self, Limit, Ordered},
    order::Bracket,
    path::{Leaf, Path},
    way::Way,
};

/// So many filters are asked, one after the other (`cargo bench -p tailrace-shared`).
const FEW: usize = 2;

/// Filters under the names of their owners.
#[derive(Clone, Debug)]
pub struct Index<K> {
    slots: Vec<Option<Entry<K>>>,
    free: Vec<Slot>,
    places: HashMap<K, Slot>,
    /// One for each path; there are as many as the definition compares with variables, which is few.
    fields: Vec<Field>,
    /// Those that no field finds.
    others: Vec<Slot>,
    hashing: RandomState,
}

type Slot = usize;

#[derive(Clone, Debug)]
struct Entry<K> {
    key: K,
    matcher: Matcher,
    /// Where it is found; nowhere for those that are always asked.
    accesses: Vec<(usize, Access)>,
}

/// How a document's value at a path leads to a filter.
#[derive(Clone, Debug)]
enum Access {
    /// It has this hash.
    Equal { hash: u64, is_nested: bool },
    /// It is not below this.
    From(Limit),
    /// It is not above this.
    UpTo(Limit),
}

/// Takes a key that is a hash already, with a secret in it.
#[derive(Clone, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a hash is a u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The filters that are found by the values at one path.
#[derive(Clone, Debug)]
struct Field {
    path: Path,
    equal: HashMap<u64, Vec<Slot>, BuildHasherDefault<Hashed>>,
    /// How many there are in `equal`.
    equals: usize,
    from: Limits,
    up_to: Limits,
    /// How many compare with a document or an array: without them no document or array needs a hash.
    nested: usize,
}

/// Filters by the limits of their ranges, in their order.
#[derive(Clone, Debug, Default)]
struct Limits {
    slots: BTreeMap<Limit, Vec<Slot>>,
    /// How many there are, since several may have one limit.
    count: usize,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            fields: Vec::new(),
            others: Vec::new(),
            hashing: RandomState::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Index<K> {
    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds a filter, in the place of the one that `key` had.
    pub fn insert(&mut self, key: K, matcher: Matcher) {
        self.remove(&key);
        let way = Way::to(&matcher.0);
        let accesses = way.map_or_else(Vec::new, |way| self.accesses(&way).accesses);
        let accesses: Vec<(usize, Access)> =
            accesses.into_iter().map(|(path, access)| (self.field(path), access)).collect();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if accesses.is_empty() {
            self.others.push(slot);
        }
        for (field, access) in &accesses {
            self.fields[*field].add(access, slot);
        }
        self.places.insert(key.clone(), slot);
        self.slots[slot] = Some(Entry { key, matcher, accesses });
    }

    /// Takes a filter out; says whether it was there.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(slot) = self.places.remove(key) else { return false };
        self.free.push(slot);
        let Some(entry) = self.slots[slot].take() else { return false };
        if entry.accesses.is_empty() {
            self.others.retain(|other| *other != slot);
        }
        for (field, access) in &entry.accesses {
            self.fields[*field].remove(access, slot);
        }
        if self.is_empty() {
            self.slots.clear();
            self.free.clear();
        }
        true
    }

    /// Every filter that may match `document`, once, in no order; every one that does match is among them.
    pub fn candidates<'a>(&'a self, document: &RawDocument, mut found: impl FnMut(&'a K, &'a Matcher)) {
        if !self.is_small() {
            return self.look_up(document, found);
        }
        for Entry { key, matcher, .. } in self.slots.iter().flatten() {
            if matcher.matches(document) {
                found(key, matcher);
            }
        }
    }

    /// Every filter that matches `document`, once, in no order.
    pub fn matching<'a>(&'a self, document: &RawDocument, mut found: impl FnMut(&'a K)) {
        if self.is_small() {
            return self.candidates(document, |key, _| found(key));
        }
        self.look_up(document, |key, matcher| {
            if matcher.matches(document) {
                found(key);
            }
        });
    }

    /// Whether it was never larger since it was empty: else there are places of others to pass by.
    fn is_small(&self) -> bool {
        self.slots.len() <= FEW
    }

    fn look_up<'a>(&'a self, document: &RawDocument, mut found: impl FnMut(&'a K, &'a Matcher)) {
        let mut slots = Vec::new();
        for field in &self.fields {
            field.find(document, &self.hashing, &mut |found| slots.extend(found));
        }
        // A filter can be found by several values, and several times by one.
        slots.sort_unstable();
        slots.dedup();
        for slot in slots.iter().chain(&self.others) {
            if let Some(entry) = &self.slots[*slot] {
                found(&entry.key, &entry.matcher);
            }
        }
    }

    fn field(&mut self, path: Path) -> usize {
        self.fields.iter().position(|field| field.path == path).unwrap_or_else(|| {
            self.fields.push(Field::new(path));
            self.fields.len() - 1
        })
    }

    /// The accesses of which a matching document has at least one.
    ///
    /// Where several would do, those that lead to the fewest others: what all filters ask alike does not tell them apart.
    fn accesses(&self, way: &Way<'_>) -> Found {
        match way {
            Way::Equal(path, values) => {
                self.found(path, values.iter().map(|value| self.equal(value)).collect())
            }
            Way::From(path, value) => self.found(path, vec![Access::From(Limit((*value).clone()))]),
            Way::UpTo(path, value) => self.found(path, vec![Access::UpTo(Limit((*value).clone()))]),
            Way::Any(ways) => {
                let found = ways.iter().map(|way| self.accesses(way));
                found.min_by_key(|found| found.others).unwrap_or_default()
            }
            Way::All(ways) => {
                ways.iter().map(|way| self.accesses(way)).fold(Found::default(), |mut all, found| {
                    all.accesses.extend(found.accesses);
                    all.others += found.others;
                    all
                })
            }
        }
    }

    fn found(&self, path: &Path, accesses: Vec<Access>) -> Found {
        let field = self.fields.iter().find(|field| field.path == *path);
        let others = |access: &Access| field.map_or(0, |field| field.others(access));
        // An event has one value there, mostly.
        let others = accesses.iter().map(others).max().unwrap_or_default();
        Found { accesses: accesses.into_iter().map(|access| (path.clone(), access)).collect(), others }
    }

    fn equal(&self, value: &RawBson) -> Access {
        let value = value.as_raw_bson_ref();
        Access::Equal { hash: hash(Some(value), &self.hashing), is_nested: is_nested(Some(value)) }
    }
}

#[derive(Default)]
struct Found {
    accesses: Vec<(Path, Access)>,
    /// How many filters they lead to already.
    others: usize,
}

fn hash(value: Option<RawBsonRef<'_>>, hashing: &RandomState) -> u64 {
    let mut hasher = hashing.build_hasher();
    key::feed(value, &mut hasher);
    hasher.finish()
}

fn is_nested(value: Option<RawBsonRef<'_>>) -> bool {
    matches!(value, Some(RawBsonRef::Document(_) | RawBsonRef::Array(_)))
}

impl Limits {
    fn add(&mut self, limit: &Limit, slot: Slot) {
        self.count += 1;
        self.slots.entry(limit.clone()).or_default().push(slot);
    }

    fn remove(&mut self, limit: &Limit, slot: Slot) {
        self.count -= 1;
        if self.slots.get_mut(limit).is_some_and(|slots| take(slots, slot)) {
            self.slots.remove(limit);
        }
    }
}

/// Takes a slot out; whether it was the last one.
fn take(slots: &mut Vec<Slot>, slot: Slot) -> bool {
    if let Some(place) = slots.iter().position(|other| *other == slot) {
        slots.swap_remove(place);
    }
    slots.is_empty()
}

impl Field {
    fn new(path: Path) -> Self {
        Self {
            path,
            equal: HashMap::default(),
            equals: 0,
            from: Limits::default(),
            up_to: Limits::default(),
            nested: 0,
        }
    }

    fn add(&mut self, access: &Access, slot: Slot) {
        match access {
            Access::Equal { hash, is_nested } => {
                self.nested += usize::from(*is_nested);
                self.equals += 1;
                self.equal.entry(*hash).or_default().push(slot);
            }
            Access::From(limit) => self.from.add(limit, slot),
            Access::UpTo(limit) => self.up_to.add(limit, slot),
        }
    }

    fn remove(&mut self, access: &Access, slot: Slot) {
        match access {
            Access::Equal { hash, is_nested } => {
                self.nested -= usize::from(*is_nested);
                self.equals -= 1;
                if self.equal.get_mut(hash).is_some_and(|slots| take(slots, slot)) {
                    self.equal.remove(hash);
                }
            }
            Access::From(limit) => self.from.remove(limit, slot),
            Access::UpTo(limit) => self.up_to.remove(limit, slot),
        }
    }

    /// How many filters an event is led to where it has such an access, about: the average, since the values that filters
    /// ask for most need not be those that events have.
    fn others(&self, access: &Access) -> usize {
        match access {
            Access::Equal { .. } => self.equals.div_ceil(self.equal.len().max(1)),
            Access::From(_) => 1 + self.from.count / 2,
            Access::UpTo(_) => 1 + self.up_to.count / 2,
        }
    }

    /// Hands out the filters that the document's values lead to.
    fn find(&self, document: &RawDocument, hashing: &RandomState, found: &mut impl FnMut(&[Slot])) {
        self.path.reaches(document, Leaf::Elements, &mut |value| {
            if !self.equal.is_empty()
                && (self.nested > 0 || !is_nested(value))
                && let Some(slots) = self.equal.get(&hash(value, hashing))
            {
                found(slots);
            }
            if let Some(value) = value {
                self.limits(value, found);
            }
            false
        });
    }

    fn limits(&self, value: RawBsonRef<'_>, found: &mut impl FnMut(&[Slot])) {
        let bracket = Bracket::of(Some(value));
        let value: &dyn Ordered = &value;
        let is_inside = |limit: &&Limit| Bracket::of(Some(limit.value())) == bracket;
        let from = self.from.slots.range::<dyn Ordered, _>((Bound::Unbounded, Bound::Included(value))).rev();
        from.take_while(|(limit, _)| is_inside(limit)).for_each(|(_, slots)| found(slots));
        let up_to = self.up_to.slots.range::<dyn Ordered, _>((Bound::Included(value), Bound::Unbounded));
        up_to.take_while(|(limit, _)| is_inside(limit)).for_each(|(_, slots)| found(slots));
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use bson::{Document, RawDocumentBuf, doc};

    use super::*;

    fn index(filters: &[Document]) -> Index<usize> {
        let mut index = Index::default();
        for (key, filter) in filters.iter().enumerate() {
            index.insert(key, Matcher::compile(filter).unwrap());
        }
        index
    }

    /// What is found beside filters that match nothing, so that it is looked up and not asked.
    fn candidates(index: &Index<usize>, document: &Document) -> Vec<usize> {
        let mut index = index.clone();
        for key in 1_000..=1_000 + FEW {
            index.insert(key, Matcher::compile(&doc! { "a": { "$in": [f64::from(u32::MAX)] } }).unwrap());
        }
        let mut found = Vec::new();
        index.candidates(&RawDocumentBuf::try_from(document).unwrap(), |key, _| found.push(*key));
        found.sort_unstable();
        found
    }

    #[test]
    fn of_few_filters_those_alone_are_found_that_match() {
        let index = index(&[doc! { "a": 1, "b": 1 }, doc! { "a": { "$ne": 1 } }]);
        for (document, expected) in
            [(doc! { "a": 1 }, &[][..]), (doc! { "a": 1, "b": 1 }, &[0]), (doc! {}, &[1])]
        {
            let document = RawDocumentBuf::try_from(&document).unwrap();
            let (mut found, mut matching) = (Vec::new(), Vec::new());
            index.candidates(&document, |key, _| found.push(*key));
            index.matching(&document, |key| matching.push(*key));
            assert_eq!((&found[..], &matching[..]), (expected, expected));
        }
    }

    #[test]
    fn a_document_leads_to_those_alone_that_compare_with_its_value() {
        let index =
            index(&[doc! { "a": 1 }, doc! { "a": 2.0 }, doc! { "a": "1" }, doc! { "a": { "$in": [1, 2] } }]);
        assert_eq!(candidates(&index, &doc! { "a": 1_i64 }), [0, 3]);
        assert_eq!(candidates(&index, &doc! { "a": 2 }), [1, 3]);
        assert_eq!(candidates(&index, &doc! { "a": [1, 2, "1"] }), [0, 1, 2, 3]);
        assert!(candidates(&index, &doc! { "a": 3 }).is_empty());
    }

    #[test]
    fn what_is_missing_leads_to_null() {
        let index = index(&[doc! { "a": null }, doc! { "a": { "$in": [null] } }, doc! { "a": 1 }]);
        for document in [doc! {}, doc! { "a": null }, doc! { "a": [1, null] }] {
            assert_eq!(candidates(&index, &document)[..2], [0, 1], "{document}");
        }
        assert_eq!(candidates(&index, &doc! { "a": 1 }), [2]);
    }

    #[test]
    fn a_document_leads_to_the_ranges_around_its_value() {
        let index = index(&[
            doc! { "a": { "$gt": 1 } },
            doc! { "a": { "$gte": 5.5 } },
            doc! { "a": { "$lt": 3 } },
            doc! { "a": { "$gt": "x" } },
            doc! { "a": { "$lt": null } },
        ]);
        assert_eq!(candidates(&index, &doc! { "a": 2 }), [0, 2, 4]);
        assert_eq!(candidates(&index, &doc! { "a": 6 }), [0, 1, 4]);
        assert_eq!(candidates(&index, &doc! { "a": "z" }), [3, 4]);
    }

    #[test]
    fn what_all_filters_ask_alike_does_not_tell_them_apart() {
        let filters: Vec<Document> =
            (0..100).map(|n| doc! { "type": "insert", "n": n, "m": { "$gt": 0 } }).collect();
        let index = index(&filters);
        let found = candidates(&index, &doc! { "type": "insert", "n": 50, "m": 1 });
        assert!(found.contains(&50));
        assert!(found.len() <= 5, "{found:?}");
        // Whichever stands first.
        let filters = |n: i32| doc! { "m": { "$gt": 0 }, "n": n };
        let index = self::index(&(0..100).map(filters).collect::<Vec<_>>());
        let found = candidates(&index, &doc! { "m": 1, "n": 50 });
        assert!(found.len() <= 5, "{found:?}");
        // A value that all of them take beside others, and no event has.
        let filters = |n: i32| doc! { "type": "insert", "n": { "$in": [n, "x"] } };
        let index = self::index(&(0..100).map(filters).collect::<Vec<_>>());
        let found = candidates(&index, &doc! { "type": "insert", "n": 50 });
        assert!(found.len() <= 5, "{found:?}");
    }

    #[test]
    fn one_of_several_filters_leads_to_them_once() {
        let index = index(&[
            doc! { "$or": [{ "a": 1 }, { "b": 1 }, { "a": 1 }] },
            doc! { "$or": [{ "a": 1 }, { "b": { "$exists": true } }] },
            doc! { "a": { "$not": { "$eq": 1 } } },
            doc! { "$and": [{ "a": { "$exists": true } }, { "b": 2 }] },
        ]);
        assert_eq!(candidates(&index, &doc! { "a": [1, 1], "b": 1 }), [0, 1, 2]);
        assert_eq!(candidates(&index, &doc! { "a": 5, "b": 2 }), [1, 2, 3]);
    }

    #[test]
    fn whoever_left_is_not_found() {
        let mut index = index(&[doc! { "a": 1 }, doc! { "a": 1 }, doc! { "a": { "$gt": 0 } }, doc! {}]);
        for key in [0, 2, 3] {
            assert!(index.remove(&key));
            assert!(!index.remove(&key));
        }
        assert_eq!(candidates(&index, &doc! { "a": 1 }), [1]);
        assert!(!index.is_small(), "there are places of those who left");
        index.insert(1, Matcher::compile(&doc! { "a": 2 }).unwrap());
        assert!(candidates(&index, &doc! { "a": 1 }).is_empty());
        assert_eq!((index.len(), index.is_empty(), index.is_small()), (1, false, true));
        assert!(index.remove(&1));
        index.insert(2, Matcher::compile(&doc! { "a": 3 }).unwrap());
        assert_eq!(candidates(&index, &doc! { "a": 3 }), [2]);
    }
}
