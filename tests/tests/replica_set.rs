//! A real replica set survives what the end-to-end tests do to it.

use parts::mongod::Mongod;
use parts::replica_set::ReplicaSet;

#[tokio::test]
async fn another_member_becomes_primary_when_the_primary_is_killed_and_the_killed_one_returns() {
    let mut set = ReplicaSet::start(&Mongod::find().unwrap(), 3).await.unwrap();
    let first = set.primary().await.unwrap();
    set.kill(first);
    assert_ne!(set.primary().await.unwrap(), first);
    set.restart(first).await.unwrap();
    set.step_down().await.unwrap();
}
