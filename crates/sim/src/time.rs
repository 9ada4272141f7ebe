//! Virtual time and the tasks that live in it.
//!
//! A task is a future that waits for nothing but [`Time::sleep_until`]. The loop takes the earliest timer, sets the clock to it and polls
//! its task; timers of the same instant fire in the order in which they were set. One thread, no wall clock: the same tasks do the
//! same things in the same order.

use futures::future::LocalBoxFuture;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Names a task; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskId(usize);

/// The clock, its timers and the tasks.
#[derive(Default)]
pub struct Time {
    now_ms: Cell<u64>,
    timers: RefCell<BinaryHeap<Reverse<(u64, u64, usize)>>>,
    set: Cell<u64>,
    current: Cell<usize>,
    tasks: RefCell<Vec<Option<LocalBoxFuture<'static, ()>>>>,
}

impl Time {
    /// A clock that stands at `now_ms`, without tasks.
    pub fn new(now_ms: u64) -> Rc<Self> {
        let time = Self::default();
        time.now_ms.set(now_ms);
        Rc::new(time)
    }

    /// Now, ms.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Ready at `at_ms`; in the past: at once.
    pub fn sleep_until(self: &Rc<Self>, at_ms: u64) -> Sleep {
        Sleep { time: self.clone(), at_ms, set: false }
    }

    /// Adds a task that begins now, after those that are due already.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> TaskId {
        let mut tasks = self.tasks.borrow_mut();
        tasks.push(Some(Box::pin(task)));
        let id = tasks.len() - 1;
        self.set_timer(self.now_ms(), id);
        TaskId(id)
    }

    /// Ends a task where it waits, as `kill -9` ends a process. A task cannot end itself so.
    pub fn kill(&self, id: TaskId) {
        let dropped = self.tasks.borrow_mut().get_mut(id.0).and_then(Option::take);
        drop(dropped);
    }

    /// Ends all tasks. Tasks hold the world that holds this clock, so a world whose clock is not ended is never freed.
    pub fn end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        self.timers.borrow_mut().clear();
        drop(tasks);
    }

    /// Runs until the clock would pass `until_ms`, or nothing is left to do.
    pub fn run(&self, until_ms: u64) {
        loop {
            let Some(Reverse((at_ms, _, id))) = self.timers.borrow().peek().copied() else { return };
            if at_ms > until_ms {
                self.now_ms.set(until_ms);
                return;
            }
            self.timers.borrow_mut().pop();
            self.now_ms.set(self.now_ms().max(at_ms));
            self.poll(id);
        }
    }

    fn poll(&self, id: usize) {
        // Taken out, so that the task may spawn and kill others.
        let Some(mut task) = self.tasks.borrow_mut()[id].take() else { return };
        self.current.set(id);
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.tasks.borrow_mut()[id] = Some(task);
        }
    }

    fn set_timer(&self, at_ms: u64, id: usize) {
        let order = self.set.get();
        self.set.set(order + 1);
        self.timers.borrow_mut().push(Reverse((at_ms, order, id)));
    }
}

/// Waits for an instant of virtual time.
pub struct Sleep {
    time: Rc<Time>,
    at_ms: u64,
    set: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.time.now_ms() >= self.at_ms {
            return Poll::Ready(());
        }
        if !self.set {
            self.set = true;
            self.time.set_timer(self.at_ms, self.time.current.get());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_killed_tasks_stay_silent() {
        let time = Time::new(100);
        let log = Rc::new(RefCell::new(Vec::new()));
        let task = |name: &'static str, at: u64| {
            let (time, log) = (time.clone(), log.clone());
            async move {
                time.sleep_until(at).await;
                log.borrow_mut().push((name, time.now_ms()));
            }
        };
        time.spawn(task("late", 300));
        time.spawn(task("early", 200));
        time.spawn(task("same", 300));
        time.spawn(task("past", 50));
        let killed = time.spawn(task("killed", 250));
        time.run(150);
        assert_eq!(time.now_ms(), 150);
        time.kill(killed);
        time.run(1000);
        assert_eq!(*log.borrow(), [("past", 100), ("early", 200), ("late", 300), ("same", 300)]);
    }

    #[test]
    fn an_ended_clock_frees_its_tasks() {
        let time = Time::new(0);
        let (held, forever) = (Rc::new(()), time.clone());
        let weak = Rc::downgrade(&held);
        time.spawn(async move {
            forever.sleep_until(u64::MAX).await;
            drop(held);
        });
        time.run(10);
        assert!(weak.upgrade().is_some());
        time.end();
        assert!(weak.upgrade().is_none() && Rc::strong_count(&time) == 1);
    }
}
