//! The connections of the admin listener, few and short.
//!
//! Whoever connects while there are too many takes the place of the one that
//! has been here longest: a scraper needs its place for the moment of one
//! answer, and nobody can keep it out by holding on to theirs.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io;
use std::net::TcpListener;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::answer::Answers;
use crate::config::MIN_HEADER_BYTES;
use crate::http::{self, Refusal};
use crate::net::socket::Socket;
use crate::sys::shutdown::Shutdown;
use crate::transport::stream::Stream;

/// The time that a request's head may take, and that a connection may rest
/// before its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes in a request's head.
const HEAD_BYTES_MAX: usize = MIN_HEADER_BYTES;

/// What is said to who sends a larger one.
const HEAD_TOO_LARGE: Refusal =
    Refusal::too_large("the request head is larger than 8 KiB, or has more than 100 fields\n");

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
            () = stop.initiated() => return Ok(()),
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
        let handle = self.tasks.spawn_local(talk(stream, Arc::clone(answers)));
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
    let is_answering = Cell::new(false);
    let service = service_fn(|request| {
        is_answering.set(true);
        let answer = answers.to(&request);
        ready(Ok::<_, Infallible>(answer))
    });
    let io = AnswersOnly {
        io: TokioIo::new(Stream::Plain(Socket::Tcp(stream))),
        is_answering: &is_answering,
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    let served = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let parts = connection.into_parts();
    let stream = parts.io.io.into_inner();
    match served {
        Ok(()) => http::see_off(stream).await,
        Err(error) => {
            tracing::debug!(%error, "a connection to the admin listener failed");
            http::refuse_unreadable(stream, &parts.read_buf, &error, HEAD_TOO_LARGE).await;
        }
    }
}

/// A socket for hyper, whose own answers lack a reason: they are left out.
struct AnswersOnly<'a> {
    io: TokioIo<Stream>,
    /// A request has come since everything was written.
    is_answering: &'a Cell<bool>,
}

impl Read for AnswersOnly<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, space)
    }
}

impl Write for AnswersOnly<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_answering.get() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_answering.set(false);
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
