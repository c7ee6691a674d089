//! Regular expressions, as far as PCRE (what MongoDB has) and Rust's `regex` mean the same by them.
//!
//! The pattern is read here and written anew, so that nothing rests on what the two happen to share: classes are ASCII as
//! in PCRE, case is folded here, and an end (`$`) is before a last line break too. What is not in this grammar is not
//! supported: look-around, backreferences, possessive and atomic parts, named groups, options inside of the pattern,
//! POSIX and Unicode classes, and the option `x`.

use std::fmt::Write as _;

use regex::Regex;

use super::Unsupported;

/// The most repetitions that are written as a number.
const MAX_REPEATS: u32 = 100;
/// How deep groups may be nested.
const MAX_DEPTH: usize = 20;
/// The largest compiled pattern, and the most that it may remember while it searches, in bytes: each client may bring its
/// own.
const MAX_COMPILED: usize = 1 << 18;

/// A regular expression with its options, compiled.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    source: String,
    options: String,
}

impl Pattern {
    /// Compiles a pattern with the options of MongoDB: `i`, `m`, `s`.
    pub(super) fn compile(source: &str, options: &str) -> Result<Self, Unsupported> {
        if let Some(option) = options.chars().find(|option| !matches!(option, 'i' | 'm' | 's')) {
            return Err(Unsupported::new(format!("the option {option} is not evaluated here")));
        }
        let mut reader = Reader { rest: source, ignores_case: options.contains('i'), depth: 0 };
        let alternatives = reader.alternatives()?;
        if !reader.rest.is_empty() {
            return Err(Unsupported::new("a group that is closed twice"));
        }
        let mut writer =
            Writer { out: String::new(), lines: options.contains('m'), dot_all: options.contains('s') };
        writer.alternatives(&alternatives, true)?;
        let regex = regex::RegexBuilder::new(&writer.out)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .map_err(|_| Unsupported::new("a pattern that is too large to be evaluated here"))?;
        Ok(Self { regex, source: source.to_owned(), options: options.to_owned() })
    }

    /// Whether it finds itself in `text`.
    pub(super) fn finds(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Whether a stored regular expression is this very one.
    pub(super) fn is(&self, source: &str, options: &str) -> bool {
        self.source == source && self.options == options
    }
}

enum Atom {
    /// One character of a set, written for `regex`.
    Set(String),
    Any,
    Start,
    End,
    StartOfText,
    EndOfText,
    WordBoundary,
    Group(Vec<Vec<Piece>>),
}

struct Piece {
    atom: Atom,
    from: u32,
    /// None: any number of times.
    to: Option<u32>,
}

impl Piece {
    fn is_once(&self) -> bool {
        (self.from, self.to) == (1, Some(1))
    }
}

struct Reader<'a> {
    rest: &'a str,
    ignores_case: bool,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn take(&mut self, text: &str) -> bool {
        self.rest.strip_prefix(text).map(|rest| self.rest = rest).is_some()
    }

    fn alternatives(&mut self) -> Result<Vec<Vec<Piece>>, Unsupported> {
        let mut alternatives = vec![self.sequence()?];
        while self.take("|") {
            alternatives.push(self.sequence()?);
        }
        Ok(alternatives)
    }

