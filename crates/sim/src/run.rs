//! Running a scenario: the chain's task, the processes of the nodes, and whoever starts and kills them.

use crate::miner::{self, Miner};
use crate::nodes;
use crate::record::{Epoch, Record, SimEntry, Sink};
use crate::report::Report;
use crate::scenario::{FaultKind, Scenario};
use crate::store::NodeIndex;
use crate::validator::{self, Validator};
use crate::world::{FIRST_WINDOW, NETUID, Role, World, WorldError, now};
use std::cell::RefCell;
use std::rc::Rc;
use templar_chain::Chain;
use templar_node::journal::Entry;
use templar_protocol::{Uid, Window};
use templar_wallet::Signer;

/// By how much a slow link is slower, down and up: objects still come within a window, and are not up in time.
const SLOW_LINK: [f64; 2] = [400.0, 1000.0];

/// What the supervisor does at an instant.
#[derive(Clone, Debug, PartialEq)]
enum Order {
    Kill(NodeIndex),
    Start(NodeIndex),
    Cut(Vec<NodeIndex>, bool),
    Down(Vec<NodeIndex>, bool),
    Ill(Vec<NodeIndex>, FaultKind, bool),
    Newcomer,
}

enum Disk {
    Miner(Rc<RefCell<miner::Disk>>),
    Validator(Rc<RefCell<validator::Disk>>),
}

/// Runs `scenario` at `seed` for `windows` windows (those of the scenario, if none), writing the journal to `sink`.
///
/// # Errors
/// The scenario cannot be played.
pub fn simulate(scenario: &Scenario, seed: u64, sink: Option<Sink>) -> Result<Report, WorldError> {
    // One thread that does all the work: the codec's parallel loops run in place, and several simulations do not meet in a common pool.
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|error| crate::lab::LabError::Dir(std::io::Error::other(error)))?;
    pool.install(|| {
        let world = World::new(scenario, seed, Record::new(sink))?;
        play(&world, seed);
        Ok(Report::of(&world, seed))
    })
}

fn play(world: &Rc<World>, seed: u64) {
    let run = &world.run;
    let end = Window(FIRST_WINDOW.0 + world.scenario.windows).first_block(run.blocks_per_window());
    let started_ms = world.time.now_ms();
    // The last window is decided and evaluated, and the next not yet over.
    let end_ms = started_ms + end.0 * run.block_ms() + run.window_ms() * 9 / 10;
    world.time.spawn(keep_chain(world.clone()));
    let mut machines = Machines { world: world.clone(), disks: vec![], seed, newcomers: 0 };
    let count = world.nodes.borrow().len();
    (0..count).for_each(|index| machines.start(index));
    let orders = plan(world);
    world.time.spawn(supervise(machines, orders));
    world.time.run(end_ms);
    world.time.end();
}

async fn keep_chain(world: Rc<World>) {
    let mut epochs = 0;
    loop {
        let next_ms = world.head().time_ms + world.run.block_ms();
        world.time.sleep_until(next_ms).await;
        // A chain in memory cannot fail to close a block.
        let Ok(block) = world.chain.close_block() else { return };
        let schedule = now(world.chain.epoch_schedule(NETUID));
        let Ok(schedule) = schedule else { continue };
        if schedule.epoch_index > epochs {
            epochs = schedule.epoch_index;
            pay_day(&world, Window::of_block(block.number, world.run.blocks_per_window()));
        }
    }
}

/// Notes what an epoch has paid.
fn pay_day(world: &World, window: Window) {
    let metagraph = world.metagraph(world.head().number);
    let mut epoch = Epoch { window: window.0, ..Epoch::default() };
    for neuron in &metagraph.neurons {
        if let Some(node) = world.owner_of(&neuron.hotkey) {
            epoch.emission.insert(node, neuron.emission);
        }
    }
    let emission = epoch.emission.iter().map(|(node, amount)| (world.node(*node).name.clone(), *amount)).collect();
    let mut record = world.record.borrow_mut();
    record.tell(world.time.now_ms(), "chain", &SimEntry::Epoch { window, emission });
    record.epochs.push(epoch);
}

