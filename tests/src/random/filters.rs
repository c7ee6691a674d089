//! Filters.

use bson::{Bson, Document, bson};

use super::Random;

const PATHS: &[&str] = &[
    "a", "b", "c", "a", "b", "a.b", "a.c", "b.a", "a.0", "a.1", "b.0", "a.b.c", "a.0.b", "a.b.0", "a.0.0",
    "a.1.b", "b.0.1", "a.0.1.b", "a.00", "a.a.a", "c.b.1.a", "d", "d.a", "a.0.0.0", "b.b",
];

const FIELDS: &[&str] = &["$a", "$b", "$c", "$a.b", "$b.a", "$a.0", "$a.b.c", "$d", "$a.b.0"];

impl Random {
    /// A filter whose values are often some that these documents hold.
    pub fn filter(&mut self, documents: &[Document]) -> Document {
        self.filter_of(documents, 2)
    }

    fn filter_of(&mut self, documents: &[Document], depth: usize) -> Document {
        let mut filter = Document::new();
        let members = if self.chance(80) { 1 } else { 2 };
        for _ in 0..members {
            if depth > 0 && self.chance(20) {
                let filters = self.some(1, 3, |random| random.filter_of(documents, depth - 1));
                filter.insert(self.pick(&["$and", "$or", "$nor"]), filters);
            } else if self.chance(8) {
                filter.insert("$expr", self.expression(documents, 3));
            } else {
                filter.insert(self.pick(PATHS), self.condition(documents, 2));
            }
        }
        filter
    }

    fn condition(&mut self, documents: &[Document], depth: usize) -> Bson {
        match self.below(100) {
            0..15 => self.operand(documents),
            15..20 => Bson::RegularExpression(self.pattern()),
            _ => Bson::Document(self.operators(documents, depth)),
        }
    }

    fn operators(&mut self, documents: &[Document], depth: usize) -> Document {
        let mut operators = Document::new();
        let count = if self.chance(75) { 1 } else { 2 };
        for _ in 0..count {
            self.operator(documents, depth, &mut operators);
        }
        operators
    }

