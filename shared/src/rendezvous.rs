//! Which backend serves a collection: rendezvous hashing, so that one node holds one collection's source, and a node
//! that comes or goes moves only its own share.

use sha2::{Digest, Sha256};

use crate::remote::Remote;

/// The backends of a deployment, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends(Vec<Remote>);

impl Backends {
    /// Reads base addresses, separated by commas or white space. The error says which one is wrong and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut backends: Vec<Remote> = Vec::new();
        for address in
            text.split(|c: char| c == ',' || c.is_whitespace()).filter(|address| !address.is_empty())
        {
            let backend = Remote::base(address).map_err(|fault| format!("{address}: {fault}"))?;
            if backends.contains(&backend) {
                return Err(format!("{address} is given twice"));
            }
            backends.push(backend);
        }
        if backends.is_empty() {
            return Err(
                "empty, expected one or more base addresses such as https://node-1.example".to_owned()
            );
        }
        Ok(Self(backends))
    }

    /// All backends, the one to ask first in front. `key` is what should stay on one node, as `db.collection`.
    pub fn order(&self, key: &str) -> Vec<&Remote> {
        let mut ranked: Vec<(u64, &Remote)> =
            self.0.iter().map(|backend| (weight(backend, key), backend)).collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.as_str().cmp(b.1.as_str())));
        ranked.into_iter().map(|(_, backend)| backend).collect()
    }
}

fn weight(backend: &Remote, key: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(backend.as_str().as_bytes());
    hash.update([0]); // no address holds a NUL, so the two parts cannot run into each other
    hash.update(key.as_bytes());
    hash.finalize().iter().take(8).fold(0, |weight, byte| weight << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn backends(count: usize) -> Backends {
        let list: Vec<String> = (0..count).map(|i| format!("https://node-{i}.example")).collect();
        Backends::parse(&list.join(", ")).unwrap()
    }

    #[test]
    fn a_collection_stays_on_its_node_when_another_one_goes() {
        let (five, four) = (backends(5), backends(4));
        for i in 0..500 {
            let key = format!("app.c{i}");
            let first = five.order(&key)[0];
            let moved = first.as_str() == "https://node-4.example";
            assert_eq!(five.order(&key)[usize::from(moved)], four.order(&key)[0], "{key}");
        }
    }

    #[test]
    fn collections_spread_over_all_nodes_whatever_the_order_of_the_list() {
        let three = backends(3);
        let turned = Backends(three.0.iter().rev().cloned().collect());
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..900 {
            let key = format!("app.c{i}");
            assert_eq!(three.order(&key), turned.order(&key));
            *counts.entry(three.order(&key)[0].as_str().to_owned()).or_insert(0) += 1;
        }
        assert!(counts.len() == 3 && counts.values().all(|count| (230..370).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_list_is_refused_with_the_address_that_is_wrong() {
        let fault = |text| Backends::parse(text).unwrap_err();
        assert_eq!(fault(" , "), "empty, expected one or more base addresses such as https://node-1.example");
        assert_eq!(
            fault("https://a.example http://b.example"),
            "http://b.example: http to another machine, expected an https address (http only on the loopback interface)"
        );
        assert_eq!(fault("https://a.example,https://a.example/"), "https://a.example/ is given twice");
    }
}
