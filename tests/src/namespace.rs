//! A network of its own for clients that vanish: every packet is dropped, both ways, and nobody is told.
//!
//! A proxy that stops cannot show this: its kernel goes on to acknowledge what it is sent.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use parts::process::{on_path, output, say};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Runtime};

/// Where named namespaces are (ip-netns(8)).
const NAMED: &str = "/run/netns";
const PREFIX: &str = "tailrace";
/// The hardware address of the far end. It is set on this end, so that nobody asks for it when nobody answers.
const HARDWARE: &str = "02:00:00:00:00:02";

/// A network namespace of Linux, joined to this one by a link; it goes when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    link: String,
    here: Ipv4Addr,
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
}

impl Namespace {
    /// A new one; `None`, and a word about it, where there can be none: it takes Linux, root, and iproute2.
    pub fn create() -> Option<Self> {
        match Self::try_create() {
            Ok(namespace) => Some(namespace),
            Err(reason) => {
                say(&format!("SKIPPED: what needs a network namespace, because {reason:#}"));
                None
            }
        }
    }

    fn try_create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure!(cfg!(target_os = "linux"), "this is not Linux");
        ensure!(rustix::process::geteuid().is_root(), "it takes root to make one");
        if on_path("ip").is_none() {
            parts::apt::install("iproute2")?;
        }
        remove_what_was_left();
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("{PREFIX}-{process}-{number}");
        let link = format!("tr{process}.{number}");
        // Four addresses of those that are set aside for tests of networks (RFC 2544, appendix C.2.2).
        let first = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (process + number) % (1 << 15) * 4;
        let [here, there] = [1, 2].map(|offset| Ipv4Addr::from(first + offset));
        ip(&["netns", "add", &name])?;
        // From here on what there is goes when the value is dropped.
        let mut namespace = Self { name, link, here, runtime: None };
        let Self { name, link, .. } = &namespace;
        ip(&[
            "link", "add", link, "type", "veth", "peer", "name", "far", "netns", name, "address", HARDWARE,
        ])?;
        ip(&["addr", "add", &format!("{here}/30"), "dev", link])?;
        ip(&["-n", name, "addr", "add", &format!("{there}/30"), "dev", "far"])?;
        ip(&["link", "set", link, "up"])?;
        ip(&["-n", name, "link", "set", "far", "up"])?;
        ip(&["neigh", "replace", &there.to_string(), "lladdr", HARDWARE, "dev", link, "nud", "permanent"])?;
        // What comes from where no route leads is dropped, and nobody is let in because he is known.
        let strict = "cd /proc/sys/net/ipv4; echo 0 > ip_early_demux; echo 1 > conf/all/rp_filter";
        ip(&["netns", "exec", name, "sh", "-e", "-c", strict])?;
        namespace.runtime = Some(runtime(&Path::new(NAMED).join(name))?);
        Ok(namespace)
    }

    /// This machine's address, as seen from within.
    pub fn here(&self) -> Ipv4Addr {
        self.here
    }

    /// Runs this within: the sockets of it, and of all that it spawns, belong to the namespace.
    ///
    /// # Panics
    /// When it does.
    pub async fn within<T: Send + 'static>(&self, run: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        runtime.spawn(run).await.expect("it does not panic")
    }

    /// From now on every packet between the two networks is dropped.
    ///
    /// # Panics
    /// When `ip` fails.
    pub fn cut(&self) {
        self.blackhole("add");
    }

    /// Lets packets pass again.
    ///
    /// # Panics
    /// When `ip` fails.
    pub fn mend(&self) {
        self.blackhole("del");
    }

    fn blackhole(&self, what: &str) {
        let route = format!("{}/32", self.here);
        ip(&["-n", &self.name, "route", what, "blackhole", &route]).expect("a route");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // The link by its own name too: sockets that linger would keep the namespace, and it with it.
        let _ = ip(&["link", "del", &self.link]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// A runtime all of whose threads live in the namespace.
fn runtime(path: &Path) -> Result<Runtime> {
    let file = Arc::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?);
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace that it has made");
        })
        .build()
        .context("cannot start a runtime")
}

/// A run that was killed could not clean up.
fn remove_what_was_left() {
    for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        if parts.next() == Some(PREFIX)
            && let (Some(process), Some(number)) = (parts.next(), parts.next())
            && !Path::new("/proc").join(process).exists()
        {
            let _ = ip(&["link", "del", &format!("tr{process}.{number}")]);
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    output(&format!("ip {}", arguments.join(" ")), Command::new("ip").args(arguments))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_through_a_cut_arrives_once_it_is_mended() {
        let Some(namespace) = Namespace::create() else { return };
        let listener = TcpListener::bind((namespace.here(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut far = namespace.within(TcpStream::connect(address)).await.unwrap();
        let (mut near, _) = listener.accept().await.unwrap();
        near.write_all(b"a").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'a');
        namespace.cut();
        near.write_all(b"b").await.unwrap();
        assert!(timeout(Duration::from_millis(300), far.read_u8()).await.is_err());
        namespace.mend();
        assert_eq!(far.read_u8().await.unwrap(), b'b');
    }
}
