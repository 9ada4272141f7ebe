use super::*;
use crate::{ShardReader, TokenFile, tokenizer::tests::small_tokenizer_json};
use std::collections::HashSet;
use templar_protocol::sampler;

fn corpus(documents: usize) -> Vec<Input> {
    let text = |i: usize| format!("document {i}: the peers gather the gradients of the window {}\n", "and so on ".repeat(i % 40));
    (0..documents).map(|i| Input::Embedded { name: i.to_string(), text: text(i) }).collect()
}

fn options(dir: &Path) -> PrepareOptions {
    PrepareOptions { inputs: corpus(2000), out_dir: dir.to_owned(), seq_len: 64, shard_tokens: 1000 * 64, ..PrepareOptions::default() }
}

fn all_tokens(dir: &Path, manifest: &DataManifest) -> Vec<u32> {
    let mut tokens = Vec::new();
    for shard in &manifest.shards {
        let reader = ShardReader::open(&dir.join(&shard.tokens.name), &dir.join(&shard.ids.name), manifest.seq_len as usize).unwrap();
        assert_eq!(reader.n_samples(), shard.n_samples);
        let indices: Vec<u64> = (0..reader.n_samples()).collect();
        let rows = reader.samples(&indices).unwrap();
        let ids: Vec<u64> = rows.chunks(manifest.seq_len as usize).map(sampler::sample_id).collect();
        assert_eq!(reader.ids(&indices).unwrap(), ids);
        tokens.extend(rows);
    }
    tokens
}

fn held_out_tokens(dir: &Path, manifest: &DataManifest) -> Vec<u32> {
    let file = TokenFile::open(&dir.join(&manifest.held_out.file.name)).unwrap();
    let mut tokens = vec![0; manifest.held_out.n_tokens as usize];
    file.read(0, &mut tokens).unwrap();
    tokens
}

#[test]
fn every_document_is_trained_on_or_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = prepare(options(folder.path()), &mut |_| {}).unwrap();
    assert_eq!(DataManifest::read(folder.path()).unwrap(), manifest);
    for file in manifest.files() {
        assert_eq!(files::digest_file(&folder.path().join(&file.name)).unwrap(), (file.size, file.digest));
    }
    let documents = |tokens: Vec<u32>| -> HashSet<String> {
        tokens.split(|&token| token == 0xFF).map(|document| Tokenizer::Byte.decode(document).unwrap()).collect()
    };
    let train = documents(all_tokens(folder.path(), &manifest));
    let held = documents(held_out_tokens(folder.path(), &manifest));
    let mut missing = 0;
    let mut held_documents = Vec::new();
    for (i, input) in corpus(2000).iter().enumerate() {
        let Input::Embedded { text, .. } = input else { continue };
        match (train.contains(text), held.contains(text)) {
            (true, true) => panic!("document {i} is trained on and held out"),
            (false, true) => held_documents.push(i),
            (false, false) => missing += 1,
            (true, false) => {}
        }
    }
    assert_eq!(missing, 1, "only the last, which fills no sample, is cut");
    let share = manifest.held_out.n_tokens as f64 / manifest.text_bytes as f64;
    assert!((share - 1.0 / 64.0).abs() < 0.002, "{share}");
    assert!(held_documents.iter().any(|i| *i < 200) && held_documents.iter().any(|i| *i > 1800), "spread over the corpus");
    assert!(manifest.unigram_entropy > 2.0 && manifest.unigram_entropy < 256f64.ln());
}

