//! What a stage that computes nothing leaves as it is.

use bson::{Bson, Document, doc};

use crate::{matcher::Read, visibility::Projection};

type Path = Vec<String>;

/// Which paths a stage that computes nothing leaves as they are.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// A projection that keeps these.
    Only(Vec<Path>),
    /// A projection that drops these.
    AllBut(Vec<Path>),
    /// A stage that writes constants and copies.
    AllButWritten {
        /// Where.
        to: Vec<Path>,
        /// What it copies.
        from: Vec<Path>,
    },
}

impl Kept {
    pub(super) fn of(operator: &str, argument: &Bson) -> Option<Self> {
        match (operator, argument) {
            ("$unset", Bson::String(path)) => Some(Self::AllBut(vec![parts(path)])),
            ("$unset", Bson::Array(paths)) => {
                let paths = paths.iter().map(|path| path.as_str().map(parts)).collect::<Option<_>>()?;
                Some(Self::AllBut(paths))
            }
            ("$project", Bson::Document(fields)) => {
                let (mut included, mut excluded) = (Vec::new(), Vec::new());
                projected(fields, &[], &mut included, &mut excluded)?;
                // An event keeps its `_id` in either form, or its definition would have been refused.
                let is_id = |path: &Path| path.first().is_some_and(|first| first == "_id");
                if !excluded.is_empty() {
                    return included.iter().all(is_id).then_some(Self::AllBut(excluded));
                }
                if !included.iter().any(is_id) {
                    included.push(vec!["_id".to_owned()]);
                }
                Some(Self::Only(included))
            }
            ("$set" | "$addFields", Bson::Document(fields)) => {
                // A field at the top, a constant or a copy: it cannot fail, and makes nothing an object that was none.
                let is_plain = |(name, value): (&String, &Bson)| match value {
                    Bson::String(text) => !name.contains('.') && !text.starts_with("$$"),
                    Bson::Document(document) => !name.contains('.') && document.keys().eq(["$literal"]),
                    Bson::Array(_) => false,
                    _ => !name.contains('.'),
                };
                let to = fields.keys().map(|name| vec![name.clone()]).collect();
                let copied = fields.values().filter_map(|value| value.as_str()?.strip_prefix('$'));
                let from = copied.map(parts).collect();
                fields.iter().all(is_plain).then_some(Self::AllButWritten { to, from })
            }
            _ => None,
        }
    }

    /// Whether a filter reads the same as before.
    pub(super) fn keeps(&self, read: &Read) -> bool {
        match self {
            Self::Only(paths) => is_among(paths, read),
            Self::AllBut(paths) | Self::AllButWritten { to: paths, .. } => {
                !paths.iter().any(|path| is_touched(read, path))
            }
        }
    }

    /// The same, done here; `None` where it is no projection, or none that MongoDB takes.
    pub(super) fn projection(&self) -> Option<Projection> {
        match self {
            Self::Only(paths) => Projection::only(paths),
            Self::AllBut(paths) => Projection::all_but(paths),
            Self::AllButWritten { .. } => None,
        }
    }

    /// Whether it neither writes nor copies this, or anything in it: then it may as well be dropped behind, and not before.
    pub(super) fn leaves_alone(&self, path: &[String]) -> bool {
        match self {
            Self::Only(_) | Self::AllBut(_) => true,
            Self::AllButWritten { to, from } => {
                !to.iter().chain(from).any(|other| other.starts_with(path) || path.starts_with(other))
            }
        }
    }

    /// A projection that drops as much of this one as it can while all of these are read, for MongoDB to run ahead.
    pub(super) fn beside(&self, reads: &[Read]) -> Option<Document> {
        match self {
            Self::Only(paths) => {
                let values = reads.iter().filter(|read| matches!(read, Read::Value(_))).map(Read::path);
                let mut all: Vec<Path> =
                    paths.iter().map(Vec::as_slice).chain(values).map(<[_]>::to_vec).collect();
                let objects: Vec<Path> = reads
                    .iter()
                    .filter(|read| !is_among(&all, read))
                    .map(|read| read.path().to_vec())
                    .collect();
                all.extend(objects);
                all.sort_unstable();
                // In this order a path stands right before those that go on inside it.
                all.dedup_by(|inner, outer| inner.starts_with(outer));
                Projection::only(&all)?;
                Some(
                    doc! { "$project": all.iter().map(|path| (path.join("."), 1.into())).collect::<Document>() },
                )
            }
            Self::AllBut(paths) => {
                let unread = |path: &&Path| !reads.iter().any(|read| is_touched(read, path));
                let unread: Vec<String> = paths.iter().filter(unread).map(|path| path.join(".")).collect();
                (!unread.is_empty()).then(|| doc! { "$unset": unread })
            }
            Self::AllButWritten { .. } => None,
        }
    }
}

/// Whether a filter reads the same where these paths are all that is kept. What is an object stays one where something in it
/// is kept, and nothing else becomes one.
fn is_among(paths: &[Path], read: &Read) -> bool {
    paths.iter().any(|path| match read {
        Read::Value(read) => read.starts_with(path),
        Read::IsObject(read) => read.starts_with(path) || path.starts_with(read),
    })
}

/// Whether a filter may read something else where this path is dropped or written. What is an object stays one without
/// something in it.
fn is_touched(read: &Read, path: &[String]) -> bool {
    match read {
        Read::Value(read) => read.starts_with(path) || path.starts_with(read),
        Read::IsObject(read) => read.starts_with(path),
    }
}

fn parts(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// Sorts the paths of a projection; none where it computes something, or is no projection at all.
fn projected(
    fields: &Document,
    parent: &[String],
    included: &mut Vec<Path>,
    excluded: &mut Vec<Path>,
) -> Option<()> {
    // MongoDB refuses it.
    if fields.is_empty() {
        return None;
    }
    for (key, value) in fields {
        let path = [parent, &parts(key)].concat();
        let is_kept = match value {
            Bson::Document(inner) if !key.starts_with('$') => {
                projected(inner, &path, included, excluded)?;
                continue;
            }
            Bson::Boolean(value) => *value,
            Bson::Int32(value) => *value != 0,
            Bson::Int64(value) => *value != 0,
            Bson::Double(value) => *value != 0.0,
            _ => return None,
        };
        if key.starts_with('$') {
            return None;
        }
        if is_kept { &mut *included } else { &mut *excluded }.push(path);
    }
    Some(())
}
