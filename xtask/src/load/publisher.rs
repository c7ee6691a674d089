//! Publishes through a server that takes events from its clients.

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use http::StatusCode;
use parts::http::Request;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::answer::status;
use super::volley::{Volley, event};
use super::{frames, now, orders};

/// Publications in one request to Centrifugo: the answer to more has no length, but comes in chunks.
const TOGETHER: usize = 64;

#[derive(Args)]
pub(crate) struct Options {
    /// What the server speaks.
    interface: Interface,
    /// The server, as `http://host:port`.
    #[arg(long)]
    server: String,
    /// Bytes of an event.
    #[arg(long)]
    bytes: usize,
}

/// How a server is given its events.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Interface {
    /// Requests to Centrifugo's HTTP API, few for all that go together, over one connection.
    Centrifugo,
    /// A WebSocket whose every message goes to all.
    Broadcast,
}

/// Publishes each volley.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut publisher = Publisher::connect(options).await?;
    println!("{}", json!({}));
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        let volley =
            Volley::of_order(&order)?.with_context(|| format!("{order}: not an order to publish"))?;
        publisher.fire(volley).await?;
        println!("{}", json!({}));
    }
    Ok(())
}

struct Publisher {
    options: Options,
    stream: TcpStream,
    /// What has come of an answer that is not whole.
    read: Vec<u8>,
}

impl Publisher {
    async fn connect(options: Options) -> Result<Self> {
        Ok(Self { stream: connect(&options).await?, options, read: Vec::new() })
    }

    async fn fire(&mut self, volley: Volley) -> Result<()> {
        if self.options.interface == Interface::Centrifugo {
            // It does not leave a connection open over which nothing is asked.
            self.stream = connect(&self.options).await?;
        }
        volley.fire(async |events| self.publish(events).await).await
    }

    async fn publish(&mut self, events: u32) -> Result<()> {
        let texts = (0..events).map(|_| event(now(), self.options.bytes));
        match self.options.interface {
            Interface::Broadcast => {
                let frames: Vec<u8> = texts.flat_map(|event| frames::text(event.as_bytes(), true)).collect();
                self.stream.write_all(&frames).await?;
            }
            Interface::Centrifugo => {
                let commands: Vec<String> = texts
                    .map(|event| format!(r#"{{"publish":{{"channel":"all","data":{event}}}}}"#))
                    .collect();
                for commands in commands.chunks(TOGETHER) {
                    let body = format!(r#"{{"commands":[{}]}}"#, commands.join(","));
                    let head = format!(
                        "POST /api/batch HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    self.stream.write_all(&[head, body].concat().into_bytes()).await?;
                    let status = status(&mut self.stream, &mut self.read).await?;
                    ensure!(status == 200, "a publication is answered {status}");
                }
            }
        }
        Ok(())
    }
}

async fn connect(options: &Options) -> Result<TcpStream> {
    let stream = match options.interface {
        Interface::Centrifugo => {
            let address = options.server.strip_prefix("http://").context("no http:// address")?;
            TcpStream::connect(address).await?
        }
        Interface::Broadcast => {
            let answer = Request::get("/publish").upgrade().open(&options.server).await?;
            let status = answer.status;
            ensure!(status == StatusCode::SWITCHING_PROTOCOLS, "the upgrade is answered {status}");
            answer.into_upgraded().0
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
