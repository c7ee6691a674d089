//! Key sets of identity providers, read over the network.

use shared::{
    jwks::{KeySet, Material},
    token::{Algorithm, Family},
};

/// Reads a key set, and lets every algorithm choose a key.
pub fn run(data: &[u8]) {
    let set = match KeySet::parse(data) {
        Ok(set) => set,
        Err(fault) => return assert!(fault.starts_with("key set"), "{fault}"),
    };
    for algorithm in Algorithm::ALL {
        for kid in [None, Some("1"), Some("2"), Some("k"), Some("../../etc/passwd"), Some("")] {
            let Ok(key) = set.choose(*algorithm, kid) else { continue };
            let family = match key.material() {
                Material::Hmac(_) => panic!("a key set holds a shared secret"),
                Material::Rsa { n, e } => {
                    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
                    assert!((2048..=8192).contains(&bits), "{bits} bits");
                    assert!(e.len() <= 4 && e[0] != 0 && e[e.len() - 1] % 2 == 1 && e.as_slice() != [1]);
                    Family::Rsa
                }
                Material::P256 { x, y } => {
                    assert_eq!((x.len(), y.len()), (32, 32));
                    Family::P256
                }
                Material::Ed25519 { x } => {
                    assert_eq!(x.len(), 32);
                    Family::Ed25519
                }
            };
            assert_eq!(family, algorithm.family(), "the key fits the algorithm");
            assert!(!format!("{key:?}").contains('['), "no bytes of a key in a log");
        }
    }
}
