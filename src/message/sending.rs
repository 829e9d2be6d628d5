//! A message that is being written from where it stands.

use super::{MessageError, MessageSocket};

/// Such a message. What of it is not written when this is dropped goes out with the
/// next write, or read.
pub(super) struct Sending<'a> {
    socket: &'a mut MessageSocket,
    rest: &'a [u8],
}

impl<'a> Sending<'a> {
    /// A message whose header is in the outbox, and which has so much memory.
    pub(super) fn new(socket: &'a mut MessageSocket, payload: &'a [u8], capacity: usize) -> Self {
        socket.sending = capacity;
        Self {
            socket,
            rest: payload,
        }
    }

    /// Writes it behind the outbox.
    pub(super) async fn flush(mut self) -> Result<(), MessageError> {
        let flushed = self.socket.flush_with(&mut self.rest).await;
        if flushed.is_err() {
            // The connection is over.
            self.rest = &[];
        }
        flushed
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.socket.outbox.extend_from_slice(self.rest);
        self.socket.sending = 0;
        self.socket.note_held();
    }
}
