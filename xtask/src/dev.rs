//! `cargo xtask dev`: everything, running, with one command.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use parts::backend::{self, Backend, Profile};
use parts::replica_set;
use parts::worker::{self, Worker};
use parts::{deployment, npm, workspace};

use crate::ports::Ports;
use crate::{seed, static_files};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    ports: Ports,
}

/// The steps of the start, numbered, so that one sees how far it is.
struct Progress {
    done: usize,
}

impl Progress {
    const STEPS: usize = 6;

    fn step(&mut self, what: &str) {
        self.done += 1;
        println!("[{}/{}] {what}", self.done, Self::STEPS);
    }
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let ports = options.ports;
    ports.check()?;
    let mut progress = Progress { done: 0 };

    progress.step("npm packages");
    npm::install()?;
    npm::build_client().context("cannot build the client, which the web chat uses")?;

    progress.step("MongoDB");
    let (mongodb, _replica_set) = replica_set::given_or_started(&[ports.mongodb]).await?;

    progress.step("the backend");
    let program = backend::build(Profile::Debug)?;
    let open = deployment::open_backend("dev", &mongodb);
    let mut backend = Backend::start(backend::Options {
        port: Some(ports.backend),
        program: Some(program),
        config: deployment::edge_key(),
        ..open
    })
    .await?;

    progress.step("the edge worker");
    worker::build()?;
    let mut edge = Worker::start(worker::Options {
        port: Some(ports.edge),
        follows_sources: true,
        ..deployment::open_worker("dev", &[&backend.url()])
    })
    .await?;

    write_dev_vars()?;

    progress.step("the web chat");
    static_files::serve(&workspace::root().join("examples/chat"), ports.chat).await?;

    progress.step("its collection and first messages");
    seed::chat(&backend.url()).await.context("cannot prepare the web chat")?;

    print_addresses(ports, &mongodb);
    let ended = tokio::select! {
        signal = tokio::signal::ctrl_c() => { signal?; Ok(()) }
        ended = until_one_ends(&mut backend, &mut edge) => ended,
    };
    println!("\nending all of it");
    // The others are killed when they are dropped; the backend has clients to say good-bye to.
    let _ = backend.terminate(Duration::from_secs(10)).await;
    ended
}

/// Watches what was started: when one ends, the whole is of no use.
async fn until_one_ends(backend: &mut Backend, edge: &mut Worker) -> Result<()> {
    loop {
        backend.must_run()?;
        edge.must_run()?;
        tokio::time::sleep(parts::process::POLL * 10).await;
    }
}

/// So that a bare `npx wrangler dev` is believed by the backend that runs here. One that is there is left alone.
fn write_dev_vars() -> Result<()> {
    let file = workspace::root().join(".dev.vars");
    if file.exists() {
        return Ok(());
    }
    let (id, key) = (deployment::EDGE_KEY_ID, deployment::EDGE_KEY);
    let text = format!(
        "# Written by `cargo xtask dev`, for `npx wrangler dev` beside it.\n\
         EDGE_KEY_ID=\"{id}\"\nEDGE_KEY=\"{key}\"\nANONYMOUS=\"true\"\n"
    );
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn print_addresses(ports: Ports, mongodb: &str) {
    let Ports { edge, backend, chat, .. } = ports;
    let api = if edge == 8787 { String::new() } else { format!("?api=http://127.0.0.1:{edge}") };
    println!(
        "\n  Tailrace runs. Ctrl-C ends it.\n\n\
         \x20 web chat      http://127.0.0.1:{chat}/{api}\n\
         \x20 edge worker   http://127.0.0.1:{edge}/messages\n\
         \x20 its stream    ws://127.0.0.1:{edge}/messages/_streams/all\n\
         \x20 backend       http://127.0.0.1:{backend}/messages\n\
         \x20 MongoDB       {mongodb}\n\
         \x20 logs          {}\n",
        workspace::logs().strip_prefix(workspace::root()).unwrap_or(&workspace::logs()).display()
    );
}
