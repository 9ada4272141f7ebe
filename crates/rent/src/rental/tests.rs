//! A provider in memory that loses answers, and starts and ends that are cut off between any two steps.

use super::*;
use crate::offer::{Market, Wanted};
use crate::ssh::Address;
use async_trait::async_trait;
use proptest::prelude::*;
use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Gives way once, so that a test can cut a future off here.
struct Step(bool);

impl Future for Step {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn step() -> Step {
    Step(false)
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Luck {
    Done,
    AnswerLost,
    RequestLost,
    Refused,
}

struct Cloud {
    rentals: RefCell<Vec<Remote>>,
    luck: RefCell<Vec<Luck>>,
    named: bool,
}

impl Cloud {
    fn new(named: bool, luck: Vec<Luck>) -> Self {
        let stranger = Remote { id: "stranger".into(), offer: "machine".into(), state: RemoteState::Running };
        Self { rentals: RefCell::new(vec![stranger]), luck: RefCell::new(luck), named }
    }

    fn luck(&self) -> Luck {
        self.luck.borrow_mut().pop().unwrap_or(Luck::Done)
    }

    fn lost() -> ProviderError {
        ProviderError::Unclear { provider: "test", why: "no answer".into() }
    }

    fn live(&self) -> Vec<String> {
        self.rentals
            .borrow()
            .iter()
            .filter(|remote| remote.state.is_live() && remote.id != "stranger")
            .map(|remote| remote.id.clone())
            .collect()
    }
}

#[async_trait(?Send)]
impl Provider for Cloud {
    fn name(&self) -> &'static str {
        "test"
    }
    fn planned_id(&self, offer: &str, key: &str) -> Option<String> {
        self.named.then(|| format!("{offer}/{key}"))
    }
    async fn offers(&self, _: &Wanted) -> Result<Market, ProviderError> {
        Ok(Market::default())
    }
    async fn start(&self, request: &StartRequest) -> Result<String, ProviderError> {
        step().await;
        let luck = self.luck();
        let id = self.planned_id(&request.offer.id, &request.key).unwrap_or_else(|| format!("r{}", self.rentals.borrow().len()));
        if matches!(luck, Luck::Done | Luck::AnswerLost) {
            self.rentals.borrow_mut().push(Remote { id: id.clone(), offer: request.offer.id.clone(), state: RemoteState::Starting });
        }
        step().await;
        match luck {
            Luck::Done => Ok(id),
            Luck::AnswerLost | Luck::RequestLost => Err(Self::lost()),
            Luck::Refused => Err(ProviderError::Refused { provider: "test", why: "no".into() }),
        }
    }
    async fn rentals(&self) -> Result<Vec<Remote>, ProviderError> {
        step().await;
        Ok(self.rentals.borrow().clone())
    }
    async fn address(&self, _: &str) -> Result<Option<Address>, ProviderError> {
        Ok(None)
    }
    async fn stop(&self, id: &str) -> Result<(), ProviderError> {
        step().await;
        let luck = self.luck();
        if matches!(luck, Luck::Done | Luck::AnswerLost)
            && let Some(remote) = self.rentals.borrow_mut().iter_mut().find(|remote| remote.id == id)
        {
            remote.state = RemoteState::Ended;
        }
        step().await;
        if luck == Luck::Done { Ok(()) } else { Err(Self::lost()) }
    }
    async fn logs(&self, _: &str, _: u32) -> Result<String, ProviderError> {
        Ok(String::new())
    }
}

/// Polls a future at most `most` times, then drops it: what a kill between two steps does. `None` if it was cut off.
fn cut<T>(future: impl Future<Output = T>, most: usize) -> Option<T> {
    let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
    (0..most).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

fn whole<T>(future: impl Future<Output = T>) -> T {
    cut(future, 1000).expect("it ends")
}

fn deal() -> Deal {
    let offer = Offer {
        id: "machine".into(),
        gpu: "h200".into(),
        gpus: 8,
        gpu_memory_gb: 141,
        cpu_cores: 1,
        memory_gb: 1,
        place: String::new(),
        price_hour: Some(Usd(1)),
    };
    Deal {
        offer,
        price_hour: None,
        charged_ms_min: 0,
        limits: Limits::default(),
        trial: false,
        public_key: "k".into(),
        image: String::new(),
    }
}

/// Whatever was left: bring the ledger up to date and end all that it has open, as `rent stop --all` does. Time enough passes that a request
/// without any effect is recognised as such.
fn clean_up(dir: &Path, cloud: &Cloud) -> Vec<Remote> {
    let mut ledger = Ledger::open(dir).unwrap();
    let mut strangers = vec![];
    for round in 0..3 {
        let now = 10_000 + round * (APPEARS_MS + 1);
        strangers = whole(reconcile(&mut ledger, cloud, now)).unwrap().strangers;
        let open: Vec<String> = ledger.entries().iter().filter(|entry| entry.stage.is_open()).map(|entry| entry.key.clone()).collect();
        for key in open {
            let _ = whole(stop(&mut ledger, cloud, &key, "cleaning up", now));
        }
    }
    assert!(ledger.entries().iter().all(|entry| !entry.stage.is_open()), "{:?}", ledger.entries());
    strangers
}

#[test]
fn a_rental_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::new(false, vec![]);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let entry = whole(start(&mut ledger, &cloud, &deal(), "k1", 5)).unwrap();
    assert_eq!((entry.stage, entry.rental.as_deref()), (Stage::Running, Some("r1")));
    assert_eq!(whole(reconcile(&mut ledger, &cloud, 6)).unwrap().strangers.len(), 1);
    let ended = whole(stop(&mut ledger, &cloud, "k1", "asked", 7)).unwrap();
    assert_eq!((ended.stage, ended.ended_ms), (Stage::Ended, Some(7)));
    assert!(cloud.live().is_empty());
}

#[test]
fn a_refusal_costs_nothing_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::new(false, vec![Luck::Refused]);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    assert!(whole(start(&mut ledger, &cloud, &deal(), "k1", 5)).is_err());
    assert_eq!(ledger.find("k1").unwrap().stage, Stage::Refused);
}

