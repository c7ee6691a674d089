//! The order to send so many events.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

/// How long the events of a volley are waited for.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// So many events, so many together, and so long from the beginning of some to that of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Volley {
    pub(super) events: u32,
    pub(super) batch: u32,
    /// Zero: as fast as can be.
    pub(super) every: Duration,
}

impl Volley {
    /// Reads `volley <events> <batch> <microseconds>`; `None` for another order.
    pub(super) fn of_order(order: &str) -> Result<Option<Self>> {
        let Some(numbers) = order.strip_prefix("volley ") else { return Ok(None) };
        let numbers: Vec<u32> =
            numbers.split(' ').map(str::parse).collect::<Result<_, _>>().with_context(|| order.to_owned())?;
        let [events, batch, micros] = numbers[..] else { anyhow::bail!("{order}: expected three numbers") };
        Ok(Some(Self { events, batch: batch.max(1), every: Duration::from_micros(micros.into()) }))
    }

    /// Sends it, so many together as `send` is given.
    pub(super) async fn fire(self, mut send: impl AsyncFnMut(u32) -> Result<()>) -> Result<()> {
        let mut next = Instant::now();
        for events in self.batches() {
            send(events).await?;
            next = Instant::max(next + self.every, Instant::now());
            tokio::time::sleep_until(next).await;
        }
        Ok(())
    }

    /// How many there are in each that go together.
    pub(super) fn batches(self) -> impl Iterator<Item = u32> {
        let Self { events, batch, .. } = self;
        (0..events.div_ceil(batch)).map(move |number| batch.min(events - number * batch))
    }
}

/// A text of this length, and no shorter than it must be, with the time of its writing in microseconds since 1970.
pub(super) fn event(at: u64, bytes: usize) -> String {
    let mut text = format!("{{\"fullDocument\":{{\"at\":{at},\"padding\":\"");
    let padding = bytes.saturating_sub(text.len() + 3);
    text.extend(std::iter::repeat_n('x', padding));
    text.push_str("\"}}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volley_is_cut_into_batches_and_the_last_may_be_smaller() {
        let volley = Volley::of_order("volley 20 8 500").unwrap().expect("a volley");
        assert_eq!((volley.events, volley.every), (20, Duration::from_micros(500)));
        assert_eq!(volley.batches().collect::<Vec<_>>(), [8, 8, 4]);
        assert_eq!(Volley::of_order("go").unwrap(), None);
        assert!(Volley::of_order("volley many").is_err());
    }
}
