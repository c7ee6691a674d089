//! The floor of a fan-out by itself: how fast one thread sends on this machine that does nothing else, and that the load takes
//! more than that.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::fan::{Fan, ensure_busy};
use super::generator;
use super::report::Report;
use super::rounds::alternate;

/// Events that go out in one `send()`, where they do so together.
const TOGETHER: u32 = 8;

#[derive(Args)]
pub(super) struct Options {
    /// How many clients, one measurement each.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 8000, 19_000])]
    clients: Vec<u32>,
    /// Bytes of a frame.
    #[arg(long, default_value_t = 300)]
    bytes: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Deliveries in a round.
    #[arg(long, default_value_t = 400_000)]
    deliveries: u32,
}

/// Measures in rounds that alternate.
pub(super) async fn run(options: Options) -> Result<()> {
    let Options { clients, bytes, rounds, deliveries } = options;
    let program = generator::build()?;
    for clients in clients {
        let mut floor = Fan::floor(&program, clients, bytes).await?;
        let series = alternate(rounds, ["one event a send()", "eight events a send()"], async |way| {
            floor.burst(if way == 0 { 1 } else { TOGETHER }, deliveries).await
        })
        .await?;
        for series in &series {
            println!(
                "floor, {clients} clients, {}: {:.0} deliveries a second, {:.2} µs of processor time each; the load would take \
                 {:.0} a second",
                series.name,
                series.median("deliveries_per_second"),
                series.median("cpu_us_per_delivery_in_burst"),
                series.median("load_drains_per_second"),
            );
        }
        let name = format!("floor-{clients}");
        let report = Report {
            name: &name,
            method: format!(
                "One thread on core 0 that sends frames of {bytes} bytes to {clients} WebSockets, {deliveries} deliveries a round \
                 as fast as it can, one event a send() and {TOGETHER}, {rounds} rounds each, in turn. The clients are one \
                 thread on core 1. What it would drain is what it drained, divided by the share of its core that this took."
            ),
            series: &series,
            figures: &[
                "deliveries_per_second",
                "cpu_us_per_delivery_in_burst",
                "sender_share_of_core",
                "load_share_of_core",
                "load_drains_per_second",
            ],
            results: json!({}),
            plotted: ("deliveries_per_second", "a second"),
        };
        report.write()?;
        series.iter().try_for_each(ensure_busy)?;
    }
    Ok(())
}
