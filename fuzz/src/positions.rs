//! Positions: resume tokens of MongoDB, and what clients send back of them.

use std::sync::LazyLock;

use bson::rawdoc;
use shared::name::{CollectionName, DatabaseName, Namespace, StreamName};
use tailrace::{position::Position, seal::Seal};

fn seal(key: u8, collection: &str, stream: &str) -> Seal {
    let namespace = Namespace {
        database: DatabaseName::new("app").expect("a name"),
        collection: CollectionName::new(collection).expect("a name"),
    };
    Seal::new(&[key; 32], &namespace, &StreamName::new(stream).expect("a name"))
}

static OWN: LazyLock<Seal> = LazyLock::new(|| seal(1, "log", "all"));

/// Of another key, another collection, another stream.
static OTHERS: LazyLock<[Seal; 3]> =
    LazyLock::new(|| [seal(2, "log", "all"), seal(1, "other", "all"), seal(1, "log", "other")]);

/// Reads a token, a packed token, and a sealed one.
pub fn run(data: &[u8]) {
    if let Some(position) = Position::from_bytes(data) {
        packs(&position);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if !text.contains('\0')
        && let Some(position) = Position::of_token(&rawdoc! { "_data": text })
    {
        packs(&position);
        sealed(&position, data.len());
    }
    if let Some(position) = OWN.open(text) {
        assert_eq!(OWN.seal(&position), text, "a position has one text");
        packs(&position);
    }
}

fn packs(position: &Position) {
    let packed = position.to_bytes();
    assert_eq!(Position::from_bytes(&packed).as_ref(), Some(position), "it survives its packing");
    let before = Position::before(position.start_at());
    assert_eq!(before.start_at(), position.start_at());
    assert!(before <= *position, "it is not before its own time");
    assert!(Position::after(position.start_at()).start_at() == position.start_at());
    let stage = position.only_behind(Some(&before));
    assert!(stage.get_document("$match").is_ok());
}

fn sealed(position: &Position, chosen: usize) {
    let text = OWN.seal(position);
    assert_eq!(OWN.open(&text).as_ref(), Some(position));
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
    for other in OTHERS.iter() {
        assert_eq!(other.open(&text), None, "it opens nowhere else");
    }
    let mut forged = text.clone().into_bytes();
    let place = chosen % forged.len();
    forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    assert_eq!(OWN.open(&forged), None, "no letter of it can be changed");
    assert_eq!(OWN.open(&text[..place]), None, "nor can it be cut");
}
