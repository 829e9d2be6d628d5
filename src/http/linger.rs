//! The lingering close of a connection that was not upgraded.
//!
//! Closing a socket with unread bytes makes the kernel send a RST, which can overtake
//! the answer and destroy it. So the write side is shut down first, and the peer's bytes
//! are discarded until it closes too, up to limits of time and bytes.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::transport::stream::Stream;

/// Bytes that are discarded before the connection is cut.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// The time for a peer to read its answer and close.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The same for a peer over a limit: it takes one of few slots.
pub(super) const LINGER_OVER_LIMIT: Duration = Duration::from_millis(100);

/// Closes after an answer that is already written, within `time`.
pub(super) async fn close(mut stream: Stream, time: Duration) {
    // An error or a timeout ends the connection as well.
    let _ = timeout(time, shut_down(&mut stream)).await;
}

/// Writes an answer, without the deadline of requests, and closes.
pub(super) async fn send_and_close(mut stream: Stream, answer: &[u8]) {
    let _ = timeout(LINGER, async {
        stream.write_all(answer).await?;
        shut_down(&mut stream).await
    })
    .await;
}

async fn shut_down(stream: &mut Stream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut discarded = 0;
    while discarded < DISCARD_BYTES_MAX {
        stream.readable().await?;
        match discard(stream) {
            Ok(0) => break,
            Ok(read) => discarded += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Not inlined into the future above, which would then include the buffer.
fn discard(stream: &mut Stream) -> io::Result<usize> {
    stream.try_read(&mut [0; 4096])
}
