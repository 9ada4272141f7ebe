//! The node's directory can be written, and a file in it replaced at one stroke.

use crate::check::prelude::*;
use templar_node::state::write_atomically;

/// The node's directory can be written, and a file in it replaced at one stroke.
pub struct Directory;

#[async_trait(?Send)]
impl Check for Directory {
    fn about(&self) -> About {
        About::new(
            "node.directory",
            "the node can write its directory",
            "state, data and journal are kept there; without it nothing is durable",
            "give a directory of this user with --dir, or `templar doctor --fix` to have it made",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir().map_err(|missing| missing.failure("node.directory"))?;
        let path = dir.join("doctor.probe");
        if !dir.exists() {
            return Err(warn(format!("{} is not there yet; a node makes it when it starts", dir.display())));
        }
        let (first, second) = (write_atomically(&path, b"one"), write_atomically(&path, b"two"));
        let read = std::fs::read(&path);
        // The probe has served; a file of three bytes that stays does no harm.
        let _ = std::fs::remove_file(&path);
        match (first.and(second), read) {
            (Ok(()), Ok(text)) if text == b"two" => Ok(pass(format!("{} can be written", dir.display()))),
            (Err(error), _) | (_, Err(error)) => Err(fail(format!("{} cannot be written: {error}", dir.display()))),
            _ => Err(fail(format!("{} does not keep what is written", dir.display()))),
        }
    }

    fn fix(&self, subject: &Subject) -> Option<Result<String, String>> {
        let dir = subject.dir().ok().filter(|dir| !dir.exists())?;
        let made = templar_node::node::make_dir(dir).map_err(|error| error.to_string());
        Some(made.map(|()| format!("{} was made", dir.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_writable() {
        Lab::new().await.passes(&Directory).await;
    }

    #[tokio::test]
    async fn fails_when_not_and_is_made_when_absent() {
        let mut lab = Lab::new().await;
        lab.subject.settings.dir = Some(lab.dir.path().join("new"));
        lab.warns(&Directory, "is not there yet").await;
        assert!(Directory.fix(&lab.subject).unwrap().is_ok());
        lab.passes(&Directory).await;
        let file = lab.dir.path().join("a-file");
        std::fs::write(&file, "x").unwrap();
        lab.subject.settings.dir = Some(file);
        lab.fails(&Directory, "cannot be written").await;
        lab.subject.settings.dir = None;
        lab.fails(&Directory, "no directory is configured").await;
    }
}
