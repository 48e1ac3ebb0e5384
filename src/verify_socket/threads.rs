//! Threads of one connection each. One that is done waits a while for the next connection: making a thread costs more than most connections do.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// What such a thread needs at most is far below this.
const STACK_BYTES: usize = 256 * 1024;
/// Threads that wait, and for how long.
const WAITING: usize = 32;
const WAITING_TIME: Duration = Duration::from_secs(10);

/// Threads for work of one kind.
pub(super) struct Threads<W> {
    queue: Mutex<Queue<W>>,
    called: Condvar,
}

struct Queue<W> {
    /// Never more than threads that wait.
    work: VecDeque<W>,
    waiting: usize,
    stopping: bool,
}

/// What a thread does. However it ends, dropping it is its end.
pub(super) trait Work: Send + 'static {
    fn run(self);
}

impl<W: Work> Threads<W> {
    pub(super) fn new() -> Arc<Threads<W>> {
        Arc::new(Threads { queue: Mutex::new(Queue { work: VecDeque::new(), waiting: 0, stopping: false }), called: Condvar::new() })
    }

    /// Gives work to a thread that waits, or to a new one.
    ///
    /// # Errors
    /// The kernel gives no thread. The work is dropped.
    pub(super) fn give(self: &Arc<Self>, work: W) -> io::Result<()> {
        let mut queue = self.queue.lock();
        if queue.waiting > queue.work.len() {
            queue.work.push_back(work);
            drop(queue);
            self.called.notify_one();
            return Ok(());
        }
        drop(queue);
        let threads = Arc::clone(self);
        let run = move || {
            let mut next = Some(work);
            while let Some(work) = next {
                work.run();
                next = threads.wait();
            }
        };
        thread::Builder::new().name("verify-one".into()).stack_size(STACK_BYTES).spawn(run).map(drop)
    }

    /// The next work, if any comes in time.
    fn wait(&self) -> Option<W> {
        let mut queue = self.queue.lock();
        if queue.waiting >= WAITING || queue.stopping {
            return None;
        }
        queue.waiting += 1;
        let until = Instant::now() + WAITING_TIME;
        while queue.work.is_empty() && !queue.stopping && !self.called.wait_until(&mut queue, until).timed_out() {}
        queue.waiting -= 1;
        queue.work.pop_front()
    }

    /// Lets those go that wait.
    pub(super) fn stop(&self) {
        self.queue.lock().stopping = true;
        self.called.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    /// Tells its thread, and ends when it is told to.
    struct Tell(Sender<ThreadId>, Receiver<()>);

    impl Work for Tell {
        fn run(self) {
            let _ = self.0.send(thread::current().id());
            let _ = self.1.recv();
        }
    }

    #[test]
    fn a_thread_that_is_done_takes_the_next_work_and_who_is_at_work_is_not_waited_for() {
        let threads = Threads::new();
        let (told, tells) = channel();
        let give = || {
            let (end, ends) = channel();
            threads.give(Tell(told.clone(), ends)).unwrap();
            (tells.recv_timeout(Duration::from_secs(10)).unwrap(), end)
        };
        let waiting = |count: usize| {
            while threads.queue.lock().waiting != count {
                thread::yield_now();
            }
        };
        let (first, first_end) = give();
        let (second, second_end) = give();
        assert_ne!(first, second);
        drop(first_end);
        waiting(1);
        let (third, third_end) = give();
        assert_eq!(third, first);
        let (fourth, fourth_end) = give();
        assert!(fourth != first && fourth != second);
        drop((second_end, third_end, fourth_end));
        waiting(3);
        threads.stop();
        waiting(0);
        let (fifth, _end) = give();
        assert!(![first, second, fourth].contains(&fifth), "nobody waits after the end");
    }
}
