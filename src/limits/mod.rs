//! Limits on clients: connections, handshakes, memory of the process and of TCP, and
//! descriptors.

pub(crate) mod admission;
pub(crate) mod descriptors;
pub(crate) mod handshakes;
pub(crate) mod memory_budget;
pub(crate) mod tcp_memory;
