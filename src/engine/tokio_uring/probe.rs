//! Whether this engine works here: asked by doing it.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::UnixStream;

/// More than any working ring takes for one echo.
const PATIENCE: Duration = Duration::from_secs(2);

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
    let runtime = super::runtime().map_err(|error| explain(&error))?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, echo()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(explain(&error)),
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

/// What an operator can do something about.
fn explain(error: &io::Error) -> String {
    let cause = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => match disabled_by_sysctl() {
            Some(level) => format!("io_uring is switched off by kernel.io_uring_disabled={level}"),
            None => "io_uring is forbidden here, most likely by a seccomp filter (container runtimes have one)".into(),
        },
        Some(Errno::NOSYS) => "this kernel has no io_uring".into(),
        Some(Errno::INVAL) => "this kernel's io_uring is too old: 6.0 is needed".into(),
        Some(Errno::NOMEM) => "the ring does not fit into the limit on locked memory (ulimit -l)".into(),
        Some(Errno::MFILE | Errno::NFILE) => "there are no file descriptors left".into(),
        _ => return error.to_string(),
    };
    format!("{cause} ({error})")
}

fn disabled_by_sysctl() -> Option<u8> {
    let level = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    level.trim().parse().ok().filter(|&level| level > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_reads_what_is_in_the_way() {
        let explained = |errno: Errno| explain(&io::Error::from(errno));
        assert!(explained(Errno::PERM).contains("io_uring"));
        assert!(explained(Errno::NOSYS).contains("no io_uring"));
        assert!(explained(Errno::INVAL).contains("6.0"));
        assert!(explained(Errno::NOMEM).contains("ulimit -l"));
        assert!(explained(Errno::CONNRESET).contains("reset"));
    }
}
