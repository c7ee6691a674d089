//! Whether a file that was fetched is the one that was meant.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

/// An error when the file's SHA-256 is another than this one, in hexadecimal digits.
pub(crate) fn check(file: &Path, expected: &str) -> Result<()> {
    let mut digest = Sha256::new();
    let mut reader = fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    std::io::copy(&mut reader, &mut DigestWriter(&mut digest))?;
    let found = digest.finalize().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    ensure!(
        found == expected,
        "{} has the checksum {found}, and {expected} was expected: it is not used",
        file.file_name().unwrap_or_default().to_string_lossy()
    );
    Ok(())
}

struct DigestWriter<'a>(&'a mut Sha256);

impl std::io::Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_checksum_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("archive");
        fs::write(&file, "abc").unwrap();
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check(&file, right).unwrap();
        let error = check(&file, &right.replace('b', "c")).unwrap_err().to_string();
        assert!(error.starts_with("archive has the checksum ba7816bf"), "{error}");
    }
}