#[test]
fn a_lost_answer_is_found_by_listing_and_strangers_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::new(false, vec![Luck::AnswerLost]);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    assert!(whole(start(&mut ledger, &cloud, &deal(), "k1", 5)).is_err());
    assert_eq!(ledger.find("k1").unwrap().stage, Stage::Asked);
    whole(stop(&mut ledger, &cloud, "k1", "asked", 6)).unwrap();
    assert!(cloud.live().is_empty());
    assert_eq!(cloud.rentals.borrow()[0].state, RemoteState::Running, "the stranger's runs on");
}

#[test]
fn what_is_still_listed_has_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::new(false, vec![]);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    whole(start(&mut ledger, &cloud, &deal(), "k1", 5)).unwrap();
    *cloud.luck.borrow_mut() = vec![Luck::RequestLost];
    assert!(whole(stop(&mut ledger, &cloud, "k1", "asked", 6)).is_err());
    assert_eq!(ledger.find("k1").unwrap().stage, Stage::Stopping);
}

#[test]
fn a_machine_that_does_not_answer_has_not_ended() {
    let entry = Entry { rental: Some("box/k".into()), ..crate::ledger::tests::entry("k", Stage::Running) };
    let entry = Entry { offer: Offer { id: "box".into(), ..entry.offer.clone() }, ..entry };
    let silent = [Remote { id: "box/?".into(), offer: "box".into(), state: RemoteState::Unknown }];
    assert_eq!(compare(&entry, &silent, &BTreeSet::new(), u64::MAX), None);
    assert_eq!(compare(&entry, &[], &BTreeSet::new(), u64::MAX).unwrap().stage, Stage::Ended);
}

fn any_luck() -> impl Strategy<Value = Vec<Luck>> {
    proptest::collection::vec(prop_oneof![Just(Luck::Done), Just(Luck::AnswerLost), Just(Luck::RequestLost), Just(Luck::Refused)], 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Starts and ends that are cut off anywhere, with requests and answers lost: what was started is found and ended, and nothing else is.
    #[test]
    fn nothing_that_was_rented_is_ever_lost(named: bool, luck in any_luck(), cuts in proptest::collection::vec(0..8_usize, 1..6)) {
        let dir = tempfile::tempdir().unwrap();
        let cloud = Cloud::new(named, luck);
        for (number, most) in cuts.into_iter().enumerate() {
            // Each process opens the ledger anew. A second rental of a machine is asked for only when the first is settled, as the command does.
            let key = format!("k{number}");
            {
                let mut ledger = Ledger::open(dir.path()).unwrap();
                let _ = cut(start(&mut ledger, &cloud, &deal(), &key, 10), most);
            }
            {
                let mut ledger = Ledger::open(dir.path()).unwrap();
                let _ = cut(stop(&mut ledger, &cloud, &key, "x", 20), most);
                let _ = whole(reconcile(&mut ledger, &cloud, 30));
            }
        }
        cloud.luck.borrow_mut().clear();
        let strangers = clean_up(dir.path(), &cloud);
        prop_assert!(cloud.live().is_empty(), "left: {:?}", cloud.live());
        prop_assert_eq!(strangers.len(), 1);
        prop_assert_eq!(cloud.rentals.borrow()[0].state, RemoteState::Running);
    }
}