/// All that will break and be mended, by rising time.
fn plan(world: &World) -> Vec<(u64, Order)> {
    let (scenario, run) = (&world.scenario, &world.run);
    let start_of = |window: u64| world.time.now_ms() + window * run.window_ms();
    let mut orders = Vec::new();
    let index_of = |name: &String| world.nodes.borrow().iter().position(|node| node.name == *name);
    for fault in &scenario.faults {
        let nodes: Vec<NodeIndex> = fault.nodes.iter().filter_map(index_of).collect();
        let (from_ms, to_ms) = (start_of(fault.from_window) + run.window_ms() / 3, start_of(fault.from_window + fault.windows));
        match fault.kind {
            FaultKind::Crash => {
                orders.extend(nodes.iter().map(|&node| (from_ms, Order::Kill(node))));
                orders.extend(nodes.iter().map(|&node| (to_ms, Order::Start(node))));
            }
            FaultKind::Partition => orders.extend([(from_ms, Order::Cut(nodes.clone(), true)), (to_ms, Order::Cut(nodes, false))]),
            FaultKind::StoreDown => orders.extend([(from_ms, Order::Down(nodes.clone(), true)), (to_ms, Order::Down(nodes, false))]),
            kind => {
                let again = |at_ms| nodes.iter().flat_map(move |&node| [(at_ms, Order::Kill(node)), (at_ms, Order::Start(node))]);
                orders.push((from_ms, Order::Ill(nodes.clone(), kind, true)));
                orders.push((to_ms, Order::Ill(nodes.clone(), kind, false)));
                orders.extend(again(from_ms).filter(|_| kind.restarts()));
                orders.extend(again(to_ms).filter(|_| kind.ends()));
            }
        }
    }
    for window in FIRST_WINDOW.0..FIRST_WINDOW.0 + scenario.windows {
        let place = world.draw.of("churn").at(window);
        for (index, node) in world.nodes.borrow().iter().enumerate() {
            let place = place.at(index as u64);
            if node.role == Role::Miner && place.chance(scenario.churn.crash) {
                let at_ms = start_of(window) + place.of("when").between(0, run.window_ms());
                let [least, most] = scenario.churn.away_windows;
                let away_ms = run.window_ms() * place.of("away").between(least, most) + run.window_ms() / 8;
                orders.extend([(at_ms, Order::Kill(index)), (at_ms + away_ms, Order::Start(index))]);
            }
        }
        if place.of("newcomer").chance(scenario.churn.newcomer) {
            orders.push((start_of(window) + place.of("arrival").between(0, run.window_ms()), Order::Newcomer));
        }
    }
    orders.sort_by_key(|(at_ms, _)| *at_ms);
    orders
}

async fn supervise(mut machines: Machines, orders: Vec<(u64, Order)>) {
    for (at_ms, order) in orders {
        machines.world.time.sleep_until(at_ms).await;
        machines.carry_out(order);
    }
}

/// The nodes' disks and processes.
struct Machines {
    world: Rc<World>,
    disks: Vec<Disk>,
    seed: u64,
    newcomers: usize,
}

