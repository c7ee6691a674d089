//! RESTHeart: the streams of the metadata of a collection, from MongoDB to browsers, in Java.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Peer, java, named};
use crate::process::{on_path, say};
use crate::{port, workspace};

const VERSION: &str = "9.7.2";
/// What its classes are compiled for.
const JAVA: u32 = 25;
const ARTIFACTS: [&str; 5] = [
    "restheart",
    "restheart-commons",
    "restheart-security",
    "restheart-mongodb",
    "restheart-mongoclient-provider",
];

/// Starts it in front of this MongoDB. It serves every database under its name, at the root, and lets everybody do everything.
///
/// The folder of its jars is what `TAILRACE_RESTHEART` names, or what Maven fetches.
pub async fn start(mongodb: &str) -> Result<Peer> {
    let java = java::find(JAVA)?;
    let jars = find()?;
    let port = port::free()?;
    let folder = workspace::scratch("restheart")?;
    let overrides = folder.path().join("overrides.json");
    fs::write(&overrides, configuration(mongodb, port)).context("cannot write its configuration")?;
    let mut command = Command::new(java);
    command.arg("-cp").arg(jars.join("*")).arg("org.restheart.Bootstrapper").arg("-o").arg(overrides);
    let version = format!("RESTHeart {VERSION}");
    Peer::start("restheart", version, port, "/ping", folder, &mut command).await
}

/// The place of each setting, and its value.
fn configuration(mongodb: &str, port: u16) -> String {
    let mongodb = if mongodb.contains('?') { format!("{mongodb}&") } else { format!("{mongodb}?") };
    // Each open cursor occupies a connection: as many as one could need, instead of the driver's hundred.
    format!(
        r#"{{
            "/http-listener": {{ "enabled": true, "host": "127.0.0.1", "port": {port} }},
            "/mclient/connection-string": "{mongodb}maxPoolSize=512",
            "/mongo/mongo-mounts": [{{ "what": "*", "where": "/" }}],
            "/fullAuthorizer": {{ "enabled": true, "authentication-required": false }},
            "/basicAuthMechanism/enabled": false,
            "/mongoRealmAuthenticator/enabled": false,
            "/mongoAclAuthorizer/enabled": false,
            "/logging/log-level": "WARN",
            "/logging/requests-log-mode": 0
        }}"#
    )
}

fn find() -> Result<PathBuf> {
    if let Some(named) = named("TAILRACE_RESTHEART")? {
        return Ok(named);
    }
    let _one_at_a_time = workspace::lock("restheart")?;
    let jars = workspace::tools().join(format!("restheart-{VERSION}"));
    if !jars.exists() {
        fetch(&jars)?;
    }
    Ok(jars)
}

fn fetch(jars: &Path) -> Result<()> {
    let what = format!("fetching RESTHeart {VERSION} by Maven");
    anyhow::ensure!(on_path("mvn").is_some(), "{what}: mvn is not on PATH");
    say(&what);
    let folder = workspace::scratch("fetch-restheart")?;
    let project = folder.path().join("pom.xml");
    fs::write(&project, project_of_its_artifacts()).context("cannot write the project")?;
    let part = jars.with_extension("part");
    let mut maven = Command::new("mvn");
    maven
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(&project)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", part.display()));
    let printed = maven.stdin(std::process::Stdio::null()).output().context("cannot run mvn")?;
    if !printed.status.success() {
        let text = String::from_utf8_lossy(&printed.stdout).into_owned();
        let error =
            text.lines().find_map(|line| line.split_once("[ERROR] ").map(|(_, error)| error.to_owned()));
        anyhow::bail!("{what}: {}", error.unwrap_or(text));
    }
    // Renamed at the end: half of the jars are never taken for all.
    fs::rename(&part, jars).with_context(|| format!("cannot write {}", jars.display()))
}

/// A project that does nothing but depend on RESTHeart. Its library for JSON schemas is taken from where it is published today.
fn project_of_its_artifacts() -> String {
    let dependencies = ARTIFACTS.map(|artifact| {
        format!(
            "<dependency><groupId>org.restheart</groupId><artifactId>{artifact}</artifactId><version>{VERSION}</version>\
             <exclusions><exclusion><groupId>com.github.everit-org.json-schema</groupId>\
             <artifactId>org.everit.json.schema</artifactId></exclusion></exclusions></dependency>"
        )
    });
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>tailrace</groupId><artifactId>restheart</artifactId><version>0</version><packaging>pom</packaging>\
         <dependencies>{}<dependency><groupId>com.github.erosb</groupId><artifactId>everit-json-schema</artifactId>\
         <version>1.14.6</version></dependency></dependencies></project>\n",
        dependencies.concat()
    )
}
