//! A small network for the tests of checks: a chain in memory, a real S3 server, a published run, a miner with state and journal. All is as it
//! should be; a test breaks one thing.

use crate::check::{Check, Finding, Verdict};
use crate::facts::Facts;
use crate::machine::Machine;
use crate::subject::{Role, Settings, Subject, Variables};
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use templar_chain::{BlockTime, Chain, Clock, DevChain, GenesisConfig, GenesisNeuron, RealClock, Wait};
use templar_data::{DataManifest, Input, PrepareOptions};
use templar_engine::{EngineKind, EngineRequest, Environment};
use templar_model::{Moments, Recompute, checkpoint, initialise};
use templar_node::context::bucket_commitment;
use templar_node::journal::{Entry, Journal, TrainingEntry, WindowEntry};
use templar_node::state::{PrivateState, StateDir};
use templar_node::{recipe, signed};
use templar_protocol::hparams::Hparams;
use templar_protocol::messages::{Accepted, CheckpointPointer, CommitRead, DataReference, Manifest, PROTOCOL_VERSION, RunDescriptor};
use templar_protocol::{Digest, GlobalStep, Netuid, ParamSpec, ThetaDigest, Uid, Window, names};
use templar_s3::{Access, BucketAccess, S3Config, Server, ServerHandle};
use templar_store::{Bucket, BucketConfig, BucketUrl, Credentials, ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY, Http, Reach, Secret};
use templar_wallet::{Keypair, Overwrite, Slot, WalletDir};

/// The subnet of the lab.
pub const NETUID: Netuid = Netuid(3);
/// Blocks of a window.
const BLOCKS: u64 = 4;
/// The present window.
pub const NOW: Window = Window(8);

/// A clock that is wrong by a fixed time.
pub struct Shifted(pub i64);

impl Clock for Shifted {
    fn now_ms(&self) -> u64 {
        RealClock::new().now_ms().saturating_add_signed(self.0)
    }

