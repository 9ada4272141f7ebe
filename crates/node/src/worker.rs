//! The worker: one thread that owns the heavy state (θ, residual, trainer) and runs jobs on it in a thread pool of a stated size.
//!
//! Jobs run one after the other; the async side waits for each. A job that panics ends the worker, and every later call says so.

use std::any::Any;
use std::io;
use tokio::sync::oneshot;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// The worker is gone: a job panicked. The process must end, because its state is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker thread has ended after a defect; restart the node, its state on disk is whole")]
pub struct WorkerGone;

/// A handle on the worker.
pub struct Worker<T> {
    jobs: std::sync::mpsc::Sender<Job<T>>,
}

impl<T> Clone for Worker<T> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the worker on `state` with `threads` threads.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn start(threads: usize, state: T) -> io::Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build().map_err(io::Error::other)?;
        let (jobs, queue) = std::sync::mpsc::channel::<Job<T>>();
        std::thread::Builder::new().name("templar-worker".into()).spawn(move || {
            let mut state = state;
            for job in queue {
                pool.install(|| job(&mut state));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs `job` and waits for what it gives.
    ///
    /// # Errors
    /// A job, this or an earlier one, panicked.
    pub async fn run<R: Send + Any>(&self, job: impl FnOnce(&mut T) -> R + Send + 'static) -> Result<R, WorkerGone> {
        let (done, result) = oneshot::channel();
        let job = move |state: &mut T| {
            // Nobody waits any more when the node is stopping.
            let _ = done.send(job(state));
        };
        self.jobs.send(Box::new(job)).map_err(|_| WorkerGone)?;
        result.await.map_err(|_| WorkerGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_in_order_on_the_pool() {
        let worker = Worker::start(3, Vec::new()).unwrap();
        for i in 0..5 {
            worker.run(move |list: &mut Vec<i32>| list.push(i)).await.unwrap();
        }
        let (list, threads) = worker.run(|list: &mut Vec<i32>| (list.clone(), rayon::current_num_threads())).await.unwrap();
        assert_eq!((list, threads), (vec![0, 1, 2, 3, 4], 3));
    }

    #[tokio::test]
    async fn a_panic_is_told_to_everybody() {
        let worker = Worker::start(1, ()).unwrap();
        assert_eq!(worker.run(|()| panic!("on purpose")).await, Err::<(), _>(WorkerGone));
        assert_eq!(worker.run(|()| ()).await, Err(WorkerGone));
    }
}
