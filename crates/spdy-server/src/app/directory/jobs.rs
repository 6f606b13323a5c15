//! Jobs for the threads for blocking work: how many of them there are at once, and how long a
//! request waits for one.

use std::{future::Future, io, ops::Deref, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

/// Jobs of one kind, of which there are no more at once than a limit.
#[derive(Clone, Debug)]
pub(super) struct Jobs(Arc<Semaphore>);

impl Jobs {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Waits until there are fewer jobs than the limit. Use it [in time](in_time). Cancel safe.
    pub(super) async fn turn(&self) -> Turn {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        Turn(permit.expect("it is never closed"))
    }
}

/// The right to one job.
#[derive(Debug)]
pub(super) struct Turn(OwnedSemaphorePermit);

impl Turn {
    /// Runs the job, which cannot be stopped: if the future is dropped, the job goes on, and its
    /// turn lasts until its end.
    ///
    /// # Errors
    /// Returns an error if the job panics.
    pub(super) async fn run<T>(self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T>
    where
        T: Send + 'static,
    {
        let job = move || {
            let _turn = self.0;
            job()
        };
        spawn_blocking(job).await.map_err(io::Error::other)
    }
}

/// Something that a job drops, since closing a file can wait for a disk. Without a runtime it is
/// dropped at once.
#[derive(Debug)]
pub(super) struct Closing<T: Send + 'static> {
    /// `None` once it is dropped.
    value: Option<T>,
    jobs: Jobs,
}

impl<T: Send> Closing<T> {
    pub(super) const fn new(value: T, jobs: Jobs) -> Self {
        let value = Some(value);
        Self { value, jobs }
    }
}

impl<T: Send> Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("only `drop` takes it")
    }
}

impl<T: Send> Drop for Closing<T> {
    fn drop(&mut self) {
        let (value, jobs) = (self.value.take(), self.jobs.clone());
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { jobs.turn().await.run(move || drop(value)).await });
        }
    }
}

/// Waits for the disk, but no longer than [`WAIT`].
///
/// # Errors
/// Returns the error of the work, or that the time is over.
pub(super) async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(WAIT, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, LATE)),
    }
}

/// How long a request waits for the disk, and for the jobs before its own.
pub(super) const WAIT: Duration = Duration::from_secs(30);

const LATE: &str = "the directory had no answer within 30 s: see whether the disk hangs or is slower \
                    than its requests need, or whether responses that are not read hold all of \
                    Directory::max_handles or Directory::max_lent";

#[cfg(test)]
pub(super) mod tests {
    use std::{
        future::poll_fn,
        pin::Pin,
        sync::mpsc,
        task::Poll,
        thread::{self, ThreadId},
    };

    use tokio::task::yield_now;

    use super::*;

    /// Polls a request once.
    pub(crate) async fn begin<T>(request: &mut Pin<Box<impl Future<Output = T>>>) {
        poll_fn(|cx| {
            let _pending = request.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_job_whose_request_is_gone_keeps_its_turn_until_its_end() {
        let jobs = Jobs::new(1);
        let (end, ended) = mpsc::channel::<()>();
        let turn = jobs.turn().await;
        begin(&mut Box::pin(turn.run(move || ended.recv()))).await;
        assert_eq!(jobs.0.available_permits(), 0);
        end.send(()).unwrap();
        let _next = jobs.turn().await;
    }

    struct Told(mpsc::Sender<ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            _ = self.0.send(thread::current().id());
        }
    }

    #[tokio::test]
    async fn what_can_wait_for_a_disk_is_dropped_by_a_job() {
        let jobs = Jobs::new(1);
        let (tell, told) = mpsc::channel();
        let hung = jobs.turn().await;
        drop(Closing::new(Told(tell), jobs.clone()));
        yield_now().await;
        assert!(told.try_recv().is_err(), "it has not waited for its turn");
        drop(hung);
        let dropped = spawn_blocking(move || told.recv_timeout(Duration::from_secs(60)));
        let thread = dropped.await.unwrap().unwrap();
        assert_ne!(thread, thread::current().id());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_turn_for_ever() {
        let jobs = Jobs::new(1);
        let _hung = jobs.turn().await;
        let start = tokio::time::Instant::now();
        let late = in_time(async { Ok(jobs.turn().await) }).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WAIT.as_secs());
    }
}