    fn sleep_until(&self, _: u64) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The network and the node under examination.
pub struct Lab {
    /// The node: a miner at first.
    pub subject: Subject,
    /// Everything on disk.
    pub dir: tempfile::TempDir,
    /// The chain.
    pub chain: DevChain,
    /// The leader's key, uid 0.
    pub leader: Keypair,
    /// The miner's key, uid 1.
    pub miner: Keypair,
    /// The descriptor.
    pub descriptor: RunDescriptor,
    /// Its digest.
    pub run: Digest,
    /// Who may do what with the buckets.
    pub access: Access,
    entries: Vec<BucketAccess>,
    endpoint: String,
    server: Option<ServerHandle>,
}

fn access(name: &str) -> BucketAccess {
    BucketAccess {
        name: name.to_owned(),
        access_key_id: format!("id-{name}"),
        secret: Secret::new(format!("secret-of-{name}-0123456789")),
        public_read: true,
    }
}

/// The hyper-parameters: a tiny model, four blocks in a window.
pub fn hparams() -> Hparams {
    let mut hparams = Hparams::preset("local").unwrap();
    (hparams.model.dim, hparams.model.layers, hparams.model.heads, hparams.model.kv_heads, hparams.model.ffn) = (32, 1, 2, 1, 64);
    hparams.sequence_length = 32;
    hparams.blocks_per_window = BLOCKS;
    hparams.timetable.block_ms = 3000;
    (hparams.timetable.upload_window_ms, hparams.timetable.gather_ms, hparams.timetable.slot_ms) = (5000, 2000, 500);
    hparams.validate().unwrap();
    hparams
}

fn large(count: u64) -> Machine {
    Machine {
        memory_bytes: Some(count << 30),
        available_bytes: Some(count << 30),
        cores: 2,
        open_files: Some(1 << 20),
        locked_bytes: Some(u64::MAX),
        disk_free_bytes: Some(count << 30),
        clock_kept: Some(true),
        load: Some(0.1),
    }
}

impl Lab {
    /// A subject without any network, for the frame's own tests.
    pub fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let genesis = GenesisConfig::new(NETUID);
        let chain = DevChain::in_memory(&genesis, BlockTime::Interval(3000)).unwrap();
        let keys = [Keypair::from_seed([1; 32]), Keypair::from_seed([2; 32])];
        let wallets = WalletDir::new(dir.path().join("wallets"));
        for (wallet, key) in ["leader", "miner"].into_iter().zip(&keys) {
            wallets.write(&Slot::hotkey(wallet, "default"), &key.clone().into(), None, Overwrite::No).unwrap();
        }
        let access = Access::fixed(&[]).unwrap();
        // A second installation is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let subject = Subject {
            settings: Settings {
                role: Role::Miner,
                chain: "http://127.0.0.1:9944".into(),
                netuid: NETUID,
                wallet_path: dir.path().join("wallets"),
                wallet: "miner".into(),
                hotkey: "default".into(),
                bucket: None,
                bucket_endpoints: vec![],
                dir: Some(dir.path().join("node")),
                threads: 2,
                params: None,
                engine: EngineRequest { engine: Some(EngineKind::Cpu), ..EngineRequest::default() },
                recompute: Recompute::None,
                offload_moments: false,
                config_file: None,
                env_file: None,
            },
            variables: Variables::default(),
            password: None,
            engines: Environment::empty(),
            machine: large(512),
            chain: Arc::new(chain.clone()),
            clock: Arc::new(RealClock::new()),
            http: Http::new(Reach::Anywhere).unwrap(),
            own_http: Http::new(Reach::Anywhere).unwrap(),
            facts: Facts::default(),
        };
        let [leader, miner] = keys;
        let descriptor = RunDescriptor {
            protocol: PROTOCOL_VERSION,
            netuid: NETUID,
            hparams: hparams(),
            hparams_digest: hparams().digest(),
            tokenizer: Digest::default(),
            data: DataReference { manifest: Digest::default(), places: vec![] },
            initial_checkpoint: Digest::default(),
            initial_theta: Digest::default(),
            start_window: Window(0),
            started_ms: 0,
        };
        Self {
            subject,
            dir,
            chain,
            leader,
            miner,
            descriptor,
            run: Digest::default(),
            access,
            entries: vec![],
            endpoint: String::new(),
            server: None,
        }
    }

    /// The whole network in good order.
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// The same on a chain that begins otherwise.
    pub async fn with(change: impl FnOnce(&mut GenesisConfig)) -> Self {
        let mut lab = Self::bare();
        lab.serve_buckets().await;
        lab.begin_chain(change).await;
        lab.publish_run(|_| ()).await;
        lab.publish_manifests().await;
        lab.set_up_miner();
        lab
    }

    async fn serve_buckets(&mut self) {
        self.entries = ["leader", "miner", "other", "dataset"].map(access).to_vec();
        self.access = Access::fixed(&self.entries).unwrap();
        let config = S3Config::new(self.dir.path().join("s3"), "127.0.0.1:0".parse().unwrap(), self.access.clone());
        let server = Server::bind(config).await.unwrap();
        self.endpoint = format!("http://{}", server.address());
        self.server = Some(server.spawn());
        self.use_wallet("miner");
    }

    /// Changes who may do what.
    pub fn grant(&self, change: impl FnOnce(&mut Vec<BucketAccess>)) {
        let mut entries = self.entries.clone();
        change(&mut entries);
        self.access.set(&entries).unwrap();
    }

    /// The URL of a bucket.
    pub fn url(&self, name: &str) -> BucketUrl {
        BucketUrl::parse(&format!("{}/{name}", self.endpoint)).unwrap()
    }

    /// A bucket with its owner's key.
    pub fn bucket(&self, name: &str) -> Bucket {
        let key = Credentials::new(format!("id-{name}"), format!("secret-of-{name}-0123456789"));
        Bucket::open(&BucketConfig::with_credentials(self.url(name), key), &self.subject.own_http).unwrap()
    }

    fn use_wallet(&mut self, name: &str) {
        self.subject.settings.wallet = name.into();
        self.subject.settings.bucket = Some(format!("{}/{name}", self.endpoint));
        self.subject.variables.set(ENV_ACCESS_KEY_ID, &format!("id-{name}"));
        self.subject.variables.set(ENV_SECRET_ACCESS_KEY, &format!("secret-of-{name}-0123456789"));
        self.subject.facts = Facts::default();
    }

    /// Examines the leader instead.
    pub fn leading(mut self) -> Self {
        self.use_wallet("leader");
        self.subject.settings.role = Role::Leader;
        self
    }

    async fn begin_chain(&mut self, change: impl FnOnce(&mut GenesisConfig)) {
        let neuron = |key: &Keypair, stake| GenesisNeuron { hotkey: key.public(), coldkey: key.public(), stake, permit: stake > 0 };
        let other = Keypair::from_seed([3; 32]);
        let mut genesis = GenesisConfig::new(NETUID);
        // One permit: miners get stake from what they earn, and would turn into validators.
        (genesis.rules.tempo, genesis.rules.max_allowed_validators) = (5, 1);
        genesis.neurons = vec![neuron(&self.leader, 1_000_000_000_000), neuron(&self.miner, 0), neuron(&other, 0)];
        genesis.accounts = [&self.leader, &self.miner, &other].map(|key| (key.public(), 1_000_000_000_000)).to_vec();
        change(&mut genesis);
        self.chain = DevChain::in_memory(&genesis, BlockTime::Interval(3000)).unwrap();
        for (key, name) in [(&self.leader, "leader"), (&self.miner, "miner"), (&other, "other")] {
            // A test may leave one out.
            let data = bucket_commitment(&self.url(name));
            let _ = self.chain.set_commitment(key, NETUID, &data, Wait::Submitted).await;
        }
        let half = [(Uid(1), u16::MAX), (Uid(2), u16::MAX)];
        let _ = self.chain.put_weights(&self.leader, NETUID, &half, 0, Wait::Submitted).await;
        while self.chain.best().number < NOW.first_block(BLOCKS) {
            self.chain.close_block().unwrap();
        }
        // Once more, so that they are fresh; the first ones have been paid for by epochs meanwhile.
        let _ = self.chain.put_weights(&self.leader, NETUID, &half, 0, Wait::Submitted).await;
        self.chain.close_block().unwrap();
        self.subject.chain = Arc::new(self.chain.clone());
    }

    /// Closes that many blocks; facts learned before are forgotten.
    pub fn close_blocks(&mut self, count: usize) {
        (0..count).for_each(|_| _ = self.chain.close_block().unwrap());
        self.subject.facts = Facts::default();
    }

    async fn data_set(&self) -> DataManifest {
        let text: String = (0..4000).map(|word| format!("word {} of {word} ", word * 7919 % 101)).collect();
        let path = self.dir.path().join("text.txt");
        std::fs::write(&path, text).unwrap();
        let out_dir = self.dir.path().join("data");
        let options =
            PrepareOptions { inputs: vec![Input::Path(path)], out_dir: out_dir.clone(), seq_len: 32, ..PrepareOptions::default() };
        let manifest = templar_data::prepare(options, &mut |_| ()).unwrap();
        let bucket = self.bucket("dataset");
        templar_data::push(&out_dir, &*bucket.object_store(), "", &mut |_, _| ()).await.unwrap();
        manifest
    }

    /// The parameters of the run's model.
    pub fn specs(&self) -> Vec<ParamSpec> {
        recipe::llama(&self.descriptor.hparams, None).unwrap().params()
    }

    /// Publishes the descriptor and checkpoint 0 after a change; facts learned before are forgotten.
    pub async fn publish_run(&mut self, change: impl FnOnce(&mut RunDescriptor)) {
        let manifest = self.data_set().await;
        let hparams = hparams();
        let config = recipe::llama(&hparams, Some(manifest.tokenizer.eos)).unwrap();
        let (specs, theta) = (config.params(), initialise(&config, 42).unwrap());
        let digest = ThetaDigest::of(&specs, &theta);
        let file = checkpoint::encode(&specs, &theta, &checkpoint::Metadata::new()).unwrap();
        self.descriptor = RunDescriptor {
            protocol: PROTOCOL_VERSION,
            netuid: NETUID,
            hparams_digest: hparams.digest(),
            hparams,
            tokenizer: manifest.tokenizer.digest,
            data: DataReference { manifest: manifest.digest().unwrap(), places: vec![self.url("dataset").to_string()] },
            initial_checkpoint: Digest::of(&file),
            initial_theta: digest.root,
            start_window: Window(0),
            started_ms: 1,
        };
        change(&mut self.descriptor);
        let envelope = signed::sign(&self.descriptor, &self.leader).unwrap();
        self.run = signed::open::<RunDescriptor>(&envelope).unwrap().digest;
        let pointer = CheckpointPointer {
            run: self.run,
            next_window: NOW,
            global_step: GlobalStep(NOW.0),
            file: Digest::of(&file),
            file_bytes: file.len() as u64,
            theta: digest.root,
            theta_parts: digest.parts,
            manifest: None,
        };
        let bucket = self.bucket("leader");
        bucket.put(&names::checkpoint(&pointer.file), file.into()).await.unwrap();
        self.put_pointer(&pointer).await;
        bucket.put(names::RUN, envelope.into()).await.unwrap();
        self.subject.facts = Facts::default();
    }

    /// Publishes a checkpoint pointer.
    pub async fn put_pointer(&mut self, pointer: &CheckpointPointer) {
        let signed = signed::sign(pointer, &self.leader).unwrap();
        self.bucket("leader").put(names::CHECKPOINT_LATEST, signed.into()).await.unwrap();
        self.subject.facts = Facts::default();
    }

    /// The digest of θ before `window`, as all honest nodes have it.
    pub fn theta_before(window: Window) -> Digest {
        Digest::of(&window.0.to_le_bytes())
    }

    /// A manifest that accepts uids 1 and 2.
    pub fn manifest(&self, window: Window) -> Manifest {
        let object = |uid: u16| Digest::of(&[uid as u8]);
        let key = |uid: u16| Keypair::from_seed([uid as u8 + 1; 32]).public();
        let accepted = [1, 2].map(|uid| Accepted { uid: Uid(uid), hotkey: key(uid), object: object(uid), object_bytes: 9 });
        let commits = [1, 2].map(|uid| CommitRead { uid: Uid(uid), object: object(uid), object_bytes: 9 });
        Manifest {
            run: self.run,
            window,
            slot: 0,
            global_step: GlobalStep(window.0),
            theta_before: Self::theta_before(window),
            accepted: accepted.to_vec(),
            clip_norms: vec![1.0],
            commits: commits.to_vec(),
            refused: vec![],
            previous: None,
        }
    }

    /// Publishes a manifest as the leader does.
    pub async fn put_manifest(&mut self, manifest: &Manifest) {
        let signed = signed::sign(manifest, &self.leader).unwrap();
        self.bucket("leader").put(&names::manifest(manifest.window, manifest.slot), signed.into()).await.unwrap();
        self.subject.facts = Facts::default();
    }

    async fn publish_manifests(&mut self) {
        for window in (2..NOW.0).map(Window) {
            let manifest = self.manifest(window);
            self.put_manifest(&manifest).await;
        }
    }

    /// The node's directory.
    pub fn node(&self) -> PathBuf {
        self.subject.settings.dir.clone().unwrap()
    }

    /// The private state that the miner has saved.
    pub fn state(&self) -> PrivateState {
        let residual = self.specs().iter().map(|spec| vec![0.01; spec.len()]).collect();
        let zeros: Vec<Vec<f32>> = self.specs().iter().map(|spec| vec![0.0; spec.len()]).collect();
        let moments = Moments { step: 9, m: zeros.clone(), v: zeros };
        let window = Window(NOW.0 - 1);
        PrivateState { run: self.run, window, global_step: GlobalStep(window.0), residual, moments, object: b"object".to_vec() }
    }

    /// Saves a private state.
    pub fn save(&self, state: PrivateState) {
        StateDir::open(&self.node().join("state")).unwrap().save(&self.specs(), state).unwrap();
    }

    fn set_up_miner(&mut self) {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new().mode(0o700).create(self.node()).unwrap();
        self.save(self.state());
        self.write_journal(|_| ());
        let env_file = self.dir.path().join(".env");
        let mut options = std::fs::File::options();
        drop(options.create(true).write(true).truncate(true).mode(0o600).open(&env_file).unwrap());
        std::fs::write(&env_file, format!("{ENV_ACCESS_KEY_ID}=id-miner\n{ENV_SECRET_ACCESS_KEY}=secret-of-miner-0123456789\n")).unwrap();
        self.subject.settings.env_file = Some(env_file);
        let config = self.dir.path().join("templar.toml");
        std::fs::write(&config, "[network]\nnetuid = 3\n").unwrap();
        self.subject.settings.config_file = Some(config);
    }

    /// A window as a good miner lives it.
    pub fn window_entry(window: Window) -> WindowEntry {
        WindowEntry {
            window,
            global_step: GlobalStep(window.0 + 1),
            stepped: true,
            state_digest: Self::theta_before(window.next()),
            manifest: Some(Digest::of(b"m")),
            gathered: vec![Uid(1), Uid(2)],
            gather_success: 1.0,
            training: Some(TrainingEntry {
                steps: 10,
                entry_loss: 4.0,
                last_loss: 3.9,
                tokens: 100,
                tokens_s: 100.0,
                gradient_norm: 1.0,
                residual_norm: 0.5,
                object_bytes: 6000,
                upload_margin_ms: Some(1500),
                learning_rate: 1e-3,
                ..TrainingEntry::default()
            }),
            ..WindowEntry::default()
        }
    }

    /// Writes the journal anew: a start and the windows since the second, each changed.
    pub fn write_journal(&mut self, change: impl Fn(&mut WindowEntry)) {
        let path = self.node().join(templar_node::journal::JOURNAL_FILE);
        let _ = std::fs::remove_file(&path);
        let mut journal = Journal::open(&self.node()).unwrap();
        let now = self.subject.now_ms();
        let (role, hotkey) = (self.subject.settings.role.to_string(), self.miner.public().to_string());
        journal.write(now, Entry::Started { role, version: env!("CARGO_PKG_VERSION").into(), hotkey, uid: Uid(1), threads: 2 });
        for window in (2..NOW.0).map(Window) {
            let mut entry = Self::window_entry(window);
            change(&mut entry);
            journal.write(now, Entry::Window(Box::new(entry)));
        }
        self.subject.facts = Facts::default();
    }

    /// Appends an entry to the journal.
    pub fn journal(&mut self, t_ms: u64, entry: Entry) {
        Journal::open(&self.node()).unwrap().write(t_ms, entry);
        self.subject.facts = Facts::default();
    }

    /// What a check finds.
    pub async fn finds(&self, check: &dyn Check) -> Finding {
        let running = tokio::time::timeout(Duration::from_secs(60), check.run(&self.subject)).await;
        match running.unwrap() {
            Ok(finding) | Err(finding) => finding,
        }
    }

    /// Asserts that a check passes.
    pub async fn passes(&self, check: &dyn Check) {
        let finding = self.finds(check).await;
        assert_eq!(finding.verdict, Verdict::Pass, "{}: {finding:?}", check.about().id);
    }

    /// Asserts that a check fails with a sentence that has these words.
    pub async fn fails(&self, check: &dyn Check, words: &str) {
        self.finds_as(check, Verdict::Fail, words).await;
    }

    /// Asserts that a check warns with a sentence that has these words.
    pub async fn warns(&self, check: &dyn Check, words: &str) {
        self.finds_as(check, Verdict::Warn, words).await;
    }

    async fn finds_as(&self, check: &dyn Check, verdict: Verdict, words: &str) {
        let finding = self.finds(check).await;
        assert_eq!(finding.verdict, verdict, "{}: {finding:?}", check.about().id);
        assert!(finding.sentence.contains(words), "{words:?} is not in {:?}", finding.sentence);
        let raw = ["<?xml", "<Error>", "Error performing", "Generic "];
        assert!(!raw.iter().any(|raw| finding.sentence.contains(raw)), "a library's own words: {:?}", finding.sentence);
    }
}
