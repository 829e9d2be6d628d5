//! Whether this engine works here: asked by doing it.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::thread;
use std::time::Duration;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::UnixStream;

use crate::engine::diagnosis::explain;

/// More than any working ring takes for one echo.
const PATIENCE: Duration = Duration::from_secs(2);

/// For `IORING_SETUP_SINGLE_ISSUER`.
pub(crate) const MIN_KERNEL: &str = "6.0";

const MESSAGE: &[u8] = b"is anybody there?";

/// Echoes a message through a ring of its own.
///
/// # Errors
/// Why that does not work, in words for an operator.
pub(crate) fn probe() -> Result<(), String> {
    // A ring belongs to the thread that made it.
    thread::Builder::new()
        .name("ringback-probe".into())
        .spawn(echo_once)
        .map_err(|error| format!("cannot start a thread: {error}"))?
        .join()
        .map_err(|_panic| "the probe panicked".to_owned())?
}

fn echo_once() -> Result<(), String> {
    let runtime = super::runtime().map_err(|error| explain(&error, MIN_KERNEL))?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, echo()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(explain(&error, MIN_KERNEL)),
            Err(_elapsed) => Err("an echo through a ring got no answer".to_owned()),
        }
    })
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
