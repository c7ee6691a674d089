//! Regular expressions: those that PCRE and Rust read alike, and those that they do not.

use bson::Regex;

use super::Random;

impl Random {
    /// A pattern with options.
    pub(super) fn pattern(&mut self) -> Regex {
        let mut pattern = String::new();
        if self.chance(30) {
            pattern.push('^');
        }
        pattern.push_str(&self.alternatives(2));
        if self.chance(25) {
            pattern.push('$');
        }
        let options = self.options();
        Regex { pattern: pattern.try_into().expect("no NUL"), options: options.try_into().expect("no NUL") }
    }

    pub(super) fn options(&mut self) -> String {
        let options = if self.chance(60) {
            ""
        } else {
            self.pick(&["i", "m", "s", "x", "im", "is", "ims", "imsx", "u"])
        };
        options.to_owned()
    }

    fn alternatives(&mut self, depth: usize) -> String {
        let count = if self.chance(80) { 1 } else { 2 };
        self.some(count, count, |random| random.sequence(depth)).join("|")
    }

    fn sequence(&mut self, depth: usize) -> String {
        self.some(0, 3, |random| {
            let atom = random.atom(depth);
            let repeat = if random.chance(70) {
                ""
            } else {
                random.pick(&["*", "+", "?", "*?", "+?", "{2}", "{1,2}", "{,2}", "{1,}", "*+", "{"])
            };
            format!("{atom}{repeat}")
        })
        .concat()
    }

    fn atom(&mut self, depth: usize) -> String {
        match self.below(12) {
            0 if depth > 0 => format!("({})", self.alternatives(depth - 1)),
            1 if depth > 0 => format!("(?:{})", self.alternatives(depth - 1)),
            2 => self
                .pick(&[
                    "[ab]",
                    "[^a]",
                    "[a-c]",
                    "[A-Z]",
                    "[a-zé]",
                    "[^é]",
                    "[\\d_]",
                    "[\\w-]",
                    "[^\\s]",
                    "[.]",
                    "[]a]",
                    "[[:alpha:]]",
                    "[a&&b]",
                    "[a-]",
                    "[\\n]",
                    "[a[b]",
                    "[s]",
                    "[^S]",
                    "[a~~b]",
                    "[--a]",
                    "[k]",
                ])
                .to_owned(),
            3 => self
                .pick(&[
                    "\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\b", "\\B", "\\n", "\\.", "\\$", "\\x41",
                    "\\A", "\\z", "\\Z", "\\Q.\\E", "\\pL", "\\h", "\\R", "\\1", "\\t", "\\-", "\\_", "\\#",
                    "\\ ", "\\<", "\\é",
                ])
                .to_owned(),
            4 => ".".to_owned(),
            5 => self
                .pick(&[
                    "^", "$", "(?i)", "(?=a)", "(?!a)", "(?<n>a)", "(?P<n>a)", "(?i:a)", "(?s-i:.)",
                    "(?x) a", "(?#c)", "(?>a)", "#", " ", "(?m)", "}", "]", "(?|a)", "(?u:a)", "(?-u:a)",
                    "(?R:a)", "(?U)a*",
                ])
                .to_owned(),
            _ => self
                .pick(&["a", "b", "c", "A", "é", "s", "ſ", "k", "1", "\n", "x", "σ", "É", "S", "K"])
                .to_owned(),
        }
    }
}
