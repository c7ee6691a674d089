//! The two ways in, and the deployment that the tests share.

use parts::deployment::{Addresses, Deployment};
use parts::mongod::Mongod;
use parts::replica_set::ReplicaSet;
use tokio::sync::OnceCell;

use crate::Database;
use crate::soak::Scale;

/// Where clients come in. Both must behave alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The backend itself.
    Native,
    /// The edge worker in front of it.
    Edge,
}

impl Front {
    /// The server where everybody may do everything, as `http://host:port`.
    pub async fn open(self) -> &'static str {
        match self {
            Self::Native => &addresses().await.native,
            Self::Edge => &addresses().await.edge,
        }
    }

    /// The server that wants a token, which [`crate::token::valid`] makes.
    pub async fn guarded(self) -> &'static str {
        match self {
            Self::Native => &addresses().await.native_guarded,
            Self::Edge => &addresses().await.edge_guarded,
        }
    }

    /// The server that decides by rules, which [`crate::rules::add`] adds.
    pub async fn ruled(self) -> &'static str {
        match self {
            Self::Native => &addresses().await.native_ruled,
            Self::Edge => &addresses().await.edge_ruled,
        }
    }

    /// A database of the test's own, through the open server.
    pub async fn database(self) -> Database {
        Database::new(self.open().await, &addresses().await.mongodb).await
    }
}

/// Where the shared deployment is: as the environment says, else one that is started now and ends with the test program.
///
/// # Panics
/// When it cannot be started.
pub async fn addresses() -> &'static Addresses {
    static SHARED: OnceCell<(Addresses, Option<Deployment>)> = OnceCell::const_new();
    let (addresses, _) = SHARED
        .get_or_init(|| async {
            if let Some(addresses) = Addresses::from_environment() {
                return (addresses, None);
            }
            parts::worker::build().expect("the edge worker is built (`cargo xtask test` does it all)");
            let deployment =
                Deployment::start().await.expect("the parts start (`cargo xtask test` does it all)");
            (deployment.addresses.clone(), Some(deployment))
        })
        .await;
    addresses
}

/// The MongoDB of the shared deployment; where there is none, one that is started now: for tests that need no other part.
///
/// # Panics
/// When it cannot be started.
pub async fn mongodb() -> &'static str {
    static MONGODB: OnceCell<(String, Option<ReplicaSet>)> = OnceCell::const_new();
    let (uri, _) = MONGODB
        .get_or_init(|| async {
            if let Some(addresses) = Addresses::from_environment() {
                return (addresses.mongodb, None);
            }
            let set = ReplicaSet::start(&Mongod::find().expect("a mongod"), 1).await.expect("it starts");
            (set.uri(), Some(set))
        })
        .await;
    uri
}

/// Runs each of these functions as two tests, `native::…` and `edge::…`. One call a file.
#[macro_export]
macro_rules! both_fronts {
    ($($test:ident),+ $(,)?) => {
        /// At the backend itself.
        mod native {
            $(#[tokio::test]
            async fn $test() {
                $crate::front::bounded(super::$test($crate::Front::Native)).await;
            })+
        }
        /// Through the edge worker.
        mod edge {
            $(#[tokio::test]
            async fn $test() {
                $crate::front::bounded(super::$test($crate::Front::Edge)).await;
            })+
        }
    };
}

/// A test that hangs fails.
#[doc(hidden)]
pub async fn bounded(test: impl Future<Output = ()>) {
    let limit = crate::WHOLE_TEST * Scale::given().pick(1, 4);
    assert!(tokio::time::timeout(limit, test).await.is_ok(), "the test takes longer than {limit:?}");
}