    fn sequence(&mut self) -> Result<Vec<Piece>, Unsupported> {
        let mut pieces = Vec::new();
        while self.peek().is_some_and(|next| !matches!(next, '|' | ')')) {
            let atom = self.atom()?;
            let (from, to) = self.repeats()?;
            let piece = Piece { atom, from, to };
            match piece.atom {
                Atom::Set(_) | Atom::Any => {}
                // PCRE gives up where many repetitions of a group nest too deep in it.
                Atom::Group(_) if to.is_some() => {}
                Atom::Group(_) => return Err(Unsupported::new("a group that is repeated without a limit")),
                _ if piece.is_once() => {}
                _ => return Err(Unsupported::new("a repeated place")),
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }

    fn atom(&mut self) -> Result<Atom, Unsupported> {
        Ok(match self.next() {
            Some('.') => Atom::Any,
            Some('^') => Atom::Start,
            Some('$') => Atom::End,
            Some('(') => {
                if self.rest.starts_with(['?', '*']) && !self.take("?:") {
                    return Err(Unsupported::new("a special group is not evaluated here"));
                }
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(Unsupported::new("groups that are nested too deep"));
                }
                let alternatives = self.alternatives()?;
                if !self.take(")") {
                    return Err(Unsupported::new("a group that is not closed"));
                }
                self.depth -= 1;
                Atom::Group(alternatives)
            }
            Some('[') => Atom::Set(self.class()?),
            Some('\\') => match self.next() {
                Some('A') => Atom::StartOfText,
                Some('z') => Atom::EndOfText,
                Some('b') => Atom::WordBoundary,
                escaped => match class_escape(escaped) {
                    Some((items, negated)) => {
                        Atom::Set(format!("[{}{items}]", if negated { "^" } else { "" }))
                    }
                    None => self.set(escaped_char(escaped)?)?,
                },
            },
            Some('*' | '+' | '?' | '{') | None => {
                return Err(Unsupported::new("a repetition of nothing, or a brace that is none"));
            }
            Some(char) => self.set(char)?,
        })
    }

    fn set(&self, char: char) -> Result<Atom, Unsupported> {
        let mut items = String::new();
        self.item(&mut items, char, char)?;
        Ok(Atom::Set(format!("[{items}]")))
    }

    /// Adds the characters from `first` to `last`, in both cases where case is ignored.
    fn item(&self, items: &mut String, first: char, last: char) -> Result<(), Unsupported> {
        if first > last {
            return Err(Unsupported::new("a range that ends before it begins"));
        }
        // Writing to a String does not fail.
        let _ = write!(items, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(first), u32::from(last));
        if !self.ignores_case {
            return Ok(());
        }
        if first != last && !last.is_ascii() {
            return Err(Unsupported::new("a range beyond ASCII whose case is ignored"));
        }
        for char in first..=last {
            for other in other_cases(char)? {
                let _ = write!(items, "\\x{{{:x}}}", u32::from(other));
            }
        }
        Ok(())
    }

    /// What stands in brackets, behind the first one.
    fn class(&mut self) -> Result<String, Unsupported> {
        let negated = self.take("^");
        let mut items = String::new();
        let mut is_first = true;
        loop {
            let first = match self.next() {
                None => return Err(Unsupported::new("a class that is not closed")),
                Some(']') if is_first => return Err(Unsupported::new("a class that begins with ]")),
                Some(']') => break,
                Some('[') if self.rest.starts_with([':', '.', '=']) => {
                    return Err(Unsupported::new("a POSIX class is not evaluated here"));
                }
                Some('-') if !is_first && !self.rest.starts_with(']') => {
                    return Err(Unsupported::new("a - inside of a class, expected \\-"));
                }
                Some('\\') => {
                    let escaped = self.next();
                    if let Some((class, class_is_negated)) = class_escape(escaped) {
                        if class_is_negated || self.ignores_case && escaped == Some('w') {
                            return Err(Unsupported::new("such a class inside of a class"));
                        }
                        items.push_str(class);
                        if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                            return Err(Unsupported::new("a - behind a class, expected \\-"));
                        }
                        is_first = false;
                        continue;
                    }
                    escaped_char(escaped)?
                }
                Some(char) => char,
            };
            is_first = false;
            let mut last = first;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                last = match self.next() {
                    Some('\\') => escaped_char(self.next())?,
                    Some('[') | None => return Err(Unsupported::new("a range without an end")),
                    Some(char) => char,
                };
            }
            self.item(&mut items, first, last)?;
        }
        Ok(format!("[{}{items}]", if negated { "^" } else { "" }))
    }

    fn repeats(&mut self) -> Result<(u32, Option<u32>), Unsupported> {
        let repeats = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let expected = || Unsupported::new("a repetition other than {n}, {n,}, or {n,m}");
                let (inside, _) = self.rest[1..].split_once('}').ok_or_else(expected)?;
                let number = |text: &str| {
                    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                    let number = is_number.then(|| text.parse().ok()).flatten();
                    number.filter(|number| *number <= MAX_REPEATS).ok_or_else(expected)
                };
                let repeats = match inside.split_once(',') {
                    None => (number(inside)?, Some(number(inside)?)),
                    Some((from, "")) => (number(from)?, None),
                    Some((from, to)) => (number(from)?, Some(number(to)?)),
                };
                if repeats.1.is_some_and(|to| to < repeats.0) {
                    return Err(expected());
                }
                self.rest = &self.rest[inside.len() + 1..];
                repeats
            }
            _ => return Ok((1, Some(1))),
        };
        self.next();
        // How greedy it is does not change whether there is a match; being possessive does.
        self.take("?");
        if self.rest.starts_with(['*', '+', '?']) {
            return Err(Unsupported::new("a repetition of a repetition"));
        }
        Ok(repeats)
    }
}

