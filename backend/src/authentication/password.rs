//! Hashes of passwords: bcrypt, as RESTHeart stores them, and argon2id.

use argon2::{Argon2, PasswordVerifier, password_hash::phc};

/// A hash that a password can be compared with; made only by [`PasswordHash::parse`].
#[derive(Clone, PartialEq, Eq)]
pub(super) enum PasswordHash {
    Bcrypt(String),
    Argon2id(String),
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// What is compared with while no user's hash is known: a hash of nothing in particular, at the cost that RESTHeart uses.
const STAND_IN: &str = "$2b$12$8wLAuRGTbs7i7B/E4cGL7eFkxEc9F9NeNpyQxoeZkTnaCStEVcxGq";

impl PasswordHash {
    /// Reads `$2a$…`, `$2b$…`, `$2y$…` (bcrypt), or `$argon2id$…` in the PHC string format.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return text.parse::<bcrypt::HashParts>().ok().map(|_| Self::Bcrypt(text.to_owned()));
        }
        let hash = phc::PasswordHash::new(text).ok()?;
        let whole = hash.algorithm.as_str() == "argon2id" && hash.hash.is_some();
        whole.then(|| Self::Argon2id(text.to_owned()))
    }

    /// What costs as much as the hash of somebody, and belongs to nobody.
    pub(super) fn stand_in() -> Self {
        Self::Bcrypt(STAND_IN.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Bcrypt(text) | Self::Argon2id(text) => text,
        }
    }

    /// Whether it is this password's. Takes a tenth of a second or more, by design.
    pub(super) fn fits(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2id(hash) => phc::PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bcrypt_of_every_spelling_and_argon2id_are_compared() {
        let bcrypt = bcrypt::hash("pass:wörd", 4).expect("a hash");
        let [a, y] = ["$2a$", "$2y$"].map(|prefix| bcrypt.replacen("$2b$", prefix, 1));
        let argon2 = argon2id("pass:wörd");
        for text in [&bcrypt, &a, &y, &argon2] {
            let hash = PasswordHash::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert!(hash.fits("pass:wörd"), "{text}");
            assert!(!hash.fits("pass:wörd2") && !hash.fits(""), "{text}");
            assert_eq!(format!("{hash:?}"), "…");
        }
        assert!(PasswordHash::parse(STAND_IN).is_some());
    }

    #[test]
    fn what_is_no_such_hash_is_none() {
        for text in [
            "",
            "secret",
            "$2b$",
            "$2b$12$short",
            "$argon2id$",
            "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
            "$1$x",
        ] {
            assert_eq!(PasswordHash::parse(text), None, "{text}");
        }
    }

    fn argon2id(password: &str) -> String {
        use argon2::{Params, PasswordHasher};
        let params = Params::new(8, 1, 1, None).expect("parameters");
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        argon2.hash_password_with_salt(password.as_bytes(), b"a salt of bytes!").expect("a hash").to_string()
    }
}
