//! The corpora, run through their targets: what was found once is never found again.

use std::path::{Path, PathBuf};

use tailrace_fuzz::TARGETS;

/// Deeper than the stack of a thread of the runtime is none of the server's.
const STACK: usize = 2 * 1024 * 1024;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|file| file.expect("a file").path()).collect()
}

#[test]
fn every_input_of_the_corpora_keeps_the_promises_of_its_target() {
    let mut broken = Vec::new();
    for &(target, run) in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{target} has a corpus");
        for file in files {
            let bytes = std::fs::read(&file).expect("it can be read");
            let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("below").display().to_string();
            let thread = std::thread::Builder::new().name(name.clone()).stack_size(STACK);
            if thread.spawn(move || run(&bytes)).expect("a thread").join().is_err() {
                broken.push(name);
            }
        }
    }
    assert!(broken.is_empty(), "each breaks a promise of its target: {}", broken.join(", "));
}

#[test]
fn every_corpus_has_a_target_and_every_target_a_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| {
        let entries = std::fs::read_dir(root.join(folder)).expect("the folder");
        let mut names: Vec<String> = entries
            .map(|entry| {
                Path::new(&entry.expect("an entry").file_name())
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("libfuzzer/targets"), targets);
}
