//! Random documents and filters that know the corners of MongoDB's comparison: small on purpose, so that they meet.

mod definitions;
mod filters;
mod patterns;
mod values;

pub use definitions::Change;

use bson::doc;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Makes documents and filters, the same ones for the same seed.
#[derive(Debug)]
pub struct Random {
    rng: StdRng,
    undefined: bool,
}

impl Random {
    /// The variable that asks for a seed, to see a failure again.
    pub const VARIABLE: &str = "TAILRACE_TEST_SEED";

    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), undefined: true }
    }

    /// With this seed, for the server at hand: from MongoDB 8.0 on `undefined` is no `null` any more.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn given(seed: u64, client: &mongodb::Client) -> Self {
        let info =
            client.database("admin").run_command(doc! { "buildInfo": 1 }).await.expect("MongoDB answers");
        let version = info.get_str("version").expect("its version");
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).expect("a number");
        Self { undefined: major < 8, ..Self::new(seed) }
    }

    /// The seed that the environment asks for, or one that nobody had before.
    pub fn given_seed() -> u64 {
        std::env::var(Self::VARIABLE).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random)
    }

    /// Yes in so many of a hundred cases.
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    /// One of these.
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())].clone()
    }

    /// Some, each made by `make`.
    fn some<T>(&mut self, from: usize, to: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.rng.random_range(from..=to);
        (0..count).map(|_| make(self)).collect()
    }
}
