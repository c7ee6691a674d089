//! `tailrace`: the command line.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Parser, Subcommand};
use tailrace::{
    admin,
    app::App,
    config::{Config, ConfigError, Flags},
    explain::{self, Asked, explain},
    logging,
    metrics::Metrics,
    server, tls,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// MongoDB change streams, live in the browser, from the edge.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server.
    Serve(Options),
    /// Checks the configuration, prints what it comes to, and exits.
    CheckConfig {
        #[command(flatten)]
        options: Options,
        /// Also says which permission decides about a request, and why.
        #[arg(long, num_args = 2, value_names = ["METHOD", "PATH"])]
        explain: Option<Vec<String>>,
        /// The claims of the caller's token, as JSON; without them it is an anonymous caller.
        #[arg(long = "as", value_name = "CLAIMS", requires = "explain")]
        claims: Option<String>,
    },
    /// Tells what becomes of a stream: what MongoDB evaluates once for many clients, what the node does for each, and why
    /// clients share a cursor or do not.
    Explain {
        #[command(flatten)]
        options: Options,
        /// The path of the stream, as /messages/_streams/mine.
        address: String,
        /// The variables of a client, as JSON.
        #[arg(long)]
        avars: Option<String>,
        /// The claims of the caller's token, as JSON; without them it is an anonymous caller.
        #[arg(long = "as", value_name = "CLAIMS")]
        claims: Option<String>,
        /// A file that declares the stream, as JSON: then MongoDB is not asked what is declared.
        #[arg(long, value_name = "FILE")]
        definition: Option<PathBuf>,
        /// Takes the collection for one that records pre- and post-images.
        #[arg(long)]
        images: bool,
    },
}

#[derive(Args)]
struct Options {
    /// Configuration file, TOML.
    #[arg(long, env = "TAILRACE_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port to listen on.
    #[arg(long)]
    listen: Option<String>,
    /// Connection string of MongoDB.
    #[arg(long)]
    mongodb_uri: Option<String>,
    /// Any other key, as `limits.ping-seconds=10`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Options {
    fn load(&self) -> Result<Config, ConfigError> {
        let mut flags = Flags::new();
        for entry in &self.set {
            let (key, value) = entry
                .split_once('=')
                .ok_or_else(|| ConfigError(format!("--set {entry}: expected KEY=VALUE")))?;
            flags.insert(key.to_owned(), value.to_owned());
        }
        if let Some(listen) = &self.listen {
            flags.insert("listen".to_owned(), listen.clone());
        }
        if let Some(uri) = &self.mongodb_uri {
            flags.insert("mongodb.uri".to_owned(), uri.clone());
        }
        Config::load(self.config.as_deref(), std::env::vars(), &flags)
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve(&options),
        Command::CheckConfig { options, explain, claims } => {
            check(&options, explain.as_deref(), claims.as_deref())
        }
        Command::Explain { options, address, avars, claims, definition, images } => {
            let (avars, claims) = (avars.as_deref(), claims.as_deref());
            let definition = definition.as_deref();
            explain_stream(&options, &Asked { address: &address, avars, claims, definition, images })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("tailrace: {why}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))
}

fn serve(options: &Options) -> Result<(), String> {
    let config = options.load().map_err(|error| error.to_string())?;
    logging::start(&config.log).map_err(|error| error.to_string())?;
    runtime()?.block_on(async {
        let (listen, reuse_port) = (config.listen, config.reuse_port);
        let admin_listen = config.admin.listen;
        if config.auth.anonymous {
            tracing::warn!("auth.anonymous is on: everybody may do everything");
        }
        if !config.aggregation_check_operators {
            tracing::warn!("aggregation-check-operators is off: clients may send operators in avars");
        }
        let app = App::start(config).await.map_err(|error| error.to_string())?;
        let listener = tailrace::listen::listen(listen, reuse_port)
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let listen = listener.local_addr().map_err(|error| error.to_string())?;
        tracing::info!(%listen, "tailrace serves");
        if let Some(listen) = admin_listen {
            let listener = TcpListener::bind(listen)
                .await
                .map_err(|error| format!("cannot listen on {listen} (admin.listen): {error}"))?;
            let listen = listener.local_addr().map_err(|error| error.to_string())?;
            tracing::info!(%listen, "the admin listener serves /_metrics");
            tokio::spawn(admin::run(Arc::clone(&app), listener));
        }
        if let Some(tls) = &app.tls {
            tokio::spawn(tls::follow(Arc::clone(tls)));
        }
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server::run(app, listener, shutdown).await.map_err(|error| error.to_string())
    })
}

fn check(options: &Options, explained: Option<&[String]>, claims: Option<&str>) -> Result<(), String> {
    let config = options.load().map_err(|error| error.to_string())?;
    runtime()?.block_on(async {
        let mongo = tailrace::mongo::Mongo::new(&config.mongodb, &Metrics::default())
            .await
            .map_err(|error| error.to_string())?;
        let mounts = config.mounts(mongo.default_database()).map_err(|error| error.to_string())?;
        println!("listen   {}", config.listen);
        for mount in mounts.configured() {
            println!("mount    {} at {}", mount.what, mount.at);
        }
        println!("the configuration is good");
        if let Some([method, target]) = explained {
            let lines = explain(&config, &mongo, method, target, claims).await;
            for line in lines.map_err(|error| error.to_string())? {
                println!("{line}");
            }
        }
        Ok(())
    })
}

fn explain_stream(options: &Options, asked: &Asked<'_>) -> Result<(), String> {
    let config = options.load().map_err(|error| error.to_string())?;
    runtime()?.block_on(async {
        let mongo = tailrace::mongo::Mongo::new(&config.mongodb, &Metrics::default())
            .await
            .map_err(|error| error.to_string())?;
        let lines = explain::stream(&config, &mongo, asked).await.map_err(|error| error.to_string())?;
        for line in lines {
            println!("{line}");
        }
        Ok(())
    })
}
