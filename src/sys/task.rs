//! The tasks of a worker: a panic in one of them ends the worker.
//!
//! Without a task, its worker would go on but not accept, or not check timeouts. So the
//! panic ends the worker, and with it the server.

use std::any::Any;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use crate::sys::calls;
use crate::sys::task_kind::TaskKind;
use crate::sys::turn::turn;

/// The payload of a panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// The tasks of the worker that runs on this thread.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Rc<PanicSlot>);

#[derive(Default)]
struct PanicSlot {
    panic: Cell<Option<Panic>>,
    happened: Notify,
}

impl Tasks {
    /// Runs `future` on this thread's runtime. If it panics,
    /// [`panicked`](Self::panicked) is ready, and the task never is.
    pub(crate) fn spawn<F>(&self, kind: TaskKind, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: 'static> + 'static,
    {
        let Self(slot) = self.clone();
        // An async block around it would reserve its size twice.
        let mut future = Box::pin(future);
        spawn_local(poll_fn(move |cx| {
            let poll = || {
                calls::poll(kind);
                match kind {
                    TaskKind::Connection => turn(|| future.as_mut().poll(cx)),
                    _ => future.as_mut().poll(cx),
                }
            };
            catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|panic| {
                slot.panic.set(Some(panic));
                slot.happened.notify_one();
                Poll::Pending
            })
        }))
    }

    /// Waits until one of the tasks panics.
    pub(crate) async fn panicked(&self) -> Panic {
        loop {
            self.0.happened.notified().await;
            if let Some(panic) = self.0.panic.take() {
                return panic;
            }
        }
    }
}

/// Runs `future` to its end, or to its panic.
pub(crate) async fn catch<T>(mut future: Pin<Box<dyn Future<Output = T>>>) -> Result<T, Panic> {
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}
