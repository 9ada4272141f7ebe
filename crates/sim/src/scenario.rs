//! A scenario: everything that a simulation depends on besides the program, as one TOML file.
//!
//! Keys that are not known are refused. What is left out has the value of [`Default`], so that a file shows what is special about it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;
use templar_protocol::hparams::Hparams;

/// The longest scenario file that is read, bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Most nodes of a scenario.
const NODES_MAX: usize = 1024;
/// Most windows of a scenario.
const WINDOWS_MAX: u64 = 1_000_000;

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("the scenario {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("the scenario {path} has more than 1 MiB; a scenario is a page of text")]
    TooLong {
        /// The file.
        path: String,
    },
    /// The text is not a scenario.
    #[error("{path} is not a scenario: {source}")]
    Form {
        /// The file.
        path: String,
        /// What is wrong, with its place.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("scenario {name:?}: {why}")]
    Value {
        /// The scenario's name.
        name: String,
        /// What is wrong and what to do.
        why: String,
    },
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// A sentence about it.
    #[serde(default)]
    pub about: String,
    /// The seed, unless the command line names another.
    #[serde(default = "one")]
    pub seed: u64,
    /// Windows to run.
    pub windows: u64,
    /// Who takes part.
    pub nodes: Nodes,
    /// Hyper-parameters that differ from the preset `local`, group by group.
    #[serde(default)]
    pub run: Map<String, Value>,
    /// How the network learns.
    #[serde(default)]
    pub learning: Learning,
    /// Links and clocks.
    #[serde(default)]
    pub network: Network,
    /// How miners come and go.
    #[serde(default)]
    pub churn: Churn,
    /// Who does not do what the protocol asks for.
    #[serde(default)]
    pub attackers: Vec<Attackers>,
    /// What breaks when.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What must hold at the end.
    #[serde(default)]
    pub checks: Vec<Check>,
}

fn one() -> u64 {
    1
}

/// Who takes part. Validators have the first uids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Miners, attackers among them.
    pub miners: usize,
    /// Validators.
    #[serde(default = "three")]
    pub validators: usize,
    /// Stake of each validator, in any unit; left out: 100, 80, 64 and so on.
    #[serde(default)]
    pub stakes: Vec<u64>,
    /// Time of an inner step, drawn for each miner from this range, ms.
    #[serde(default = "step_ms")]
    pub step_ms: [u64; 2],
}

fn three() -> usize {
    3
}

fn step_ms() -> [u64; 2] {
    [200, 400]
}

/// How the network learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "mode", rename_all = "lowercase")]
pub enum Learning {
    /// A convex model of loss: see [`crate::learn::convex`].
    Fast(Fast),
    /// A small Llama on the processor, on a generated corpus: see [`crate::learn::real`].
    Real,
}

impl Default for Learning {
    fn default() -> Self {
        Self::Fast(Fast::default())
    }
}

/// The numbers of the convex model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fast {
    /// Loss at the optimum, nats.
    pub floor: f64,
    /// Mean curvature.
    pub curvature: f64,
    /// The curvature of coordinate i falls as i to the power of minus this.
    pub spectrum: f64,
    /// Standard deviation of a sample's gradient in a direction of curvature 1.
    pub noise: f64,
    /// How far the optimum swings in each coordinate.
    pub swing: f64,
    /// Windows that a swing takes, drawn for each coordinate (evenly in its logarithm).
    pub period_windows: [f64; 2],
}

impl Default for Fast {
    fn default() -> Self {
        Self { floor: 2.0, curvature: 0.05, spectrum: 0.5, noise: 0.45, swing: 0.27, period_windows: [60.0, 1000.0] }
    }
}

/// Links and clocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Time of an answer without content, drawn for each node, ms.
    pub latency_ms: [u64; 2],
    /// Bandwidth of each node, drawn evenly, Mbit/s.
    pub bandwidth_mbit: [f64; 2],
    /// What an object's byte counts on a link: how much larger than the simulated model the imagined one is.
    pub size_factor: f64,
    /// Share of the requests that fail.
    pub loss: f64,
    /// Largest error of a node's clock, ms.
    pub skew_ms: u64,
    /// Share of the miners whose links are slow.
    pub slow_share: f64,
    /// How much slower those are.
    pub slow_factor: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency_ms: [10, 60],
            bandwidth_mbit: [100.0, 400.0],
            size_factor: 200.0,
            loss: 0.0,
            skew_ms: 20,
            slow_share: 0.0,
            slow_factor: 10.0,
        }
    }
}

/// How miners come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// Probability that a miner crashes in a window.
    pub crash: f64,
    /// Windows that it is away.
    pub away_windows: [u64; 2],
    /// Probability in a window that a new miner registers, which takes the place of the one with the least emission.
    pub newcomer: f64,
}

