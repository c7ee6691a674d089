//! A tab of a real browser, in which the client of `clients/js` follows a stream of numbers.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use parts::deployment::{JWT_AUDIENCE, JWT_SECRET};
use parts::{chromium, npm, process, workspace};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::soak::{Form, Seen, Verdict};

/// How long a browser may take to start and open the stream, on a machine that is busy.
const STARTS: Duration = Duration::from_mins(1);

/// How long it may take to what it must see: the client's longest pause between two attempts is 30 s.
const SEES: Duration = Duration::from_secs(90);

/// An open tab; the browser ends with it.
#[derive(Debug)]
pub struct Tab {
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    seen: Seen,
    /// What the page tells besides numbers, as it was last told.
    pub page: Page,
    // Killed when it is dropped; the browser then ends by itself.
    _node: Child,
}

/// The page's source of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    /// How long each is good for.
    pub seconds: u64,
    /// Whether a new one can be had at the second attempt only: too late to renew a session in place.
    pub late: bool,
}

/// What the page tells besides numbers.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Page {
    /// How often the client asked for a token.
    pub asked: u64,
    /// How often it did so because the last one was not good any more.
    pub refreshed: u64,
    /// Why it waited before another attempt, and how often.
    pub waits: BTreeMap<String, u64>,
    /// The longest time between two events, in milliseconds.
    pub longest: u64,
    /// Connections that opened.
    opened: u64,
    /// Gaps, errors, and the end: what no tab should be told.
    told: Vec<String>,
}

#[derive(Deserialize)]
struct Look {
    /// Each with its delay in microseconds.
    numbers: Vec<(i64, f64)>,
    #[serde(flatten)]
    page: Page,
}

impl Tab {
    /// A tab whose stream is open. With `tokens` the page has a source of them.
    ///
    /// # Panics
    /// When there is no browser, or the stream does not open.
    pub async fn open(stream: &str, tokens: Option<Tokens>) -> Self {
        npm::install().expect("playwright-core is installed");
        npm::build_client().expect("the client is built");
        let mut command = Command::new("node");
        command
            .arg("tests/browser/tab.mjs")
            .current_dir(workspace::root())
            .env("TAILRACE_CHROMIUM", chromium::find().expect("a Chromium"))
            .env("TAILRACE_STREAM", stream.replacen("http", "ws", 1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(Tokens { seconds, late }) = tokens {
            let tokens =
                json!({ "secret": JWT_SECRET, "audience": JWT_AUDIENCE, "seconds": seconds, "late": late });
            command.env("TAILRACE_TOKENS", tokens.to_string());
        }
        let mut node = command.spawn().expect("node starts");
        let input = node.stdin.take().expect("a pipe");
        let answers = BufReader::new(node.stdout.take().expect("a pipe")).lines();
        let seen = Seen::nothing(Form::V1Json);
        let mut tab = Self { input, answers, seen, page: Page::default(), _node: node };
        let _: serde_json::Value = tab.answer("the stream opens", STARTS).await;
        tab
    }

    /// No new connection, and the page is told so; Chromium's emulation leaves open sockets alone.
    pub async fn go_offline(&mut self) {
        self.does("offline").await;
    }

    /// The end of [`Self::go_offline`].
    pub async fn go_online(&mut self) {
        self.does("online").await;
    }

    /// Stops what runs the page, as a browser does with a tab in the background. Its network process goes on.
    pub async fn freeze(&mut self) {
        self.does("freeze").await;
    }

    /// The end of [`Self::freeze`].
    pub async fn thaw(&mut self) {
        self.does("thaw").await;
    }

    /// Waits until it has every number up to this one.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn has(&mut self, n: i64) {
        let deadline = Instant::now() + SEES;
        loop {
            self.look().await;
            if self.seen.has(n) {
                return;
            }
            let Self { seen, page, .. } = self;
            assert!(Instant::now() < deadline, "the tab does not come to {n}: next {}, {page:?}", seen.next);
            tokio::time::sleep(process::POLL).await;
        }
    }

    /// Takes in what the page has seen since.
    async fn look(&mut self) {
        self.tell("look").await;
        let Look { numbers, page } = self.answer("it tells what it has seen", SEES).await;
        for (n, delay) in numbers {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the cast saturates"
            )]
            self.seen.number(n, delay as u32);
        }
        self.seen.opened = page.opened;
        self.page = page;
    }

    /// How often the client came back.
    pub fn reconnects(&self) -> u64 {
        self.seen.opened.saturating_sub(1)
    }

    /// Closes it. What it saw must be clean.
    ///
    /// # Panics
    /// When it is not.
    pub async fn close_clean(mut self) {
        self.look().await;
        for told in &self.page.told {
            self.seen.note(told);
        }
        println!("the page: {:?}", self.page);
        Verdict { clients: vec![self.seen] }.expect_clean(&[]);
    }

    async fn does(&mut self, command: &str) {
        self.tell(command).await;
        let _: serde_json::Value = self.answer(command, STARTS).await;
    }

    async fn tell(&mut self, command: &str) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("the browser's driver runs");
    }

    async fn answer<T: DeserializeOwned>(&mut self, what: &str, within: Duration) -> T {
        let line = tokio::time::timeout(within, self.answers.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{what}: not within {within:?}"));
        let line = line.expect("lines of text").unwrap_or_else(|| panic!("{what}: the driver ended"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{what}: {error} in {line}"))
    }
}
