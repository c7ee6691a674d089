//! `docs/threat-model.md` names the test of each promise; a test that it names is there.

use std::fs;
use std::path::{Path, PathBuf};

use tailrace_parts::workspace;

/// `attacks::a_name` is a test in `tests/tests/attacks.rs`, `shared::a_name` one anywhere in that crate.
fn sources(of: &str) -> Vec<PathBuf> {
    let end_to_end = workspace::root().join("tests/tests").join(of).with_extension("rs");
    if end_to_end.exists() {
        return vec![end_to_end];
    }
    let mut found = Vec::new();
    below(&workspace::root().join(of), &mut found);
    found
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let page = fs::read_to_string(workspace::root().join("docs/threat-model.md")).expect("the page");
    let names: Vec<(&str, &str)> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .filter(|(_, name)| {
            name.contains('_')
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
        })
        .collect();
    assert!(names.len() >= 40, "{} tests are named", names.len());
    let missing: Vec<String> = names
        .into_iter()
        .filter(|(of, name)| {
            let function = format!("fn {name}(");
            !sources(of)
                .iter()
                .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&function)))
        })
        .map(|(of, name)| format!("{of}::{name}"))
        .collect();
    assert!(missing.is_empty(), "the page names tests that are not there: {}", missing.join(", "));
}
