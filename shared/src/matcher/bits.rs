//! `$bitsAllSet` and its like (MongoDB manual, "Bitwise Query Operators").

use bson::{Bson, RawBsonRef, spec::BinarySubtype};

use super::{Unsupported, filter::integer, number::Number};

/// Which bits of a value are looked at, and what is asked of them.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    /// Whether they must be set, or clear.
    set: bool,
    /// Whether every one must be so, or any of them.
    all: bool,
    /// From the lowest bit on, sorted.
    positions: Vec<usize>,
    /// The same for a number: its sign goes on for ever.
    mask: u64,
}

impl Bits {
    pub(super) fn read(set: bool, all: bool, value: &Bson) -> Result<Self, Unsupported> {
        let expected =
            || Unsupported::new("expected a number from 0, an array of such numbers, or binary data");
        let bits_of = |bytes: &[u8]| {
            let is_set = |position: &usize| bytes[position / 8] >> (position % 8) & 1 == 1;
            (0..bytes.len() * 8).filter(is_set).collect()
        };
        let mut positions: Vec<usize> = match value {
            Bson::Array(positions) => positions
                .iter()
                .map(|position| usize::try_from(i32::try_from(integer(position)?).ok()?).ok())
                .collect::<Option<_>>()
                .ok_or_else(expected)?,
            Bson::Binary(binary) if binary.subtype != BinarySubtype::BinaryOld => bits_of(&binary.bytes),
            value => {
                let mask = integer(value).filter(|mask| *mask >= 0).ok_or_else(expected)?;
                bits_of(&mask.to_le_bytes())
            }
        };
        positions.sort_unstable();
        let mask = positions.iter().fold(0, |mask, position| mask | 1 << (*position).min(63));
        Ok(Self { set, all, positions, mask })
    }

    pub(super) fn hold(&self, value: RawBsonRef<'_>) -> bool {
        if let RawBsonRef::Binary(binary) = value {
            // The old subtype holds its length once more inside.
            let length = u32::try_from(binary.bytes.len()).unwrap_or_default().to_le_bytes();
            let inner: &[u8] = if binary.subtype == BinarySubtype::BinaryOld { &length } else { &[] };
            let byte =
                |place: usize| inner.iter().chain(binary.bytes).nth(place).copied().unwrap_or_default();
            let is_so = |position: &usize| (byte(position / 8) >> (position % 8) & 1 == 1) == self.set;
            return if self.all {
                self.positions.iter().all(is_so)
            } else {
                self.positions.iter().any(is_so)
            };
        }
        let Some(number) = Number::read(value).and_then(Number::as_bits) else { return false };
        let so = if self.set { number } else { !number } & self.mask;
        if self.all { so == self.mask } else { so != 0 }
    }
}
