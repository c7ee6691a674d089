//! A replica set whose connection to the backend can be cut, while its members keep each other.

use parts::mongod::Mongod;
use parts::port;
use parts::replica_set::{Options, ReplicaSet};

use crate::proxy::Proxy;

/// The `appName` of those whose connections are cut.
const NAMED: &str = "behind-the-cut";

/// A replica set with a proxy before each member, by which members and clients find it.
#[derive(Debug)]
pub struct Members {
    /// The replica set.
    pub set: ReplicaSet,
    proxies: Vec<Proxy>,
}

impl Members {
    /// Starts so many.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start(count: usize) -> Self {
        let ports: Vec<u16> = (0..count).map(|_| port::free().expect("a free port")).collect();
        let mut proxies = Vec::new();
        for port in &ports {
            proxies.push(Proxy::before_member(*port, NAMED).await);
        }
        let advertised = proxies.iter().map(|proxy| proxy.port).collect();
        // A member whose source is halted looks for another one soon: with the new primary alone there is no majority.
        let arguments = ["--setParameter", "oplogNetworkTimeoutBufferSeconds=1"].map(str::to_owned).to_vec();
        let options = Options { ports, advertised, arguments };
        let set = ReplicaSet::start_with(&Mongod::find().expect("a mongod"), options).await.expect("MongoDB");
        Self { set, proxies }
    }

    /// The connection string of who can be cut off.
    pub fn uri(&self) -> String {
        format!("{}&appName={NAMED}", self.set.uri())
    }

    /// Cuts off whoever has the connection string of [`Members::uri`]: nothing passes, and nobody is told.
    pub fn cut(&self) {
        self.proxies.iter().for_each(Proxy::stop);
    }

    /// Mends it.
    pub fn mend(&self) {
        self.proxies.iter().for_each(Proxy::go_on);
    }
}
