//! The fan-out beside its floor: what a delivery costs the server, and what it costs to do nothing but `send()`.
//!
//! Both send the same to the same kind of clients. Paced, what is compared is processor time: other than deliveries a second
//! it does not depend on what else the machine does meanwhile, and each batch goes out by itself. In a burst it is deliveries
//! a second, and the server may gather what waits.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::Server;
use super::fan::{Fan, Waiting, ensure_busy};
use super::generator;
use super::report::Report;
use super::rounds::{Series, alternate, merged};

/// The least share of the floor that is promised.
const BOUND: f64 = 0.85;
/// The same where events wait, and go out together.
const BOUND_COALESCED: f64 = 0.70;

#[derive(Args)]
pub(super) struct Options {
    /// How many clients, one measurement each.
    #[arg(long, value_delimiter = ',', default_values_t = [1000])]
    pub(super) clients: Vec<u32>,
    /// Events that come together, and go out in one `send()`, one measurement each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    batch: Vec<u32>,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long events come with a pause between, in a round: longer where it takes longer to send ten batches.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Deliveries in the burst of a round.
    #[arg(long, default_value_t = 400_000)]
    deliveries: u32,
    /// Lets the clients sleep until something comes, and charges who sends with waking them.
    #[arg(long)]
    sleeping: bool,
}

/// Measures in rounds that alternate.
pub(super) async fn run(server: &Server, options: Options) -> Result<()> {
    let program = generator::build()?;
    let mut missed = Vec::new();
    for &clients in &options.clients {
        let mut tailrace = Fan::of_server(&program, server, &format!("fanout{clients}"), clients).await?;
        // As large as the events of the server are.
        let bytes = tailrace.frame_bytes().await?;
        let mut floor = Fan::floor(&program, clients, bytes).await?;
        let waiting = if options.sleeping { Waiting::Asleep } else { Waiting::Awake };
        (tailrace.waiting, floor.waiting) = (waiting, waiting);
        for &batch in &options.batch {
            let series = alternate(options.rounds, ["floor", "Tailrace"], async |way| {
                let fan = if way == 0 { &mut floor } else { &mut tailrace };
                let paced = fan.paced(batch, Duration::from_secs(options.seconds)).await?;
                Ok(merged(paced, fan.burst(batch, options.deliveries).await?))
            })
            .await?;
            missed.extend(report(&series, clients, batch, bytes, &options)?);
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

/// Says and writes what was measured; what of it is less than was promised, or is not to be relied on.
fn report(
    series: &[Series; 2],
    clients: u32,
    batch: u32,
    bytes: u32,
    options: &Options,
) -> Result<Vec<String>> {
    let [floor, tailrace] = series;
    let cost = "cpu_us_per_delivery";
    let speed = "deliveries_per_second";
    let of_cost = floor.median(cost) / tailrace.median(cost);
    let of_speed = tailrace.median(speed) / floor.median(speed);
    let bound = if batch == 1 { BOUND } else { BOUND_COALESCED };
    for series in series {
        println!(
            "{}: {:.2} µs of processor time a delivery, p50 {:.1} ms, p99 {:.1} ms; in a burst {:.0} deliveries a second, \
             {:.1} events a read",
            series.name,
            series.median(cost),
            series.median("p50_ms"),
            series.median("p99_ms"),
            series.median(speed),
            series.median("events_per_read"),
        );
    }
    let said = format!(
        "fanout, {clients} clients, {batch} at a time: {of_cost:.2} of the floor by processor time, {of_speed:.2} by deliveries \
         a second; {bound} is promised"
    );
    println!("{said}");
    let (suffix, awake) =
        if options.sleeping { ("-sleeping", "") } else { ("", " and do not sleep meanwhile") };
    let name = format!("fanout-{clients}x{batch}{suffix}");
    let report = Report {
        name: &name,
        method: format!(
            "{clients} WebSockets, events in frames of {bytes} bytes, {batch} at a time. A round is {} s of events with pauses \
             between, or ten batches, and a burst of {} deliveries; {} rounds each way, in turn. The floor is one thread that sends these \
             frames, {batch} in one send(), and nothing else. The sender runs on core 0 alone, the clients, MongoDB, and who \
             writes on core 1, where the clients come last{awake}. Processor time is that of the sending process, user and \
             system, divided by the events that clients have read. In a burst all events are inserted at once, and the server \
             gathers what waits.",
            options.seconds, options.deliveries, options.rounds,
        ),
        series,
        figures: &[
            cost,
            speed,
            "events_per_read",
            "cpu_us_per_delivery_in_burst",
            "sender_share_of_core",
            "load_share_of_core",
            "p50_ms",
            "p99_ms",
        ],
        results: json!({
            "share_of_floor": of_cost,
            "share_of_floor_in_burst": of_speed,
            "bound": bound,
        }),
        plotted: (cost, "µs"),
    };
    report.write()?;
    let held_up = ensure_busy(floor).err().map(|error| format!("{name}: {error}"));
    let missed = (of_cost < bound || of_speed < bound).then_some(said);
    Ok(missed.into_iter().chain(held_up).collect())
}