/// A group of attackers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attackers {
    /// What they do: a name of [`crate::attacks`].
    pub kind: String,
    /// Share of the miners (of the validators, for attacks of validators); at least one.
    #[serde(default)]
    pub share: Option<f64>,
    /// Or their number.
    #[serde(default)]
    pub count: Option<usize>,
    /// The window in which they begin; honest before.
    #[serde(default)]
    pub from_window: u64,
}

/// Something that breaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What breaks.
    pub kind: FaultKind,
    /// Whose: names such as `m3` and `v0`.
    pub nodes: Vec<String>,
    /// The first window.
    pub from_window: u64,
    /// For how many windows.
    #[serde(default = "one")]
    pub windows: u64,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The processes are killed in the first window and started again after the last.
    Crash,
    /// These nodes and all others cannot reach each other's buckets.
    Partition,
    /// Nobody reaches these nodes' buckets, their owners neither.
    StoreDown,
    /// These nodes' buckets refuse what their owners put.
    Denied,
    /// Others find nothing in these nodes' buckets: what the chain names is another bucket.
    Hidden,
    /// Every bucket asks these nodes for fewer requests.
    Throttled,
    /// What these nodes send takes a hundred times as long.
    SlowUpload,
    /// What these nodes receive takes a hundred times as long.
    SlowDownload,
    /// Inner steps of these miners take twenty times as long.
    SlowSteps,
    /// These nodes' clocks are four seconds behind.
    ClockBehind,
    /// These nodes cannot reach the chain.
    ChainDown,
    /// These miners cannot read the data set.
    NoData,
    /// These miners' disks are full.
    DiskFull,
    /// The memory of these miners' devices does not suffice.
    MemoryFull,
    /// The inner steps of these miners give numbers that are none.
    Diverges,
    /// An operator stops these nodes, and starts them again after the fault.
    Stopped,
    /// These nodes are started again by an operator who expects other hyper-parameters.
    OtherHparams,
    /// These nodes are started again with a binary of another protocol.
    OtherProtocol,
}

impl FaultKind {
    /// Whether the processes are started again when the fault begins and when it ends.
    pub fn restarts(self) -> bool {
        matches!(self, Self::OtherHparams | Self::OtherProtocol)
    }

    /// Whether the fault may end the processes, so that they are started again after it.
    pub fn ends(self) -> bool {
        self.restarts() || matches!(self, Self::DiskFull | Self::Stopped)
    }
}

/// A property of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// A figure of the report, for example `final_loss` or `reward_share.sign-flip`.
    pub figure: String,
    /// It must not exceed this.
    #[serde(default)]
    pub at_most: Option<f64>,
    /// It must reach this.
    #[serde(default)]
    pub at_least: Option<f64>,
}