/// The characters of `\d` and its like, and whether all others are meant.
fn class_escape(escaped: Option<char>) -> Option<(&'static str, bool)> {
    Some(match escaped? {
        'd' => ("0-9", false),
        'D' => ("0-9", true),
        'w' => ("0-9A-Za-z_", false),
        'W' => ("0-9A-Za-z_", true),
        's' => ("\\t-\\r ", false),
        'S' => ("\\t-\\r ", true),
        _ => return None,
    })
}

fn escaped_char(escaped: Option<char>) -> Result<char, Unsupported> {
    match escaped {
        Some('n') => Ok('\n'),
        Some('r') => Ok('\r'),
        Some('t') => Ok('\t'),
        Some(char) if char.is_ascii_punctuation() || char == ' ' => Ok(char),
        _ => Err(Unsupported::new("an escape that is not evaluated here")),
    }
}

/// The other characters that are the same letter. Beyond Latin-1 versions of Unicode differ.
fn other_cases(char: char) -> Result<Vec<char>, Unsupported> {
    let flipped = || char::from_u32(u32::from(char) ^ 0x20).unwrap_or(char);
    match char {
        'k' | 'K' => Ok(vec![flipped(), '\u{212a}']),
        's' | 'S' => Ok(vec![flipped(), '\u{17f}']),
        'a'..='z' | 'A'..='Z' => Ok(vec![flipped()]),
        _ if char.is_ascii() => Ok(Vec::new()),
        // Without å, ß, and ÿ, and the two signs among the letters.
        'à'..='þ' | 'À'..='Þ' if !matches!(char, 'å' | 'Å' | '÷' | '×') => Ok(vec![flipped()]),
        _ => Err(Unsupported::new("a character beyond ASCII whose case is ignored")),
    }
}

struct Writer {
    out: String,
    /// The option `m`.
    lines: bool,
    /// The option `s`.
    dot_all: bool,
}

impl Writer {
    /// Writes alternatives; `last` where nothing follows them.
    fn alternatives(&mut self, alternatives: &[Vec<Piece>], last: bool) -> Result<(), Unsupported> {
        for (index, pieces) in alternatives.iter().enumerate() {
            if index > 0 {
                self.out.push('|');
            }
            for (place, piece) in pieces.iter().enumerate() {
                let rest = &pieces[place + 1..];
                self.piece(piece, rest, last && rest.is_empty())?;
            }
        }
        Ok(())
    }

