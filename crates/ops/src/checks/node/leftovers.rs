//! No half-written files of killed processes lie about.

use crate::check::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

/// Younger files may be in the making.
const OLD: Duration = Duration::from_secs(3600);

/// No half-written files of killed processes lie about.
pub struct Leftovers;

#[async_trait(?Send)]
impl Check for Leftovers {
    fn about(&self) -> About {
        About::new(
            "node.leftovers",
            "no half-written files of former processes are left",
            "they take room and are read by nobody",
            "`templar doctor --fix` removes them",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir()?;
        let old = leftovers(dir);
        match old.first() {
            None => Ok(pass("no half-written files are left")),
            Some(first) => Err(warn(format!("{} half-written files are left, the first is {}", old.len(), first.display()))),
        }
    }

    fn fix(&self, subject: &Subject) -> Option<Result<String, String>> {
        let old = leftovers(subject.dir().ok()?);
        let removed = old.iter().try_for_each(|path| std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display())));
        Some(removed.map(|()| format!("{} files were removed", old.len())))
    }
}

fn leftovers(dir: &std::path::Path) -> Vec<PathBuf> {
    let folders = [dir.to_owned(), dir.join("state")];
    let files = folders.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    let temporary = |name: &str| name.starts_with(".tmp") || name == "new.safetensors";
    files
        .filter(|entry| temporary(&entry.file_name().to_string_lossy()))
        .filter(|entry| entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > OLD)))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_without_any() {
        Lab::new().await.passes(&Leftovers).await;
    }

    #[tokio::test]
    async fn warns_of_old_ones_until_repaired() {
        let lab = Lab::new().await;
        let file = std::fs::File::create(lab.node().join("state/.tmpAb3")).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * OLD).unwrap();
        lab.warns(&Leftovers, ".tmpAb3").await;
        assert!(Leftovers.fix(&lab.subject).unwrap().is_ok());
        lab.passes(&Leftovers).await;
    }
}
