use super::*;
use crate::{Input, PrepareOptions, prepare, test_store::TestStore};

/// A data set with one shard above the size of a part.
fn data_set(dir: &Path) -> DataManifest {
    let text: String = (0..80_000).map(|i| format!("line {i} of a text that repeats itself little\n")).collect();
    let inputs = vec![Input::Embedded { name: "text".into(), text }];
    let options = PrepareOptions { inputs, out_dir: dir.to_owned(), seq_len: 128, shard_tokens: 1 << 30, ..PrepareOptions::default() };
    prepare(options, &mut |_| {}).unwrap()
}

#[tokio::test]
async fn a_data_set_arrives_whole_in_equal_parts_and_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = data_set(folder.path());
    let store = TestStore::new();
    let (mut last, mut ordered) = (0, true);
    let mut progress = |done, total| {
        ordered &= last <= done && done <= total;
        last = done;
    };
    let report = push(folder.path(), &store, "sets/one", &mut progress).await.unwrap();
    let total: u64 = manifest.files().map(|file| file.size).sum();
    assert_eq!((report.sent, report.sent_bytes, report.skipped), (3, total, 0));
    assert!(ordered && last == total);
    for file in manifest.files() {
        let bytes = store.get(&key("sets/one", &file.name)).await.unwrap().bytes().await.unwrap();
        assert_eq!(templar_protocol::Digest::of(&bytes), file.digest);
        let digest = store.get(&key("sets/one", &digest_name(&file.name))).await.unwrap().bytes().await.unwrap();
        assert_eq!(digest, format!("{}\n", file.digest));
    }
    let parts = store.parts.lock().unwrap().clone();
    let (tail, equal) = parts.split_last().unwrap();
    assert!(!equal.is_empty() && equal.iter().all(|&part| part as u64 == PART_BYTES_MIN) && *tail as u64 <= PART_BYTES_MIN, "{parts:?}");
    let again = push(folder.path(), &store, "sets/one/", &mut |_, _| {}).await.unwrap();
    assert_eq!((again.sent, again.sent_bytes, again.skipped), (0, 0, 3));
    let published = store.get(&key("sets/one", MANIFEST_NAME)).await.unwrap().bytes().await.unwrap();
    assert_eq!(templar_protocol::Digest::of(&published), manifest.digest().unwrap());
}

#[tokio::test]
async fn what_differs_is_sent_again_and_what_changed_on_disk_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = data_set(folder.path());
    let store = TestStore::new();
    push(folder.path(), &store, "", &mut |_, _| {}).await.unwrap();
    store.put(&key("", &manifest.held_out.file.name), PutPayload::from(vec![1, 2, 3])).await.unwrap();
    store.put(&key("", &digest_name(&manifest.shards[0].ids.name)), PutPayload::from(vec![b'0'; 64])).await.unwrap();
    let report = push(folder.path(), &store, "", &mut |_, _| {}).await.unwrap();
    assert_eq!((report.sent, report.skipped), (2, 1));
    let path = folder.path().join(&manifest.held_out.file.name);
    std::fs::write(&path, "something else").unwrap();
    let fresh = TestStore::new();
    assert!(matches!(push(folder.path(), &fresh, "", &mut |_, _| {}).await, Err(PublishError::Changed { .. })));
    assert!(fresh.head(&key("", MANIFEST_NAME)).await.is_err(), "no manifest without all files");
    assert!(matches!(push(Path::new("/nowhere"), &fresh, "", &mut |_, _| {}).await, Err(PublishError::Manifest(_))));
}

#[test]
fn parts_stay_within_what_buckets_allow() {
    for size in [0, 1, PART_BYTES_MIN, 430 << 30, 5 << 40] {
        let part = part_bytes(size);
        assert!(part >= 5 << 20 && size.div_ceil(part) <= PARTS_MAX && part.is_multiple_of(1 << 20));
    }
}