    fn piece(&mut self, piece: &Piece, rest: &[Piece], last: bool) -> Result<(), Unsupported> {
        match &piece.atom {
            Atom::Set(set) => self.out.push_str(set),
            Atom::Any => self.out.push_str(if self.dot_all { "(?s:.)" } else { "[^\\n]" }),
            Atom::StartOfText => self.out.push_str("\\A"),
            Atom::EndOfText => self.out.push_str("\\z"),
            Atom::WordBoundary => self.out.push_str("(?-u:\\b)"),
            Atom::Start if !self.lines => self.out.push_str("\\A"),
            Atom::Start => {
                // PCRE finds no line behind the line break that ends a text.
                let consumes = rest
                    .first()
                    .is_some_and(|next| matches!(next.atom, Atom::Set(_) | Atom::Any) && next.from > 0);
                if !consumes {
                    return Err(Unsupported::new("with the option m a ^ that no character follows"));
                }
                self.out.push_str("(?m:^)");
            }
            Atom::End if self.lines => self.out.push_str("(?m:$)"),
            Atom::End if last => self.out.push_str("\\n?\\z"),
            Atom::End => return Err(Unsupported::new("a $ that is not last")),
            Atom::Group(alternatives) => {
                self.out.push_str("(?:");
                self.alternatives(alternatives, last && piece.is_once())?;
                self.out.push(')');
            }
        }
        if !piece.is_once() {
            let to = piece.to.map(|to| to.to_string()).unwrap_or_default();
            let _ = write!(self.out, "{{{},{to}}}", piece.from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[track_caller]
    fn assert_finds(source: &str, options: &str, yes: &[&str], no: &[&str]) {
        let pattern = Pattern::compile(source, options).unwrap();
        for text in yes {
            assert!(pattern.finds(text), "/{source}/{options} does not find itself in {text:?}");
        }
        for text in no {
            assert!(!pattern.finds(text), "/{source}/{options} finds itself in {text:?}");
        }
    }

    #[test]
    fn classes_are_ascii_as_in_pcre() {
        assert_finds("^\\w$", "", &["a", "_", "9"], &["é", ""]);
        assert_finds("\\d", "", &["a1"], &["٣"]);
        assert_finds("^\\s$", "", &["\u{b}", " "], &["\u{a0}", "\u{85}"]);
        assert_finds("^[\\d_-]+$", "", &["1_2-3"], &["a"]);
        assert_finds("a\\b", "", &["a", "aé"], &["ab"]);
    }

    #[test]
    fn an_end_is_before_the_last_line_break_too() {
        assert_finds("a$", "", &["a", "a\n"], &["a\nb", "a\n\n"]);
        assert_finds("a$", "m", &["a\nb"], &["ab"]);
        assert_finds("a\\z", "", &["a"], &["a\n"]);
        assert_finds("^b", "m", &["a\nb"], &["ab"]);
        assert_finds("^b", "", &["b"], &["a\nb"]);
    }

    #[test]
    fn a_dot_is_no_line_break_without_the_option_s() {
        assert_finds("^.$", "", &["é", "\r"], &["\n"]);
        assert_finds("^.$", "s", &["\n"], &["ab"]);
    }

    #[test]
    fn case_is_folded_as_in_pcre() {
        assert_finds("^ki", "i", &["KI", "\u{212a}i"], &["li"]);
        assert_finds("^[a-z]$", "i", &["S", "ſ", "K"], &["é"]);
        assert_finds("^É$", "i", &["é"], &["e"]);
        assert_finds("^[^a]$", "i", &["b"], &["A"]);
    }

    #[test]
    fn whatever_the_two_read_differently_is_not_supported() {
        for source in [
            "(?=a)",
            "(?i)a",
            "a*+",
            "a**",
            "\\1",
            "\\pL",
            "[[:alpha:]]",
            "a$b",
            "(a*)*",
            "{2}",
            "a{,2}",
            "^*",
            "[]a]",
            "(a",
            "a)",
            "[b-a]",
            "\\h",
            "[a",
            "a{2}{3}",
            "a{101}",
            "\\",
            "[\\d-z]",
            "(*UCP)a",
            "\\Ea",
        ] {
            assert!(Pattern::compile(source, "").is_err(), "{source}");
        }
        for (source, options) in
            [("a", "x"), ("ß", "i"), ("σ", "i"), ("^", "m"), ("^a*", "m"), ("[\\w]", "i")]
        {
            assert!(Pattern::compile(source, options).is_err(), "/{source}/{options}");
        }
    }
}
