//! The kinds of tasks that a worker and its server run.

/// The work of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// Accepts connections.
    Accept,
    /// Checks timeouts.
    Tick,
    /// Moves the bytes of an engine's connections.
    Engine,
    /// Serves one connection, from its accept or from its upgrade.
    Connection,
    /// Waits for signals, in the server's thread.
    Signals,
}
