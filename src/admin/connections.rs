//! The connections of the admin listener, few and short.
//!
//! Whoever connects while there are too many takes the place of the one that
//! has been here longest: a scraper needs its place for the moment of one
//! answer, and nobody can keep it out by holding on to theirs.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::answer::Answers;
use crate::config::MIN_HEADER_BYTES;
use crate::shutdown::Shutdown;

/// The time that a request's head may take, and that a connection may rest
/// before its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes in a request's head.
const HEAD_BYTES_MAX: usize = MIN_HEADER_BYTES;

/// How long accepting rests when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the listener until it is told to stop, at most so many connections at
/// a time.
pub(super) async fn serve(
    listener: TcpListener,
    answers: Arc<Answers>,
    connections_max: usize,
    mut stop: Shutdown,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut inside = Inside::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.begun() => return Ok(()),
            () = inside.one_left() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => inside.let_in(stream, &answers, connections_max),
            Err(error) => {
                tracing::debug!(%error, "accept, for the admin listener");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who is inside, in the order of their coming.
#[derive(Default)]
struct Inside {
    tasks: JoinSet<()>,
    handles: VecDeque<AbortHandle>,
}

impl Inside {
    fn let_in(&mut self, stream: TcpStream, answers: &Arc<Answers>, connections_max: usize) {
        if self.handles.len() >= connections_max
            && let Some(longest) = self.handles.pop_front()
        {
            longest.abort();
        }
        let handle = self.tasks.spawn(talk(stream, Arc::clone(answers)));
        self.handles.push_back(handle);
    }

    /// Waits until somebody has left; for ever if nobody is inside.
    async fn one_left(&mut self) {
        if self.tasks.is_empty() {
            std::future::pending::<()>().await;
        }
        // How a connection ended is its client's business, but for a panic.
        if let Some(Err(error)) = self.tasks.join_next().await
            && let Ok(panic) = error.try_into_panic()
        {
            resume_unwind(panic);
        }
        self.handles.retain(|handle| !handle.is_finished());
    }
}

async fn talk(stream: TcpStream, answers: Arc<Answers>) {
    let service = service_fn(move |request| {
        let answer = answers.to(&request);
        async { Ok::<_, std::convert::Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin listener failed");
    }
}
