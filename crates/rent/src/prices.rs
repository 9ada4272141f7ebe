//! What offers have cost: a history on disk, and whether a price has fallen below a threshold.

use crate::money::Usd;
use crate::offer::Offer;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the history in the ledger's directory.
pub const PRICES_FILE: &str = "prices.jsonl";
/// Prices that are kept, the newest.
pub const KEPT: usize = 20_000;
/// The largest history that is read, bytes.
const BYTES_MAX: u64 = 32 << 20;

/// A price at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Unix time, ms.
    pub t_ms: u64,
    /// The provider.
    pub provider: String,
    /// Its offer.
    pub offer: String,
    /// Kind of GPU.
    pub gpu: String,
    /// Number of GPUs.
    pub gpus: u32,
    /// Price of the machine for an hour.
    pub price_hour: Usd,
}

/// The prices of offers of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many were seen.
    pub seen: usize,
    /// The lowest for one GPU and hour.
    pub lowest: Usd,
    /// The lower median for one GPU and hour.
    pub median: Usd,
    /// The lowest at the newest time.
    pub newest: Usd,
    /// That time, Unix time, ms.
    pub newest_ms: u64,
}

/// The history in `dir`, the oldest first; lines that cannot be read are left out.
///
/// # Errors
/// The file is there and cannot be read, or is larger than any that this program writes.
pub fn read(dir: &Path) -> std::io::Result<Vec<Seen>> {
    let path: PathBuf = dir.join(PRICES_FILE);
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(data) if data.len() > BYTES_MAX => {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("{} has more than {BYTES_MAX} bytes", path.display()),
            ));
        }
        _ => {}
    }
    Ok(fs::read_to_string(&path)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Adds the prices of `offers` to the history in `dir`; those without a price are left out. Gives how many were added.
///
/// # Errors
/// The disk refuses; the history is as before.
pub fn record(dir: &Path, provider: &str, offers: &[Offer], t_ms: u64) -> std::io::Result<usize> {
    let seen = |offer: &Offer| {
        let price_hour = offer.price_hour?;
        Some(Seen { t_ms, provider: provider.to_owned(), offer: offer.id.clone(), gpu: offer.gpu.clone(), gpus: offer.gpus, price_hour })
    };
    let new: Vec<Seen> = offers.iter().filter_map(seen).collect();
    if new.is_empty() {
        return Ok(0);
    }
    let mut all = read(dir)?;
    all.extend(new.iter().cloned());
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    for seen in &all[all.len().saturating_sub(KEPT)..] {
        serde_json::to_writer(&mut file, seen)?;
        file.write_all(b"\n")?;
    }
    file.as_file().sync_all()?;
    file.persist(dir.join(PRICES_FILE)).map_err(|error| error.error)?;
    Ok(new.len())
}

/// What the GPUs whose name contains `gpu` have cost; `None` where none was seen.
pub fn summary(history: &[Seen], gpu: &str) -> Option<Summary> {
    let gpu = gpu.to_lowercase();
    let each = |seen: &Seen| Usd(seen.price_hour.0.div_ceil(u64::from(seen.gpus.max(1))));
    let chosen: Vec<&Seen> = history.iter().filter(|seen| seen.gpu.to_lowercase().contains(&gpu)).collect();
    let mut prices: Vec<Usd> = chosen.iter().map(|seen| each(seen)).collect();
    prices.sort_unstable();
    let newest_ms = chosen.iter().map(|seen| seen.t_ms).max()?;
    let newest = chosen.iter().filter(|seen| seen.t_ms == newest_ms).map(|seen| each(seen)).min()?;
    Some(Summary { seen: prices.len(), lowest: *prices.first()?, median: prices[(prices.len() - 1) / 2], newest, newest_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(id: &str, gpus: u32, price: Option<u64>) -> Offer {
        Offer {
            id: id.into(),
            gpu: "nvidia h200".into(),
            gpus,
            gpu_memory_gb: 141,
            cpu_cores: 1,
            memory_gb: 1,
            place: String::new(),
            price_hour: price.map(Usd),
        }
    }

    #[test]
    fn prices_are_kept_and_summed_up_by_gpu() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(summary(&read(dir.path()).unwrap(), "h200"), None);
        assert_eq!(record(dir.path(), "p", &[offer("a", 8, Some(40)), offer("b", 1, None)], 1).unwrap(), 1);
        assert_eq!(record(dir.path(), "p", &[offer("a", 8, Some(24)), offer("c", 1, Some(9))], 2).unwrap(), 2);
        fs::OpenOptions::new().append(true).open(dir.path().join(PRICES_FILE)).unwrap().write_all(b"{torn").unwrap();
        let found = summary(&read(dir.path()).unwrap(), "H200").unwrap();
        assert_eq!(found, Summary { seen: 3, lowest: Usd(3), median: Usd(5), newest: Usd(3), newest_ms: 2 });
        assert_eq!(summary(&read(dir.path()).unwrap(), "a100"), None);
    }

    #[test]
    fn the_history_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let many: Vec<Offer> = (0..KEPT + 5).map(|number| offer(&number.to_string(), 1, Some(1))).collect();
        record(dir.path(), "p", &many, 1).unwrap();
        let kept = read(dir.path()).unwrap();
        assert_eq!((kept.len(), kept[0].offer.as_str()), (KEPT, "5"));
    }
}
