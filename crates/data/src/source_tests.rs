use super::*;
use parquet::{
    data_type::{ByteArray, ByteArrayType},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use std::sync::Arc;

fn read_all(inputs: Vec<Input>, options: SourceOptions) -> Result<(Vec<Piece>, SourceStats), SourceError> {
    let mut source = Source::new(inputs, options)?;
    let mut pieces = Vec::new();
    while let Some(piece) = source.next_piece()? {
        pieces.push(piece);
    }
    Ok((pieces, source.stats()))
}

fn documents(pieces: &[Piece]) -> Vec<String> {
    let mut documents = Vec::new();
    let mut open = false;
    for piece in pieces {
        assert_eq!(piece.starts_document, !open);
        open = !piece.ends_document;
        if piece.starts_document {
            documents.push(String::new());
        }
        documents.last_mut().unwrap().push_str(&piece.text);
    }
    assert!(!open, "the last document ends");
    documents
}

fn texts_of(path: &Path, field: &str) -> Result<Vec<String>, SourceError> {
    let options = SourceOptions { field: field.into(), ..SourceOptions::default() };
    read_all(vec![Input::Path(path.to_owned())], options).map(|(pieces, _)| documents(&pieces))
}

#[test]
fn folders_are_read_by_name_without_what_is_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("b/deep")).unwrap();
    fs::create_dir_all(root.join(".git")).unwrap();
    for (name, bytes) in [
        ("c.txt", &b"third"[..]),
        ("b/deep/x.md", b"second"),
        ("a.rs", b"first"),
        ("b/z.bin", b"\xff\xfe"),
        ("b/y", b"nul\0"),
        (".hidden", b"secret"),
        (".git/config", b"secret"),
        ("d.empty", b""),
    ] {
        fs::write(root.join(name), bytes).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(root, root.join("loop")).unwrap();
    let (pieces, stats) = read_all(vec![Input::Path(root.to_owned())], SourceOptions::default()).unwrap();
    assert_eq!(documents(&pieces), ["first", "second", "third"]);
    assert_eq!((stats.files, stats.files_skipped, stats.documents, stats.text_bytes), (4, 3, 3, 16));
}

#[test]
fn long_documents_come_in_pieces_and_the_limit_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.txt");
    let text = "αβγδ line\n".repeat(100_000);
    fs::write(&path, &text).unwrap();
    let input = || vec![Input::Path(path.clone())];
    let options = SourceOptions { piece_bytes_max: 1000, ..SourceOptions::default() };
    let (pieces, stats) = read_all(input(), options.clone()).unwrap();
    assert_eq!(documents(&pieces), std::slice::from_ref(&text));
    assert!(pieces.iter().all(|piece| piece.text.len() <= 1000));
    assert_eq!(stats.text_bytes, text.len() as u64);
    let (pieces, stats) = read_all(input(), SourceOptions { limit_bytes: Some(2495), ..options.clone() }).unwrap();
    // Byte 2495 lies within a character.
    assert_eq!((stats.text_bytes, documents(&pieces)), (2494, vec![text[..2494].to_owned()]));
    assert_eq!(Source::new(input(), SourceOptions { limit_bytes: Some(9), ..options }).unwrap().total_bytes(), Some(9));
}

#[test]
fn wrong_paths_and_files_without_text_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = texts_of(&missing, "text").unwrap_err();
    assert!(matches!(error, SourceError::Missing(_)) && error.to_string().contains("missing"));
    assert!(matches!(texts_of(folder.path(), "text"), Err(SourceError::NoText { skipped: 0, .. })));
    let binary = folder.path().join("model.bin");
    fs::write(&binary, vec![0xfe; 3 << 20]).unwrap();
    assert!(matches!(texts_of(&binary, "text"), Err(SourceError::NotText(_))));
    let error = texts_of(folder.path(), "text").unwrap_err();
    assert!(matches!(error, SourceError::NoText { skipped: 1, .. }), "{error}");
    assert!(matches!(read_all(Vec::new(), SourceOptions::default()), Err(SourceError::NoText { .. })));
}