impl Machines {
    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Kill(index) => self.kill(index),
            Order::Start(index) => self.start(index),
            Order::Cut(nodes, cut) => {
                nodes.iter().for_each(|&node| self.world.store.borrow_mut().side[node] = cut);
                nodes.iter().for_each(|&node| self.note_cut(node, cut));
            }
            Order::Down(nodes, down) => {
                nodes.iter().for_each(|&node| self.world.store.borrow_mut().down[node] = down);
                nodes.iter().for_each(|&node| self.note_cut(node, down));
            }
            Order::Ill(nodes, kind, ill) => {
                nodes.iter().for_each(|&node| self.afflict(node, kind, ill));
                nodes.iter().for_each(|&node| self.note_cut(node, ill));
            }
            Order::Newcomer => self.newcomer(),
        }
    }

    /// Begins or ends a fault; what concerns buckets and links is the store's.
    fn afflict(&mut self, node: NodeIndex, kind: FaultKind, ill: bool) {
        let mut store = self.world.store.borrow_mut();
        match kind {
            FaultKind::Denied => store.denied[node] = ill,
            FaultKind::Hidden => store.hidden[node] = ill,
            FaultKind::Throttled => store.throttled[node] = ill,
            FaultKind::SlowDownload => store.slower[node][0] = if ill { SLOW_LINK[0] } else { 1.0 },
            FaultKind::SlowUpload => store.slower[node][1] = if ill { SLOW_LINK[1] } else { 1.0 },
            _ => {}
        }
        drop(store);
        let mut ills = self.world.ills.borrow_mut();
        if ill {
            ills.insert((node, kind))
        } else {
            ills.remove(&(node, kind))
        };
        drop(ills);
        if kind == FaultKind::Stopped && ill {
            let (name, why) = (self.world.node(node).name.clone(), "Terminate".to_owned());
            self.world.record.borrow_mut().note(self.world.time.now_ms(), &name, &Entry::Stopped { kind: String::new(), why });
            self.kill(node);
        }
    }

    fn note_down(&self, index: NodeIndex) {
        let window = Window::of_block(self.world.head().number, self.world.run.blocks_per_window());
        let mut record = self.world.record.borrow_mut();
        // The window before may still be in its upload.
        record.down.entry(index).or_default().extend([window.0.saturating_sub(1), window.0]);
    }

    /// Notes the windows of a cut when it begins; what ends is noted as it was.
    fn note_cut(&self, index: NodeIndex, cut: bool) {
        let name = self.world.node(index).name.clone();
        let of_node = |fault: &&crate::scenario::Fault| fault.kind != FaultKind::Crash && fault.nodes.contains(&name);
        let mut record = self.world.record.borrow_mut();
        for fault in self.world.scenario.faults.iter().filter(of_node).filter(|_| cut) {
            record.down.entry(index).or_default().extend(fault.from_window.saturating_sub(1)..=fault.from_window + fault.windows);
        }
    }

    fn kill(&mut self, index: NodeIndex) {
        let task = self.world.tasks.borrow_mut()[index].take();
        if let Some(task) = task {
            self.world.time.kill(task);
            self.note_down(index);
            let name = self.world.node(index).name.clone();
            self.world.record.borrow_mut().tell(self.world.time.now_ms(), &name, &SimEntry::Killed);
        }
    }

    fn start(&mut self, index: NodeIndex) {
        let (world, info) = (self.world.clone(), self.world.node(index));
        if world.tasks.borrow()[index].is_some() {
            return;
        }
        while self.disks.len() <= index {
            self.disks.push(match world.node(self.disks.len()).role {
                Role::Miner => Disk::Miner(Rc::default()),
                Role::Validator => Disk::Validator(Rc::default()),
            });
        }
        let metagraph = world.metagraph(world.head().number);
        let Some(uid) = metagraph.by_hotkey(&info.key.account_id()).map(|neuron| neuron.uid) else { return };
        if world.time.now_ms() > world.run.descriptor.started_ms {
            self.note_down(index);
        }
        let task = match &self.disks[index] {
            Disk::Miner(disk) => world.time.spawn(Miner::new(&world, index, uid, disk.clone()).run()),
            Disk::Validator(disk) => world.time.spawn(Validator::new(&world, index, uid, disk.clone()).run()),
        };
        world.tasks.borrow_mut()[index] = Some(task);
    }

    /// A new miner registers, for which the chain gives up the slot of another.
    fn newcomer(&mut self) {
        let world = self.world.clone();
        let (index, number) = (world.nodes.borrow().len(), world.scenario.nodes.miners + self.newcomers);
        self.newcomers += 1;
        let node = nodes::node(&world.scenario, self.seed, world.draw, index, Role::Miner, number);
        let (name, coldkey, hotkey) = (node.name.clone(), node.coldkey.clone(), node.key.account_id());
        let index = world.add_node(node, nodes::link(&world.scenario, world.draw, index, Role::Miner));
        match world.register(&*coldkey, &hotkey) {
            Ok((uid, price)) => {
                let mut record = world.record.borrow_mut();
                record.tell(world.time.now_ms(), &name, &SimEntry::Registered { uid, price });
                record.fees.insert(index, price);
                drop(record);
                // The slot is the newcomer's from the next block on.
                let (world, at_ms) = (world.clone(), world.time.now_ms() + 2 * world.run.block_ms());
                let disk: Rc<RefCell<miner::Disk>> = Rc::default();
                self.disks.push(Disk::Miner(disk.clone()));
                let task = world.time.spawn(settle_in(world.clone(), index, uid, at_ms, disk));
                world.tasks.borrow_mut()[index] = Some(task);
            }
            Err(why) => world.record.borrow_mut().tell(world.time.now_ms(), &name, &SimEntry::NotRegistered { why }),
        }
    }
}

async fn settle_in(world: Rc<World>, index: NodeIndex, uid: Uid, at_ms: u64, disk: Rc<RefCell<miner::Disk>>) {
    world.time.sleep_until(at_ms).await;
    let window = Window::of_block(world.head().number, world.run.blocks_per_window());
    world.record.borrow_mut().since.insert(index, window.0);
    Miner::new(&world, index, uid, disk).run().await;
}
