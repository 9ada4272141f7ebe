//! Release archives: the binary for each Linux target that can be built here, with licences, documents and the agent skill; the skill by itself as a zip; checksums.
//!
//! Archives are made by the system's `tar` and `gzip` with sorted names, one owner and one time, so equal contents give equal bytes. The zip is written here: it stores
//! its few small files as they are.

use crate::{skill::pages, steps::command};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Targets, each with the C compiler that links it (Rust's own for this machine).
const TARGETS: [(&str, &str); 2] = [("x86_64-unknown-linux-gnu", "cc"), ("aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc")];
/// What goes beside the binary.
const BESIDE: [&str; 6] = ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE", "docs"];

/// Builds all that can be built here into `target/dist`, and names what cannot.
///
/// # Errors
/// Nothing can be built, a build fails, or a file cannot be written.
pub fn dist() -> Result<(), String> {
    let root = root();
    let out = root.join("target").join("dist");
    remove(&out)?;
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let mut files = Vec::new();
    for (target, linker) in TARGETS {
        match missing(target, linker) {
            Some(why) => println!("{target} is left out: {why}"),
            None => files.push(archive(&root, &out, target, linker)?),
        }
    }
    if files.is_empty() {
        return Err("no target can be built here".into());
    }
    files.push(skill_zip(&root, &out)?);
    let sums = sums(&out, &files)?;
    fs::write(out.join("SHA256SUMS"), &sums).map_err(|error| format!("SHA256SUMS: {error}"))?;
    print!("{sums}");
    println!("in {}", out.display());
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

fn remove(dir: &Path) -> Result<(), String> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", dir.display())),
        _ => Ok(()),
    }
}

/// Why a target cannot be built here; `None` if it can.
fn missing(target: &str, linker: &str) -> Option<String> {
    let answers = |program: &str, words: &[&str]| {
        Command::new(program).args(words).output().ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    let sysroot = String::from_utf8_lossy(&answers("rustc", &["--print", "sysroot"])?).trim().to_owned();
    if !Path::new(&sysroot).join("lib/rustlib").join(target).is_dir() {
        return Some(format!("its standard library is not installed (rustup target add {target})"));
    }
    answers(linker, &["--version"]).is_none().then(|| format!("its C compiler {linker} is not installed"))
}

fn archive(root: &Path, out: &Path, target: &str, linker: &str) -> Result<String, String> {
    let variable = |suffix: &str| format!("CARGO_TARGET_{}_{suffix}", target.to_uppercase().replace('-', "_"));
    let words = ["build", "--release", "--locked", "--package", "templar", "--bin", "templar", "--target", target];
    let mut build = command("cargo", &words);
    // Names of functions stay, for backtraces; line numbers would make the archive several times as large.
    build.env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    build.env(variable("LINKER"), linker).env(format!("CC_{}", target.replace('-', "_")), linker);
    run(&mut build)?;
    let name = format!("templar-{}-{target}", env!("CARGO_PKG_VERSION"));
    let folder = out.join(&name);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let binary = root.join("target").join(target).join("release/templar");
    fs::copy(&binary, folder.join("templar")).map_err(|error| format!("{}: {error}", binary.display()))?;
    for part in BESIDE.iter().map(|part| root.join(part)).chain([root.join("skill")]) {
        run(Command::new("cp").arg("-r").arg(&part).arg(&folder))?;
    }
    let file = format!("{name}.tar.gz");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--use-compress-program=gzip --no-name", "-cf"]);
    run(tar.arg(out.join(&file)).arg("-C").arg(out).arg(&name))?;
    remove(&folder)?;
    Ok(file)
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?} could not be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed ({status})")) }
}

/// The lines of `sha256sum`, which also checks them.
fn sums(out: &Path, files: &[String]) -> Result<String, String> {
    let output = Command::new("sha256sum").args(files).current_dir(out).output();
    let output = output.map_err(|error| format!("sha256sum could not be started: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("sha256sum failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn skill_zip(root: &Path, out: &Path) -> Result<String, String> {
    let skill = root.join(crate::skill::SKILL);
    let mut entries = Vec::new();
    for file in pages::files(&skill) {
        let bytes = fs::read(skill.join(&file)).map_err(|error| format!("{}: {error}", file.display()))?;
        let script = file.starts_with("scripts");
        entries.push((format!("templar-miner/{}", file.display()), bytes, if script { 0o755 } else { 0o644 }));
    }
    let name = format!("templar-miner-skill-{}.zip", env!("CARGO_PKG_VERSION"));
    fs::write(out.join(&name), zip(&entries)?).map_err(|error| format!("{name}: {error}"))?;
    Ok(name)
}

/// A zip of files (name, contents, mode), stored as they are, all dated 1980-01-01 (APPNOTE.TXT 6.3.10, §4.3).
fn zip(entries: &[(String, Vec<u8>, u32)]) -> Result<Vec<u8>, String> {
    let too_large = |_| "the skill is too large for a zip".to_owned();
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes, mode) in entries {
        let (offset, size) = (u32::try_from(out.len()).map_err(too_large)?, u32::try_from(bytes.len()).map_err(too_large)?);
        let length = u16::try_from(name.len()).map_err(too_large)?;
        // Version 2.0, names in UTF-8, stored, midnight, the first day of 1980.
        let mut common: Vec<u8> = [20_u16, 1 << 11, 0, 0, 0x21].iter().flat_map(|number| number.to_le_bytes()).collect();
        common.extend([crc32(bytes), size, size].iter().flat_map(|number| number.to_le_bytes()));
        common.extend(length.to_le_bytes());
        common.extend([0, 0]);
        out.extend(*b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(bytes);
        // Made on Unix, whose modes stand in the upper half of the external attributes.
        directory.extend(*b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend(((0o100_000 | mode) << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (offset, size) = (u32::try_from(out.len()).map_err(too_large)?, u32::try_from(directory.len()).map_err(too_large)?);
    let count = u16::try_from(entries.len()).map_err(too_large)?;
    out.extend(directory);
    out.extend(*b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].iter().flat_map(|number| number.to_le_bytes()));
    out.extend([size, offset].iter().flat_map(|number| number.to_le_bytes()));
    out.extend([0, 0]);
    Ok(out)
}

/// The CRC of ISO 3309 in its reflected form, as zips want it.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// What would be built here, in words.
pub fn describe() -> String {
    let mut out = String::new();
    for (target, linker) in TARGETS {
        // Writing to a string cannot fail.
        let _ = match missing(target, linker) {
            Some(why) => writeln!(out, "{target}: left out, {why}"),
            None => writeln!(out, "{target}: can be built"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn what_cannot_be_built_says_why() {
        assert!(missing("no-such-target", "cc").is_some_and(|why| why.contains("rustup target add")));
        assert!(describe().lines().count() == TARGETS.len());
    }

    #[test]
    fn another_program_unpacks_the_skill() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let name = skill_zip(&root(), dir.path()).expect("it is written");
        let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\nz.extractall(sys.argv[2])\nprint(len(z.namelist()))";
        let Ok(read) = Command::new("python3").args(["-c", script]).arg(dir.path().join(&name)).arg(dir.path()).output() else {
            eprintln!("not read by another program: python3 is not installed here");
            return;
        };
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let skill = root().join(crate::skill::SKILL);
        let files = pages::files(&skill);
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), files.len().to_string());
        for file in files {
            assert_eq!(fs::read(skill.join(&file)).ok(), fs::read(dir.path().join("templar-miner").join(&file)).ok(), "{}", file.display());
        }
    }
}
