//! A MongoDB replica set of one or three members: change streams need one, and three make real elections.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bson::{Bson, Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;
use tempfile::TempDir;

use crate::mongod::Mongod;
use crate::process::{POLL, Process, Signal};
use crate::{port, workspace};

const NAME: &str = "rs0";
const START: Duration = Duration::from_mins(1);

/// What a replica set is made of.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The ports of its members.
    pub ports: Vec<u16>,
    /// The ports by which members and clients find them: those of proxies before the members. Empty: `ports`.
    pub advertised: Vec<u16>,
    /// Further arguments of each `mongod`.
    pub arguments: Vec<String>,
}

/// A running replica set. Dropping it kills its members and removes their data.
#[derive(Debug)]
pub struct ReplicaSet {
    mongod: Mongod,
    members: Vec<Member>,
    arguments: Vec<String>,
    logs: PathBuf,
    /// Dropped after the members.
    data: TempDir,
}

#[derive(Debug)]
struct Member {
    port: u16,
    advertised: u16,
    /// `None` while it is killed.
    process: Option<Process>,
}

impl ReplicaSet {
    /// Starts so many members on free ports and waits for a primary.
    pub async fn start(mongod: &Mongod, members: usize) -> Result<Self> {
        let ports = (0..members).map(|_| port::free()).collect::<Result<Vec<_>>>()?;
        Self::start_on(mongod, &ports).await
    }

    /// The same, on these ports.
    pub async fn start_on(mongod: &Mongod, ports: &[u16]) -> Result<Self> {
        Self::start_with(mongod, Options { ports: ports.to_vec(), ..Options::default() }).await
    }

    /// The same, with all that can be said about it.
    pub async fn start_with(mongod: &Mongod, options: Options) -> Result<Self> {
        let Options { ports, advertised, arguments } = options;
        let data = workspace::scratch("mongodb")?;
        let advertised = if advertised.is_empty() { ports.clone() } else { advertised };
        anyhow::ensure!(advertised.len() == ports.len(), "each member needs one port to be found by");
        let members = ports.iter().zip(advertised).map(|(&port, advertised)| Member {
            port,
            advertised,
            process: None,
        });
        let members = members.collect();
        let mut set = Self { mongod: mongod.clone(), members, arguments, logs: workspace::logs(), data };
        for member in 0..ports.len() {
            set.launch(member)?;
        }
        for member in 0..ports.len() {
            set.wait_until_it_answers(member).await?;
        }
        set.initiate().await?;
        set.primary().await?;
        // A member that still copies its first data can neither vote nor take over.
        for member in &mut set.members {
            let port = member.port;
            let holds_data = async || {
                let hello = command(port, doc! { "hello": 1 }).await?;
                let is = |role| hello.get_bool(role).unwrap_or(false);
                anyhow::ensure!(
                    is("isWritablePrimary") || is("secondary"),
                    "it is neither primary nor secondary"
                );
                Ok(())
            };
            member.process.as_mut().expect("it was started above").wait_until(START, holds_data).await?;
        }
        Ok(set)
    }

