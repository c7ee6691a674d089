//! Values and documents.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc};

use super::Random;

const NAMES: &[&str] = &["a", "b", "c", "0", "1"];

impl Random {
    /// A document with `_id` and a few fields.
    pub fn document(&mut self, id: i32) -> Document {
        let mut document = doc! { "_id": id };
        for name in ["a", "b", "c"] {
            if self.chance(75) {
                document.insert(name, self.value(3));
            }
        }
        document
    }

    /// Any value, nested at most so deep.
    pub(super) fn value(&mut self, depth: usize) -> Bson {
        match self.below(100) {
            0..25 if depth > 0 => Bson::Array(self.some(0, 3, |random| random.value(depth - 1))),
            25..45 if depth > 0 => {
                let mut document = Document::new();
                for _ in 0..self.below(4) {
                    let name = self.pick(NAMES);
                    document.insert(name, self.value(depth - 1));
                }
                Bson::Document(document)
            }
            _ => self.scalar(),
        }
    }

    pub(super) fn scalar(&mut self) -> Bson {
        match self.below(100) {
            0..30 => self.pick(&[0, 1, 2, 3, -1, 5, i32::MAX, i32::MIN]).into(),
            30..45 => self.number(),
            45..65 => self.text().into(),
            65..75 => Bson::Null,
            75..80 => Bson::Boolean(self.chance(50)),
            _ => self.rare(),
        }
    }

    /// A number of any type, near to numbers of the other types.
    pub(super) fn number(&mut self) -> Bson {
        const LARGE: i64 = 1 << 53;
        match self.below(3) {
            0 => self
                .pick(&[0, 1, 2, -1, -7, LARGE, LARGE + 1, LARGE + 2, -LARGE - 1, i64::MAX, i64::MIN])
                .into(),
            1 => self
                .pick(&[
                    0.0,
                    -0.0,
                    1.0,
                    1.5,
                    2.0,
                    2.5,
                    -1.0,
                    -1.5,
                    0.1,
                    5e-324,
                    1e300,
                    f64::NAN,
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    9_007_199_254_740_992.0,
                    9_007_199_254_740_994.0,
                    9_223_372_036_854_775_808.0,
                    -9_223_372_036_854_775_808.0,
                ])
                .into(),
            _ => {
                let text = self.pick(&[
                    "0",
                    "-0E+3",
                    "1",
                    "1.0",
                    "1.5",
                    "2.5",
                    "3.5",
                    "-1.5",
                    "-1",
                    "NaN",
                    "-NaN",
                    "Infinity",
                    "-Infinity",
                    "0.1",
                    "0.1000000000000000055511151231257827",
                    "0.1000000000000000055511151231257828",
                    "9007199254740993",
                    "9223372036854775807",
                    "9223372036854775808",
                    "-9223372036854775809",
                    "1E+6000",
                    "1E-6000",
                    "5E-324",
                    "1E+300",
                ]);
                Bson::Decimal128(text.parse().expect("a decimal"))
            }
        }
    }

    pub(super) fn text(&mut self) -> String {
        let known = self.pick(&[
            "", "a", "b", "ab", "A", "aB", "abc", "a\nb", "a\n", "\na", "\n", "é", "É", "ſ", "s", "K",
            "\u{212a}", "k", "1", "0", "a b", "a\0b", "a.b", "$a", "_", "\r\n", "\u{2028}", "\u{85}",
            "\u{a0}", "\u{b}", "Σ", "ς", "σ", "ß",
        ]);
        if self.chance(60) {
            return known.to_owned();
        }
        self.some(1, 4, |random| random.pick(&["a", "b", "A", "B", "\n", "é", "1", " ", "s", "ſ", "x", "."]))
            .concat()
    }

    fn rare(&mut self) -> Bson {
        match self.below(16) {
            0 => Bson::ObjectId(ObjectId::from_bytes([self.pick(&[0, 1, 255]); 12])),
            1 | 2 => Bson::DateTime(DateTime::from_millis(self.pick(&[-1, 0, 1, 1_700_000_000_000]))),
            3 => {
                // Not (0, 0): MongoDB writes its own time in its place.
                let (time, increment) = self.pick(&[(0, 2), (0, 1), (1, 0), (u32::MAX, 1)]);
                Bson::Timestamp(Timestamp { time, increment })
            }
            4..7 => Bson::Binary(self.binary()),
            7 => Bson::RegularExpression(self.pattern()),
            8 => {
                let (pattern, options) = self.pick(&[("a", ""), ("a", "i"), ("b", ""), ("^a", "ms")]);
                Bson::RegularExpression(Regex {
                    pattern: pattern.try_into().expect("no NUL"),
                    options: options.try_into().expect("no NUL"),
                })
            }
            9 => Bson::MinKey,
            10 => Bson::MaxKey,
            11 if self.undefined => Bson::Undefined,
            12 => Bson::Symbol(self.pick(&["a", "b"]).to_owned()),
            13 => Bson::JavaScriptCode(self.pick(&["a", "b"]).to_owned()),
            14 => Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code: self.pick(&["a", "b"]).to_owned(),
                scope: self.pick(&[doc! {}, doc! { "a": 1 }, doc! { "b": 1.0 }, doc! { "a": 2_i64 }]),
            }),
            _ => self.number(),
        }
    }

    pub(super) fn binary(&mut self) -> Binary {
        let subtype = self.pick(&[
            BinarySubtype::Generic,
            BinarySubtype::Generic,
            BinarySubtype::BinaryOld,
            BinarySubtype::UserDefined(0x80),
        ]);
        let bytes: &[&[u8]] = &[
            &[],
            &[0],
            &[1],
            &[5],
            &[255],
            &[0, 1],
            &[1, 0],
            &[255; 8],
            &[255; 9],
            &[5, 0, 0, 0],
            &[1, 0, 0, 0, 5],
        ];
        Binary { subtype, bytes: self.pick(bytes).to_vec() }
    }
}
