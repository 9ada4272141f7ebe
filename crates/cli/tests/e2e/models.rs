//! Models in and out: a network's model to Hugging Face's layout and back, and a network that goes on from it.

use crate::lab::{Lab, templar};
use serde_json::Value;
use std::path::Path;
use templar_model::Rotary;
use templar_node::journal::Entry;
use templar_node::{model_dir, recipe};
use templar_protocol::ThetaDigest;
use templar_protocol::hparams::Hparams;

/// The JSON that a command prints.
fn json(arguments: &[&str]) -> Value {
    let output = templar(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// What a command says when it fails, in one line.
fn failure(arguments: &[&str]) -> String {
    let output = templar(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.split_whitespace().filter(|word| !["│", "×", "╰─▶", "├─▶"].contains(word)).collect::<Vec<_>>().join(" ")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a network until it has saved a model, whose rotary convention is not Hugging Face's; its directory is then `first`.
fn trained(lab: &Lab) -> std::path::PathBuf {
    let path = lab.path("tiny.json");
    let mut hparams: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    hparams["model"]["rotary"] = "interleaved".into();
    std::fs::write(&path, hparams.to_string()).unwrap();
    lab.begin(&["--windows", "2"]).wait_for_end().report();
    let first = lab.path("first");
    std::fs::rename(lab.dir(), &first).unwrap();
    first
}

#[test]
fn a_model_goes_to_hugging_face_and_back_and_starts_a_run() {
    let lab = Lab::new();
    let first = trained(&lab);
    let (hf, back) = (lab.path("hf"), lab.path("back"));
    let exported = json(&["export", "--from", text(&first), "--hf", text(&hf), "--json"]);
    let files = exported["files"].as_array().unwrap();
    for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert!(files.iter().any(|file| file == name) && hf.join(name).is_file(), "{name}");
    }
    let imported = json(&["import", "--hf", text(&hf), "--to", text(&back), "--json"]);
    assert_eq!((&imported["parameters"], &imported["eos"]), (&exported["parameters"], &Value::from(255)));
    assert!(failure(&["import", "--hf", text(&hf), "--to", text(&back)]).contains("no empty directory"));
    assert!(failure(&["export", "--from", text(&lab.path("nothing")), "--hf", text(&lab.path("x"))]).contains("there is no model"));

    // One model, whichever directory it is read from.
    let (words, eval) =
        (lab.path("text.txt"), |from: &Path| json(&["eval", "--from", text(from), "--data", text(&lab.path("text.txt")), "--json"]));
    let ours = eval(&first);
    assert_eq!((ours["seq"].as_u64(), ours["tokens"].as_u64()), (Some(64), Some(300_000 / 64 * 63)));
    for other in [eval(&hf), eval(&back)] {
        let ratio = other["loss"].as_f64().unwrap() / ours["loss"].as_f64().unwrap();
        assert!((ratio - 1.0).abs() < 1e-6, "{other}");
    }

    // The way there and back changes the order of rows and nothing else.
    let mut saved = model_dir::open(&first).unwrap();
    let mut returned = model_dir::open(&back).unwrap();
    assert_eq!((saved.config.rotary, returned.config.rotary), (Rotary::Interleaved, Rotary::HalfSplit));
    let theta = saved.theta().unwrap();
    assert_eq!(returned.theta_for(&saved.config).unwrap(), theta);
    assert_ne!(returned.theta().unwrap(), theta);

    // The sizes of the model override those of the preset, so the first θ is what was imported, bit for bit.
    let flags = ["--data", text(&words), "--start-from", text(&back), "--inner-steps", "2", "--windows", "1"];
    lab.localnet(&flags).wait_for_end().report();
    let joined = lab.journal("validator-0").into_iter().find_map(|line| match line.entry {
        Entry::Joined { state_digest, global_step, .. } => Some((state_digest, global_step.0)),
        _ => None,
    });
    let hparams = Hparams::from_json(&std::fs::read_to_string(lab.dir().join("hparams.json")).unwrap()).unwrap();
    assert_eq!(hparams.model, recipe::model_params(&returned.config));
    let digest = ThetaDigest::of(&returned.config.params(), &returned.theta().unwrap());
    assert_eq!(joined, Some((digest.root, 0)));
}

#[test]
fn a_model_of_other_sizes_starts_no_run() {
    let lab = Lab::new();
    let first = trained(&lab);
    let ended = lab.localnet(&["--data", text(&lab.path("text.txt")), "--model", "local", "--start-from", text(&first)]).wait_for_end();
    assert_eq!(ended.status.code(), Some(1));
    let message = ended.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for phrase in ["its dim is 32, the run's is 128", "its layers is 1", "with its sizes"] {
        assert!(message.contains(phrase), "{phrase:?} is not in: {message}");
    }
}

#[test]
fn the_loss_on_tokens_is_that_of_transformers() {
    let vectors = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/hugging_face"));
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.npy");
    for name in ["untied", "tied_bf16"] {
        let dir = vectors.join(name);
        let expected: Value = serde_json::from_slice(&std::fs::read(dir.join("expected.json")).unwrap()).unwrap();
        let rows: Vec<Vec<u32>> = serde_json::from_value(expected["tokens"].clone()).unwrap();
        let mut writer = templar_data::shard::ArrayWriter::create(&tokens, 4).unwrap();
        // Three tokens more than two sequences.
        writer.push_u32(&[rows.concat(), vec![1, 2, 3]].concat()).unwrap();
        writer.finish().unwrap();
        let eval =
            |more: &[&str]| json(&[&["eval", "--from", text(&dir), "--data", text(&tokens), "--seq", "24", "--json"], more].concat());
        for batch in ["1", "2", "8"] {
            let got = eval(&["--batch", batch]);
            let (loss, want) = (got["loss"].as_f64().unwrap(), expected["loss"].as_f64().unwrap());
            assert!((loss / want - 1.0).abs() < 1e-5, "{name}: {loss}, transformers has {want}");
            assert!((got["perplexity"].as_f64().unwrap() / loss.exp() - 1.0).abs() < 1e-12);
            assert_eq!((&got["tokens"], &got["sequences"], &got["dropped_tokens"]), (&46.into(), &2.into(), &3.into()));
        }
        assert_eq!(eval(&["--sequences", "1"])["tokens"], 23);
    }
    let untied = vectors.join("untied");
    let failed = |more: &[&str]| failure(&[&["eval", "--from", text(&untied), "--data", text(&tokens)], more].concat());
    assert!(failed(&["--seq", "64"]).contains("the data has 51 tokens, fewer than one sequence of 64"));
    assert!(failed(&["--seq", "65"]).contains("a model that reads 64"));
    let words = folder.path().join("words.txt");
    std::fs::write(&words, "words of more than sixty-four bytes, so that there is at least one sequence\n").unwrap();
    let failed = |more: &[&str]| failure(&[&["eval", "--from", text(&untied), "--data", text(&words)], more].concat());
    assert!(failed(&[]).contains("the model has no tokenizer"));
    assert!(failed(&["--tokenizer", "byte"]).contains("the vocabulary has 96"));
}
