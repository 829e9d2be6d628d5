//! System calls, which fail on demand in tests; tasks of a worker; paths that are
//! removed with their owner; the channel that stops a server's threads.

#[cfg(not(test))]
pub(crate) mod calls;
#[cfg(test)]
#[path = "calls/faulty.rs"]
pub(crate) mod calls;
pub(crate) mod owned_path;
pub(crate) mod shutdown;
pub(crate) mod task;
pub(crate) mod task_kind;
pub(crate) mod turn;
pub(crate) mod uring_operation;
