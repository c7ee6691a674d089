//! How an input is taken apart.

/// Ends a part. No byte of UTF-8 has this value.
const END: u8 = 0xff;

/// The parts of an input that holds several.
pub fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == END)
}

/// The parts that are text.
pub fn texts(data: &[u8]) -> impl Iterator<Item = &str> {
    parts(data).filter_map(|part| std::str::from_utf8(part).ok())
}

/// The first byte, which chooses among ways to read the rest.
pub fn choice(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}
