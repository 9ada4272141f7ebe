use super::*;
use crate::{Fault, FaultPlan, FaultRule, Faults, Meter, Metered, Operation};
use object_store::memory::InMemory;
use tokio::time::Instant;

struct Lab {
    store: Retry,
    meter: Meter,
}

/// A bucket holding `a` = "0123456789" behind `plan`, counted, behind a retry of 3 attempts and 10 s + bytes / 1 B/s.
async fn lab(plan: FaultPlan) -> Lab {
    let memory = InMemory::new();
    memory.put(&Path::from("a"), "0123456789".into()).await.unwrap();
    let meter = Meter::default();
    let faulty = Faults::new(Arc::new(memory), plan);
    let policy = RetryPolicy {
        attempts_max: 3,
        pause_first: Duration::from_secs(1),
        pause_max: Duration::from_secs(60),
        pace: Pace { base: Duration::from_secs(10), bytes_per_s_min: 1 },
    };
    Lab { store: Retry::new(Arc::new(Metered::new(Arc::new(faulty), meter.clone())), policy), meter }
}

fn rule(operation: Operation, skip: u64, count: u64, fault: Fault) -> FaultRule {
    FaultRule { operation: Some(operation), key_prefix: String::new(), skip, count: Some(count), fault }
}

async fn read(lab: &Lab) -> Result<Bytes> {
    lab.store.get(&Path::from("a")).await?.bytes().await
}

#[tokio::test(start_paused = true)]
async fn passing_failures_are_repeated_with_growing_pauses() {
    let lab = lab(FaultPlan::single(Operation::Get, 0, 2, Fault::Fail)).await;
    let start = Instant::now();
    assert_eq!(read(&lab).await.unwrap(), "0123456789");
    // Pauses of 1 s and 2 s, each up to a quarter longer.
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(3800), "{took:?}");
    assert_eq!(lab.meter.snapshot().gets, 3);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded() {
    let lab = lab(FaultPlan::single(Operation::Get, 0, 99, Fault::Fail)).await;
    assert_eq!(classify(&read(&lab).await.unwrap_err()), ErrorKind::Transient);
    assert_eq!(lab.meter.snapshot().gets, 3);
}

#[tokio::test(start_paused = true)]
async fn final_answers_are_not_repeated() {
    for (fault, kind) in [(Fault::NotFound, ErrorKind::NotFound), (Fault::Denied, ErrorKind::Denied)] {
        let lab = lab(FaultPlan::single(Operation::Get, 0, 1, fault)).await;
        assert_eq!(classify(&read(&lab).await.unwrap_err()), kind);
        assert_eq!(lab.meter.snapshot().gets, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_store_is_given_its_time_and_no_more() {
    let lab = lab(FaultPlan::single(Operation::Put, 0, 1, Fault::Hang)).await;
    let start = Instant::now();
    let error = lab.store.put(&Path::from("b"), "12345".into()).await.unwrap_err();
    assert_eq!(classify(&error), ErrorKind::Deadline);
    // 10 s and 5 bytes at 1 B/s.
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_broken_body_is_continued_where_it_broke() {
    // The first get breaks after 4 bytes, its continuation after 3 more.
    let rules = vec![rule(Operation::Get, 0, 1, Fault::Truncate(4)), rule(Operation::Get, 1, 1, Fault::Truncate(3))];
    let lab = lab(FaultPlan { rules }).await;
    assert_eq!(read(&lab).await.unwrap(), "0123456789");
    let seen = lab.meter.snapshot();
    assert_eq!((seen.gets, seen.bytes_down), (3, 10));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_not_continued_with_another_object() {
    let lab = lab(FaultPlan::single(Operation::Get, 0, 1, Fault::Truncate(4))).await;
    let result = lab.store.get(&Path::from("a")).await.unwrap();
    lab.store.put(&Path::from("a"), "abcdefghij".into()).await.unwrap();
    // The object read first still has its old bytes; the continuation finds another ETag.
    assert!(result.bytes().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_create_is_not_repeated() {
    let lab = lab(FaultPlan::single(Operation::Put, 0, 1, Fault::Fail)).await;
    let key = Path::from("b");
    let created = lab.store.put_opts(&key, "x".into(), PutMode::Create.into()).await;
    assert_eq!(classify(&created.unwrap_err()), ErrorKind::Transient);
    assert_eq!(lab.meter.snapshot().puts, 1);
    lab.store.put(&key, "x".into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn listings_and_deletions_are_repeated() {
    let rules = vec![rule(Operation::List, 0, 2, Fault::Fail), rule(Operation::Delete, 0, 2, Fault::Fail)];
    let lab = lab(FaultPlan { rules }).await;
    assert_eq!(crate::metered::names(&lab.store).await.unwrap(), ["a"]);
    lab.store.delete(&Path::from("a")).await.unwrap();
    assert!(crate::metered::names(&lab.store).await.unwrap().is_empty());
}
