//! A server's connections.

/// Connections by their token, which is their descriptor: the kernel assigns the lowest free one,
/// so an array is the fastest lookup.
#[derive(Debug)]
pub(super) struct ConnectionTable<T> {
    slots: Vec<Option<T>>,
}

impl<T> ConnectionTable<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new() }
    }

    pub(super) fn insert(&mut self, token: usize, connection: T) {
        if token >= self.slots.len() {
            self.slots.resize_with(token + 1, || None);
        }
        self.slots[token] = Some(connection);
    }

    /// Drops a connection; that closes it.
    pub(super) fn remove(&mut self, token: usize) {
        self.slots[token] = None;
    }

    /// `None` when it is closed already.
    #[inline]
    pub(super) fn get_mut(&mut self, token: usize) -> Option<&mut T> {
        self.slots.get_mut(token)?.as_mut()
    }
}