    fn operator(&mut self, documents: &[Document], depth: usize, operators: &mut Document) {
        match self.below(100) {
            0..40 => {
                let name = self.pick(&["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]);
                operators.insert(name, self.operand(documents));
            }
            40..52 => {
                let values = self.some(0, 3, |random| {
                    if random.chance(12) {
                        Bson::RegularExpression(random.pattern())
                    } else {
                        random.operand(documents)
                    }
                });
                operators.insert(self.pick(&["$in", "$nin"]), values);
            }
            52..57 => {
                let yes = self.pick(&[bson!(true), bson!(false), bson!(1), bson!(0.0), Bson::Null]);
                operators.insert("$exists", yes);
            }
            57..62 => {
                operators.insert("$type", self.types());
            }
            62..66 => {
                let size = self.pick(&[bson!(0), bson!(1), bson!(2_i64), bson!(1.0), bson!(1.5), bson!(-1)]);
                operators.insert("$size", size);
            }
            66..71 => {
                let divisor = self.pick(&[
                    bson!(2),
                    bson!(3),
                    bson!(-2),
                    bson!(2.0),
                    bson!(0),
                    bson!(1),
                    bson!(-1),
                    bson!(2.5),
                ]);
                let remainder = self.pick(&[bson!(0), bson!(1), bson!(-1), bson!(1_i64), bson!(1.0)]);
                operators.insert("$mod", vec![divisor, remainder]);
            }
            71..77 => {
                let pattern = self.pattern();
                if self.chance(50) {
                    operators.insert("$regex", pattern.pattern.to_string());
                    if self.chance(50) {
                        operators.insert("$options", self.options());
                    }
                } else {
                    operators.insert("$regex", Bson::RegularExpression(pattern));
                }
            }
            77..82 => {
                let name = self.pick(&["$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"]);
                operators.insert(name, self.bits());
            }
            82..87 => {
                let all = if depth > 0 && self.chance(25) {
                    self.some(1, 2, |random| bson!({"$elemMatch": random.elem_match(documents, depth - 1)}))
                } else {
                    self.some(0, 3, |random| random.all_member(documents))
                };
                operators.insert("$all", all);
            }
            87..94 if depth > 0 => {
                operators.insert("$elemMatch", self.elem_match(documents, depth - 1));
            }
            _ if depth > 0 => {
                let not = if self.chance(20) {
                    Bson::RegularExpression(self.pattern())
                } else {
                    Bson::Document(self.operators(documents, depth - 1))
                };
                operators.insert("$not", not);
            }
            _ => {
                operators.insert("$eq", self.operand(documents));
            }
        }
    }

    fn all_member(&mut self, documents: &[Document]) -> Bson {
        if self.chance(10) { Bson::RegularExpression(self.pattern()) } else { self.operand(documents) }
    }

    fn elem_match(&mut self, documents: &[Document], depth: usize) -> Document {
        if self.chance(50) { self.operators(documents, depth) } else { self.filter_of(documents, depth) }
    }

    fn types(&mut self) -> Bson {
        const TYPES: &[&str] = &[
            "double",
            "string",
            "object",
            "array",
            "binData",
            "undefined",
            "objectId",
            "bool",
            "date",
            "null",
            "regex",
            "javascript",
            "symbol",
            "javascriptWithScope",
            "int",
            "timestamp",
            "long",
            "decimal",
            "minKey",
            "maxKey",
            "number",
            "missing",
        ];
        match self.below(4) {
            0 => bson!(self.pick(&[-1, 0, 1, 2, 3, 4, 5, 6, 8, 10, 16, 18, 19, 20, 127, 128])),
            1 => bson!(self.pick(&[1.0, 16.0, 2.5])),
            2 => bson!(self.pick(TYPES)),
            _ => self.some(0, 2, |random| bson!(random.pick(TYPES))).into(),
        }
    }

    fn bits(&mut self) -> Bson {
        match self.below(4) {
            0 => Bson::Binary(self.binary()),
            1 => self.some(0, 3, |random| bson!(random.pick(&[0, 1, 2, 7, 8, 35, 62, 63, 64, 100]))).into(),
            2 => self.pick(&[
                bson!(0),
                bson!(1),
                bson!(5_i64),
                bson!(3.0),
                bson!(-1),
                bson!(i64::MAX),
                bson!(1.5),
            ]),
            _ => bson!(self.pick(&[1, 2, 3, 4, 7])),
        }
    }

    /// A value to compare with: one out of a document, or any.
    pub(super) fn operand(&mut self, documents: &[Document]) -> Bson {
        if documents.is_empty() || self.chance(40) {
            return self.value(2);
        }
        let mut value = Bson::Document(documents[self.below(documents.len())].clone());
        for step in 0..4 {
            let inner: Vec<Bson> = match &value {
                Bson::Document(document) => document.values().cloned().collect(),
                Bson::Array(values) => values.clone(),
                _ => break,
            };
            if inner.is_empty() || step > 0 && self.chance(40) {
                break;
            }
            value = self.pick(&inner);
        }
        value
    }

    fn expression(&mut self, documents: &[Document], depth: usize) -> Bson {
        match self.below(100) {
            0..60 => {
                let name = self.pick(&["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]);
                let sides = [self.side(documents, depth), self.side(documents, depth)];
                bson!({name: sides.to_vec()})
            }
            60..75 if depth > 0 => {
                let name = self.pick(&["$and", "$or"]);
                bson!({name: self.some(0, 3, |random| random.expression(documents, depth - 1))})
            }
            75..85 if depth > 0 => {
                let inner = self.expression(documents, depth - 1);
                if self.chance(50) { bson!({"$not": inner}) } else { bson!({"$not": [inner]}) }
            }
            _ => self.side(documents, depth),
        }
    }

    fn side(&mut self, documents: &[Document], depth: usize) -> Bson {
        match self.below(100) {
            0..55 => bson!(self.pick(FIELDS)),
            55..80 => bson!({"$literal": self.operand(documents)}),
            80..90 => self.pick(&[
                bson!(1),
                bson!("a"),
                Bson::Null,
                bson!(true),
                bson!(0),
                bson!({"b": "$a"}),
                bson!(["$a", 1]),
                bson!([1, ["a"]]),
                bson!([]),
            ]),
            90..95 if depth > 0 => self.expression(documents, depth - 1),
            _ => self.pick(&[
                bson!("$$ROOT.a"),
                bson!("$$CURRENT"),
                bson!({"$const": 1}),
                bson!("$$REMOVE"),
                bson!({}),
            ]),
        }
    }
}