    /// Where clients find it.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> =
            self.members.iter().map(|member| format!("127.0.0.1:{}", member.advertised)).collect();
        format!("mongodb://{}/?replicaSet={NAME}", hosts.join(","))
    }

    /// The id of a member's process.
    pub fn process(&self, member: usize) -> Result<u32> {
        Ok(self.running(member)?.id())
    }

    /// Kills a member as a crash would. Its data stays.
    pub fn kill(&mut self, member: usize) {
        self.members[member].process = None;
    }

    /// Kills all members.
    pub fn kill_all(&mut self) {
        for member in &mut self.members {
            member.process = None;
        }
    }

    /// Halts a member (SIGSTOP): its connections stay open and say nothing.
    pub fn stop(&self, member: usize) -> Result<()> {
        self.running(member)?.signal(Signal::STOP)
    }

    /// Lets a halted member go on.
    pub fn cont(&self, member: usize) -> Result<()> {
        self.running(member)?.signal(Signal::CONT)
    }

    /// Starts a killed member again on its port and data, and waits until it answers.
    pub async fn restart(&mut self, member: usize) -> Result<()> {
        self.kill(member);
        self.launch(member)?;
        self.wait_until_it_answers(member).await
    }

    /// Starts all killed members again and waits for a primary.
    pub async fn restart_all(&mut self) -> Result<()> {
        for member in 0..self.members.len() {
            self.launch(member)?;
        }
        for member in 0..self.members.len() {
            self.wait_until_it_answers(member).await?;
        }
        self.primary().await.map(drop)
    }

    /// The member that is primary; waits for an election.
    pub async fn primary(&self) -> Result<usize> {
        let deadline = Instant::now() + START;
        loop {
            for (index, member) in self.members.iter().enumerate() {
                if member.process.is_some()
                    && let Ok(hello) = command(member.port, doc! { "hello": 1 }).await
                    && hello.get_bool("isWritablePrimary").unwrap_or(false)
                {
                    return Ok(index);
                }
            }
            if Instant::now() > deadline {
                bail!("the replica set has no primary after {START:?}; see {}", self.logs.display());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Makes the primary step down, and waits until there is a primary again.
    pub async fn step_down(&self) -> Result<usize> {
        let primary = self.primary().await?;
        // For so many seconds it may not be elected again.
        let order = doc! { "replSetStepDown": 6, "secondaryCatchUpPeriodSecs": 5, "force": true };
        command(self.members[primary].port, order).await?;
        self.primary().await
    }

    /// Waits until each member has what the primary has, but for the last second: any of them could be elected.
    pub async fn all_keep_up(&self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let primary = self.members[self.primary().await?].port;
            if let Ok(status) = command(primary, doc! { "replSetGetStatus": 1 }).await
                && keep_up(&status)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("a member does not keep up after {START:?}; see {}", self.logs.display());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn running(&self, member: usize) -> Result<&Process> {
        self.members[member].process.as_ref().with_context(|| format!("member {member} is killed"))
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        if member.process.is_some() {
            return Ok(());
        }
        let data = self.data.path().join(index.to_string());
        std::fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
        let mut command = Command::new(&self.mongod.path);
        command
            .args([
                "--replSet",
                NAME,
                "--bind_ip",
                "127.0.0.1",
                "--port",
                &member.port.to_string(),
                "--dbpath",
            ])
            .arg(&data)
            .args(["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"])
            // Its own measurements every second: disk and processor that nobody here reads.
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .args(&self.arguments);
        let log = self.logs.join(format!("mongod-{}.log", member.port));
        member.process =
            Some(Process::start(&format!("mongod on port {}", member.port), &mut command, &log)?);
        Ok(())
    }

    async fn wait_until_it_answers(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        let port = member.port;
        let process = member.process.as_mut().with_context(|| format!("member {index} is killed"))?;
        process.wait_until(START, async || command(port, doc! { "ping": 1 }).await.map(drop)).await
    }

    async fn initiate(&self) -> Result<()> {
        let members: Vec<Document> = (0_i32..)
            .zip(&self.members)
            .map(|(id, member)| doc! { "_id": id, "host": format!("127.0.0.1:{}", member.advertised) })
            .collect();
        // Elections within a second or two instead of ten: tests wait for them. And a new primary does not wait for the
        // old one, which may be halted, to say how far it has come: nothing that a majority has can be missing.
        let settings = doc! {
            "electionTimeoutMillis": 1500,
            "heartbeatIntervalMillis": 500,
            "catchUpTimeoutMillis": 1000,
        };
        let config = doc! { "_id": NAME, "members": members, "settings": settings };
        command(self.members[0].port, doc! { "replSetInitiate": config })
            .await
            .context("replSetInitiate")
            .map(drop)
    }
}

/// Reads an answer to `replSetGetStatus`.
fn keep_up(status: &Document) -> bool {
    let members: Vec<&Document> =
        status.get_array("members").into_iter().flatten().filter_map(Bson::as_document).collect();
    let is_up = |member: &&Document| matches!(member.get_str("stateStr"), Ok("PRIMARY" | "SECONDARY"));
    let times: Vec<i64> = members
        .iter()
        .filter_map(|member| member.get_datetime("optimeDate").ok().map(|time| time.timestamp_millis()))
        .collect();
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return false };
    members.iter().all(is_up) && times.len() == members.len() && last - first <= 1000
}

/// Runs a command on one member, whatever its role is.
async fn command(port: u16, command: Document) -> Result<Document> {
    let mut options =
        ClientOptions::parse(format!("mongodb://{}:{port}/?directConnection=true", Ipv4Addr::LOCALHOST))
            .await?;
    options.server_selection_timeout = Some(Duration::from_secs(3));
    options.connect_timeout = Some(Duration::from_secs(2));
    let client = Client::with_options(options)?;
    let answer = client.database("admin").run_command(command).await;
    client.shutdown().immediate(true).await;
    Ok(answer?)
}

/// The replica set that `MONGODB_URI` names; else one that is started on these ports, and ends with the second value.
pub async fn given_or_started(ports: &[u16]) -> Result<(String, Option<ReplicaSet>)> {
    if let Ok(uri) = std::env::var("MONGODB_URI") {
        check(&uri).await?;
        return Ok((uri, None));
    }
    let set = ReplicaSet::start_on(&Mongod::find()?, ports).await?;
    Ok((set.uri(), Some(set)))
}

/// An error with the remedy, when no replica set answers at this address within 5 s.
async fn check(uri: &str) -> Result<()> {
    let mut options = ClientOptions::parse(uri).await.context("MONGODB_URI is no address of a MongoDB")?;
    options.server_selection_timeout = Some(Duration::from_secs(5));
    let hello = Client::with_options(options)?.database("admin").run_command(doc! { "hello": 1 }).await;
    let hello = hello.context("no MongoDB answers at MONGODB_URI; start it, or unset the variable")?;
    // `isdbgrid` is what a mongos says of itself.
    if !hello.contains_key("setName") && !hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        bail!(
            "the MongoDB at MONGODB_URI is no replica set, and change streams need one: start it with --replSet"
        );
    }
    Ok(())
}