#[test]
fn large_files_that_are_no_text_at_their_end_give_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let mut bytes = vec![b'x'; 3 << 20];
    bytes.push(0xff);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(texts_of(&path, "text"), Err(SourceError::NotText(_))));
}

#[test]
fn jsonl_gives_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(
        &path,
        "{\"text\":\"one\\n\",\"body\":\"eins\"}\n\n{\"text\":null,\"body\":\"zwei\"}\n{\"text\":7,\"body\":\"drei\"}\n{\"text\":\"two\"}",
    )
    .unwrap();
    assert_eq!(texts_of(&path, "text").unwrap(), ["one\n", "two"]);
    assert_eq!(texts_of(&path, "body").unwrap(), ["eins", "zwei", "drei"]);
    let error = texts_of(&path, "content").unwrap_err().to_string();
    assert!(error.contains("\"content\"") && error.contains("body, text") && error.contains("--field"), "{error}");
    fs::write(&path, "{\"text\":\"one\"}\nnot json\n").unwrap();
    assert!(matches!(texts_of(&path, "text"), Err(SourceError::Json { line: 2, .. })));
    fs::write(&path, "[1]\n").unwrap();
    assert!(matches!(texts_of(&path, "text"), Err(SourceError::Json { line: 1, .. })));
}

/// Writes two row groups with a string, an optional string and a number.
fn write_parquet(path: &Path) {
    let schema = "message rows { required binary text (UTF8); optional binary note (UTF8); required int32 number; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for group in 0..2 {
        let mut row_group = writer.next_row_group().unwrap();
        let texts: Vec<ByteArray> = (0..100).map(|row| ByteArray::from(format!("text {group} {row}").into_bytes())).collect();
        let notes: Vec<ByteArray> = (0..50).map(|row| ByteArray::from(format!("note {group} {row}").into_bytes())).collect();
        let levels: Vec<i16> = (0..100).map(|row| row % 2).collect();
        let mut column = row_group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&notes, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        column.typed::<parquet::data_type::Int32Type>().write_batch(&[1; 100], None, None).unwrap();
        column.close().unwrap();
        row_group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_gives_its_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_parquet(&path);
    let texts = texts_of(&path, "text").unwrap();
    assert_eq!((texts.len(), texts[0].as_str(), texts[199].as_str()), (200, "text 0 0", "text 1 99"));
    let notes = texts_of(&path, "note").unwrap();
    assert_eq!((notes.len(), notes[50].as_str()), (100, "note 1 0"));
    for field in ["number", "nothing"] {
        let error = texts_of(&path, field).unwrap_err().to_string();
        assert!(error.contains("text, note") && error.contains("--field"), "{error}");
    }
    let bytes = fs::read(&path).unwrap();
    for len in [0, 4, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(matches!(texts_of(&path, "text"), Err(SourceError::Parquet { .. })), "{len}");
    }
}

#[test]
fn cargo_sources_come_in_a_fixed_order() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(cargo_sources_in(home.path()), []);
    for (name, text) in [
        ("registry/src/one/zeta-1.0.0/src/lib.rs", "last"),
        ("registry/src/two/alpha-1.0.0/src/b.rs", "second"),
        ("registry/src/two/alpha-1.0.0/src/a.rs", "first"),
        ("registry/src/two/alpha-1.0.0/README.md", "no source"),
        ("registry/src/two/zeta-1.0.0/src/lib.rs", "the same crate again"),
    ] {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(home.path().join("registry/src/two/alpha-1.0.0/src/c.rs"), b"\xff").unwrap();
    let (pieces, stats) = read_all(cargo_sources_in(home.path()), SourceOptions::default()).unwrap();
    assert_eq!(documents(&pieces), ["first", "second", "last"]);
    assert_eq!(stats.files_skipped, 1);
}

#[test]
fn embedded_texts_are_documents() {
    let input = Input::Embedded { name: "handbook".into(), text: "a page".into() };
    let (pieces, _) = read_all(vec![input.clone(), input], SourceOptions::default()).unwrap();
    assert_eq!(documents(&pieces), ["a page", "a page"]);
}
