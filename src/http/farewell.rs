//! The end of a connection that was not upgraded.
//!
//! To close a socket with unread bytes in it makes the kernel send a RST, and
//! a RST can overtake the answer and destroy it. So the write side goes first,
//! and what the peer still sends is thrown away until it closes too; both
//! within bounds, since a peer may go on for as long as it likes.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::transport::stream::Stream;

/// What a peer may send after its answer before it is cut off.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// The time a peer has to take its answer and close.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// ... where it is over a limit: few may be told so at a time, and the next one
/// waits for this one's place.
pub(super) const LINGER_OVER_LIMIT: Duration = Duration::from_millis(100);

/// Sees an answer off that is already written, for so long at most.
pub(super) async fn linger(mut stream: Stream, time: Duration) {
    // An error or a timeout here is the end as well, and a later one.
    let _ = timeout(time, part(&mut stream)).await;
}

/// Writes an answer for which the deadline of requests does not count, and sees it
/// off.
pub(super) async fn last_words(mut stream: Stream, answer: &[u8]) {
    let _ = timeout(LINGER, async {
        stream.write_all(answer).await?;
        part(&mut stream).await
    })
    .await;
}

async fn part(stream: &mut Stream) -> io::Result<()> {
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

/// Not a part of the future above, which would carry the buffer along.
fn discard(stream: &mut Stream) -> io::Result<usize> {
    stream.try_read(&mut [0; 4096])
}
