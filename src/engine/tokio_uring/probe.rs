//! Whether this engine works here: asked by doing it.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use tokio::time::timeout;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::UnixStream;

/// More than any working ring takes for one echo.
const PATIENCE: Duration = Duration::from_secs(2);

const MESSAGE: &[u8] = b"is anybody there?";

/// Echoes a message through a ring of its own.
pub(crate) fn probe() -> io::Result<()> {
    // A timeout is made on the runtime that it counts on.
    let echoed = super::runtime()?.block_on(async { timeout(PATIENCE, echo()).await });
    echoed.unwrap_or_else(|_elapsed| Err(io::Error::other("an echo through a ring got no answer")))
}

async fn echo() -> io::Result<()> {
    let (ours, theirs) = StdStream::pair()?;
    let (ours, theirs) = (UnixStream::from_std(ours), UnixStream::from_std(theirs));
    send(&ours, MESSAGE.to_vec()).await?;
    let echoed = receive(&theirs).await?;
    send(&theirs, echoed).await?;
    if receive(&ours).await? == MESSAGE {
        Ok(())
    } else {
        Err(io::Error::other("an echo through a ring came back wrong"))
    }
}

async fn send(stream: &UnixStream, message: Vec<u8>) -> io::Result<()> {
    stream.write_all(message).await.0
}

async fn receive(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    while message.len() < MESSAGE.len() {
        let (result, space) = stream
            .read(Vec::with_capacity(MESSAGE.len()).slice_full())
            .await;
        let piece = space.into_inner();
        match result? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => message.extend_from_slice(&piece[..len]),
        }
    }
    Ok(message)
}