#[test]
fn shards_are_full_and_the_last_is_never_small() {
    let folder = tempfile::tempdir().unwrap();
    let total = all_tokens(folder.path(), &prepare(options(folder.path()), &mut |_| {}).unwrap()).len() as u64 / 64;
    for per_shard in [total, total / 2, total / 3, total * 2 / 3, total * 2 / 5 + 3, total * 5] {
        let options = PrepareOptions { shard_tokens: per_shard * 64, ..options(folder.path()) };
        let manifest = prepare(options, &mut |_| {}).unwrap();
        let (last, others) = manifest.shards.split_last().unwrap();
        assert!(others.iter().all(|shard| shard.n_samples == per_shard));
        assert!(last.n_samples <= per_shard + per_shard / 2 && (others.is_empty() || last.n_samples >= per_shard / 2));
        assert_eq!(manifest.shards.iter().map(|shard| shard.n_samples).sum::<u64>(), total);
        assert_eq!(all_tokens(folder.path(), &manifest).len() as u64, total * 64);
        // Nothing of the run before, and no temporary file, is left.
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, manifest.shards.len() * 2 + 2);
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let digests: Vec<Digest> = [1, 2, 7]
        .into_iter()
        .map(|threads| {
            let folder = tempfile::tempdir().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| prepare(options(folder.path()), &mut |_| {})).unwrap().digest().unwrap()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

#[test]
fn a_hugging_face_tokenizer_travels_with_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::from_json(small_tokenizer_json("<stop>"), Some("<stop>")).unwrap();
    let manifest = prepare(PrepareOptions { tokenizer: tokenizer.clone(), ..options(folder.path()) }, &mut |_| {}).unwrap();
    assert_eq!((manifest.tokenizer.vocab, manifest.tokenizer.eos), (300, tokenizer.eos()));
    let again = manifest.tokenizer_in(folder.path()).unwrap();
    assert_eq!((again.digest(), again.eos()), (tokenizer.digest(), tokenizer.eos()));
    let tokens = all_tokens(folder.path(), &manifest);
    assert!(tokens.iter().filter(|&&token| token == again.eos()).count() > 1500);
    assert!(again.decode(&tokens[..600]).unwrap().starts_with("document 0: the peers gather"));
    fs::write(folder.path().join(TOKENIZER_NAME), small_tokenizer_json("<eos>")).unwrap();
    assert!(manifest.tokenizer_in(folder.path()).is_err(), "another tokenizer is noticed");
}

#[test]
fn long_documents_are_cut_where_text_is_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let text = "a line of one very long document\n".repeat(20_000);
    let inputs = vec![Input::Embedded { name: "long".into(), text: text.clone() }];
    let options = PrepareOptions { inputs, held_out_share: 0.25, ..options(folder.path()) };
    let mut seen = Progress::default();
    let manifest = prepare(options, &mut |progress| seen = progress).unwrap();
    assert_eq!((seen.text_bytes, seen.total_bytes), (text.len() as u64, Some(text.len() as u64)));
    let train = all_tokens(folder.path(), &manifest);
    let held = held_out_tokens(folder.path(), &manifest);
    let ends = |tokens: &[u32]| tokens.iter().filter(|&&token| token == 0xFF).count();
    // 41 pieces, a quarter of them held out, one gap before each.
    assert!((8..=12).contains(&ends(&held)) && ends(&train).abs_diff(ends(&held)) <= 1, "{} {}", ends(&held), ends(&train));
    assert_eq!(train.len() / 64, (text.len() + ends(&train) + ends(&held) - held.len()) / 64);
}

#[test]
fn too_little_text_and_wrong_options_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let base = options(folder.path());
    let small = PrepareOptions { inputs: corpus(2), seq_len: 2048, shard_tokens: 4096, ..base.clone() };
    let error = prepare(small, &mut |_| {}).unwrap_err();
    assert!(matches!(error, PrepareError::TooSmall { .. }) && error.to_string().contains("shorter sequence length"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    for wrong in [
        PrepareOptions { seq_len: 0, ..base.clone() },
        PrepareOptions { shard_tokens: 63, ..base.clone() },
        PrepareOptions { held_out_share: 0.0, ..base.clone() },
        PrepareOptions { held_out_share: f64::NAN, ..base.clone() },
        PrepareOptions { prefix: "../x".into(), ..base.clone() },
    ] {
        assert!(matches!(prepare(wrong, &mut |_| {}), Err(PrepareError::Option(_))));
    }
}

#[test]
fn an_error_takes_the_old_data_set_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    prepare(options(&out), &mut |_| {}).unwrap();
    let bad = folder.path().join("bad.jsonl");
    fs::write(&bad, "no json").unwrap();
    fs::write(out.join(".templar-killed.tmp"), "what a killed run left").unwrap();
    let mut inputs = corpus(10_000);
    inputs.push(Input::Path(bad));
    let error = prepare(PrepareOptions { inputs, ..options(&out) }, &mut |_| {}).unwrap_err();
    assert!(matches!(error, PrepareError::Source(SourceError::Json { .. })), "{error}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn hostile_manifests_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = prepare(options(folder.path()), &mut |_| {}).unwrap();
    let refused = |change: &dyn Fn(&mut DataManifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        DataManifest::from_json(&manifest.to_json().unwrap()).is_err()
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|m| m.version = 2));
    assert!(refused(&|m| m.seq_len = 0));
    assert!(refused(&|m| m.shards.clear()));
    assert!(refused(&|m| m.shards[0].tokens.name = "../../etc/passwd".into()));
    assert!(refused(&|m| m.shards[0].ids.name = m.shards[0].tokens.name.clone()));
    assert!(refused(&|m| m.shards[0].n_samples = u64::MAX / 8));
    assert!(refused(&|m| m.shards[0].tokens.size = u64::MAX));
    assert!(refused(&|m| m.shards[0].index = 1));
    assert!(refused(&|m| m.tokenizer.eos = 256));
    assert!(refused(&|m| m.tokenizer.kind = TokenizerKind::HuggingFace));
    assert!(DataManifest::from_json(b"{}").is_err());
    assert_eq!(DataManifest::from_json(&good.to_json().unwrap()).unwrap().digest().unwrap(), good.digest().unwrap());
}