impl Scenario {
    /// Reads and checks a scenario file.
    ///
    /// # Errors
    /// The file cannot be read, is no scenario, or asks for something that cannot be had.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        use std::io::Read;
        let name = path.display().to_string();
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text));
        read.map_err(|source| ScenarioError::Read { path: name.clone(), source })?;
        if text.len() as u64 > BYTES_MAX {
            return Err(ScenarioError::TooLong { path: name });
        }
        Self::parse(&text, &name)
    }

    /// Reads and checks a scenario's text, which is called `path` in errors.
    ///
    /// # Errors
    /// As [`Scenario::read`].
    pub fn parse(text: &str, path: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|source| ScenarioError::Form { path: path.into(), source: Box::new(source) })?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether all values are in their ranges.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let wrong = |why: String| Err(ScenarioError::Value { name: self.name.clone(), why });
        let (nodes, network) = (&self.nodes, &self.network);
        if nodes.miners == 0 || nodes.validators == 0 || nodes.miners + nodes.validators > NODES_MAX {
            return wrong(format!("it needs at least one miner and one validator, and at most {NODES_MAX} nodes"));
        }
        if !nodes.stakes.is_empty() && nodes.stakes.len() != nodes.validators {
            return wrong(format!("it lists {} stakes for {} validators", nodes.stakes.len(), nodes.validators));
        }
        if self.windows == 0 || self.windows > WINDOWS_MAX {
            return wrong(format!("it has {} windows; from 1 to {WINDOWS_MAX} can be run", self.windows));
        }
        let shares = [network.loss, network.slow_share, self.churn.crash, self.churn.newcomer];
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            return wrong("loss, slow_share, crash and newcomer are shares between 0 and 1".into());
        }
        let positive = [network.bandwidth_mbit[0], network.bandwidth_mbit[1], network.size_factor, network.slow_factor];
        if positive.iter().any(|number| !(number.is_finite() && *number > 0.0)) {
            return wrong("bandwidth_mbit, size_factor and slow_factor must be above 0".into());
        }
        if network.latency_ms.iter().chain(&nodes.step_ms).chain(&self.churn.away_windows).any(|number| *number > 1_000_000) {
            return wrong("latencies, step times and away_windows above 1,000,000 are refused".into());
        }
        if let Learning::Fast(fast) = self.learning
            && ![fast.floor, fast.curvature, fast.noise, fast.swing, fast.period_windows[0], fast.period_windows[1]]
                .iter()
                .all(|number| number.is_finite() && *number >= 1e-6)
        {
            return wrong("the numbers of [learning] must be above 0".into());
        }
        self.hparams().map(|_| ())?;
        self.check_parties()
    }

    fn check_parties(&self) -> Result<(), ScenarioError> {
        let wrong = |why: String| Err(ScenarioError::Value { name: self.name.clone(), why });
        let (mut miners, mut validators) = (0, 0);
        for group in &self.attackers {
            let Some(kind) = crate::attacks::find(&group.kind) else {
                return wrong(format!("there is no attack {:?}; the attacks are {}", group.kind, crate::attacks::names().join(", ")));
            };
            if group.share.is_some() == group.count.is_some() {
                return wrong(format!("attackers of kind {:?} need either a share or a count", group.kind));
            }
            if group.share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return wrong(format!("the share of {:?} must lie between 0 and 1", group.kind));
            }
            *(if kind.is_validators() { &mut validators } else { &mut miners }) += self.size_of(group);
        }
        if miners > self.nodes.miners || validators > self.nodes.validators {
            return wrong(format!("{miners} miners and {validators} validators attack, more than there are"));
        }
        for fault in &self.faults {
            for name in &fault.nodes {
                let number = name.get(1..).and_then(|digits| digits.parse::<usize>().ok());
                let known = match name.get(..1) {
                    Some("m") => number.is_some_and(|number| number < self.nodes.miners),
                    Some("v") => number.is_some_and(|number| number < self.nodes.validators),
                    _ => false,
                };
                if !known {
                    return wrong(format!("a fault names the node {name:?}; miners are m0, m1 and so on, validators v0, v1 and so on"));
                }
            }
        }
        Ok(())
    }

    /// How many members a group of attackers has.
    pub fn size_of(&self, group: &Attackers) -> usize {
        let all = if crate::attacks::find(&group.kind).is_some_and(|kind| kind.is_validators()) {
            self.nodes.validators
        } else {
            self.nodes.miners
        };
        group.count.unwrap_or_else(|| ((group.share.unwrap_or(0.0) * all as f64).round() as usize).max(1))
    }

    /// The run's hyper-parameters: the preset `local` with the scenario's changes.
    ///
    /// # Errors
    /// A key that does not exist, or a value out of its range.
    pub fn hparams(&self) -> Result<Hparams, ScenarioError> {
        let wrong = |why: String| ScenarioError::Value { name: self.name.clone(), why: format!("[run]: {why}") };
        let preset = Hparams::preset("local").map_err(|error| wrong(error.to_string()))?;
        let mut value = serde_json::to_value(&preset).map_err(|error| wrong(error.to_string()))?;
        if let Value::Object(all) = &mut value {
            all.insert("name".into(), Value::String("simulation".into()));
            merge(all, &crate::learn::hparams(&self.learning));
            merge(all, &self.run);
        }
        Hparams::from_json(&value.to_string()).map_err(|error| wrong(error.to_string()))
    }
}

/// Puts `over` into `into`, group by group.
fn merge(into: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (into.get_mut(key), value) {
            (Some(Value::Object(group)), Value::Object(value)) => merge(group, value),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"small\"\nwindows = 3\n[nodes]\nminers = 4\n";

    fn refused(more: &str) -> String {
        Scenario::parse(&format!("{SMALL}{more}"), "small.toml").unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let scenario = Scenario::parse(SMALL, "small.toml").unwrap();
        assert_eq!((scenario.seed, scenario.nodes.validators, scenario.network), (1, 3, Network::default()));
        assert_eq!(scenario.hparams().unwrap().name, "simulation");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_there_is() {
        assert!(refused("latency = 3\n").contains("unknown field `latency`"));
        assert!(refused("[[attackers]]\nkind = \"theft\"\nshare = 0.2\n").contains("sign-flip"));
        assert!(refused("[[attackers]]\nkind = \"sign-flip\"\n").contains("either a share or a count"));
        assert!(refused("[[attackers]]\nkind = \"sign-flip\"\ncount = 5\n").contains("more than there are"));
        assert!(refused("[network]\nloss = 2.0\n").contains("between 0 and 1"));
        assert!(refused("[run]\ninner_stepps = 3\n").contains("inner_stepps"));
        assert!(refused("[run]\ninner_steps = 0\n").contains("inner_steps"));
        assert!(refused("[[faults]]\nkind = \"crash\"\nnodes = [\"x1\"]\nfrom_window = 2\n").contains("m0"));
    }

    #[test]
    fn groups_of_hyper_parameters_are_merged() {
        let text = format!("{SMALL}[run]\ninner_steps = 4\n[run.evaluation]\nown_sequences = 7\n");
        let hparams = Scenario::parse(&text, "x").unwrap().hparams().unwrap();
        assert_eq!((hparams.inner_steps, hparams.evaluation.own_sequences), (4, 7));
    }
}
