//! The connections of the admin listener, few and short.
//!
//! A connection over the limit closes the oldest one: a scraper needs its connection
//! for one answer only, and idle ones must not keep it out.

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

/// Timeout of a request's head, and of an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes in a request's head.
const HEAD_BYTES_MAX: usize = MIN_HEADER_BYTES;

/// The answer to a larger one.
const HEAD_TOO_LARGE: Refusal =
    Refusal::too_large("the request head is larger than 8 KiB, or has more than 100 fields\n");

/// The pause of accept when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the listener until `stop`, with at most `connections_max` at a time.
pub(super) async fn serve(
    listener: TcpListener,
    answers: Arc<Answers>,
    connections_max: usize,
    mut stop: Shutdown,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = OpenConnections::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.initiated() => return Ok(()),
            () = connections.one_ended() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => connections.add(stream, &answers, connections_max),
            Err(error) => {
                tracing::debug!(%error, "accept failed on the admin listener");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The open connections, the oldest first.
#[derive(Default)]
struct OpenConnections {
    tasks: JoinSet<()>,
    handles: VecDeque<AbortHandle>,
}

impl OpenConnections {
    fn add(&mut self, stream: TcpStream, answers: &Arc<Answers>, connections_max: usize) {
        if self.handles.len() >= connections_max
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        let task = serve_connection(stream, Arc::clone(answers));
        let handle = self.tasks.spawn_local(task);
        self.handles.push_back(handle);
    }

    /// Waits until a connection ends; for ever if there is none.
    async fn one_ended(&mut self) {
        if self.tasks.is_empty() {
            std::future::pending::<()>().await;
        }
        // Only a panic matters here.
        if let Some(Err(error)) = self.tasks.join_next().await
            && let Ok(panic) = error.try_into_panic()
        {
            resume_unwind(panic);
        }
        self.handles.retain(|handle| !handle.is_finished());
    }
}

async fn serve_connection(stream: TcpStream, answers: Arc<Answers>) {
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
        Ok(()) => http::close_lingering(stream).await,
        Err(error) => {
            tracing::debug!(%error, "a connection to the admin listener failed");
            http::refuse_unreadable(stream, &parts.read_buf, &error, HEAD_TOO_LARGE).await;
        }
    }
}

/// A socket for hyper that discards hyper's own answers, which lack a reason.
struct AnswersOnly<'a> {
    io: TokioIo<Stream>,
    /// A request has arrived since everything was written.
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
