//! A connection over TLS.
//!
//! rustls decrypts and encrypts in the caller's buffers. Those belong to the worker, so
//! that an idle connection has none: it buffers a partial record, unread plaintext, and
//! unsent ciphertext. The first two are bounded by [`RECORD_BYTES_MAX`] and by one read;
//! the last by the writer, which stops reading the client while too much is unsent.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, WriteTraffic};
use rustls::{Error as TlsError, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use rustix::net::SendFlags;

use super::Tls;
use super::outbox::Outbox;
use super::record_budget::RecordBudget;
use crate::net::socket::Socket;
use crate::sys::calls;

/// The largest record (RFC 5246 section 6.2.3), and the bound on a partial one. A
/// handshake message that needs more is refused; a client's take a tenth of it.
const RECORD_BYTES_MAX: usize = RECORD_HEADER + (1 << 14) + 2048;

/// The header of a record, with its length in the last two bytes.
const RECORD_HEADER: usize = 5;

/// The smallest read of ciphertext.
const READ_BYTES_MIN: usize = 4096;

const NO_DATA: &str = "too many records without data";

/// Reads without plaintext in one turn of a connection.
const READS_PER_TURN: u32 = 16;

/// More than a record adds to its plaintext.
const RECORD_OVERHEAD: usize = 64;

/// Bytes sent in one turn, while other connections wait.
const FLUSH_BYTES_MAX: usize = 256 * 1024;

/// The most plaintext in a sent record.
const FRAGMENT: usize = 1 << 14;

/// Accepts the TLS connections of one worker.
pub(crate) struct Acceptor {
    tls: Arc<Tls>,
    scratch: Rc<RefCell<Scratch>>,
}

/// Buffers for the connection that is being served.
struct Scratch {
    /// For reads; allocated with the first connection.
    ciphertext: Vec<u8>,
    ciphertext_len: usize,
    /// For the outbox.
    spare: Vec<u8>,
}

/// A server's end of a TLS connection.
pub(crate) struct TlsStream {
    under: Socket,
    tls: UnbufferedServerConnection,
    /// The records of a partial message, which rustls must see again, and then a partial
    /// record.
    incoming: Vec<u8>,
    /// Bytes of those records.
    shown: usize,
    /// Plaintext that did not fit the reader's buffer, read up to `plain_read`.
    plain: Vec<u8>,
    plain_read: usize,
    outbox: Outbox,
    /// The peer has sent its end.
    has_ended: bool,
    /// After a fault, the peer's bytes are read and discarded: closing a socket with
    /// unread bytes resets it, and the alert is lost.
    fault: Option<Fault>,
    budget: RecordBudget,
    /// The last read took all that it had room for.
    is_bulk: bool,
    scratch: Rc<RefCell<Scratch>>,
}

/// The fault of a peer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Over a limit; the connection can still be written to.
    Excess,
    /// rustls has returned an error, and must not be called again.
    Broken,
}

/// Why the TLS handshake failed, with the socket if it can still be written to.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The client has sent a plain request.
    Plain(Socket),
    /// The client sent no acceptable TLS, and got an alert.
    Refused(Socket, io::Error),
    /// The client has closed, or the connection broke.
    Gone,
}

impl Acceptor {
    /// For a worker that reads `read_size` bytes at once.
    pub(crate) fn new(tls: Arc<Tls>, read_size: usize) -> Self {
        Self {
            tls,
            scratch: Rc::new(RefCell::new(Scratch {
                ciphertext: Vec::new(),
                ciphertext_len: RECORD_BYTES_MAX + read_size.max(READ_BYTES_MIN),
                spare: Vec::new(),
            })),
        }
    }

    /// Does the handshake on a new socket. `hold` is called with the buffered bytes
    /// whenever they change.
    ///
    /// # Errors
    /// The handshake failed.
    pub(crate) async fn accept(
        &self,
        under: Socket,
        hold: impl Fn(usize),
    ) -> Result<Box<TlsStream>, HandshakeError> {
        let Ok(tls) = UnbufferedServerConnection::new(self.tls.config()) else {
            return Err(HandshakeError::Gone);
        };
        let mut stream = Box::new(TlsStream {
            under,
            tls,
            incoming: Vec::new(),
            shown: 0,
            plain: Vec::new(),
            plain_read: 0,
            outbox: Outbox::default(),
            has_ended: false,
            fault: None,
            budget: RecordBudget::default(),
            is_bulk: false,
            scratch: Rc::clone(&self.scratch),
        });
        let handshake = poll_fn(|cx| {
            let polled = stream.poll_handshake(cx);
            hold(stream.held());
            polled
        });
        match handshake.await {
            Ok(()) => Ok(stream),
            Err(error) if !is_broken_tls(&error) => Err(HandshakeError::Gone),
            Err(_) if stream.is_plain_request() => Err(HandshakeError::Plain(stream.under)),
            // The alert is sent, as far as it fit.
            Err(error) => Err(HandshakeError::Refused(stream.under, error)),
        }
    }
}

impl TlsStream {
    /// Whether the version is TLS 1.3, and not 1.2.
    pub(crate) fn is_newest(&self) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Sends a FIN, after [`put_end`](Self::put_end).
    pub(crate) fn half_close(&self) -> io::Result<()> {
        self.under.half_close()
    }

    /// Bytes of its buffers.
    pub(crate) fn held(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outbox.capacity()
    }

    /// Written bytes that are not sent yet.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// Whether no read bytes are buffered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.incoming.is_empty() && !self.has_plain()
    }

    /// Whether it can still be written to, whatever the last read has found.
    pub(crate) fn may_write(&self) -> bool {
        self.fault != Some(Fault::Broken)
    }

    /// Whether the client sends as fast as it is read.
    pub(crate) fn is_bulk(&self) -> bool {
        self.is_bulk
    }

    /// Whether plaintext is buffered.
    pub(crate) fn has_plain(&self) -> bool {
        self.plain_read < self.plain.len()
    }

    /// Whether everything that was written has been sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Reads, if the runtime knows that the socket is readable, at most once.
    pub(crate) fn try_read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.read_once(space, Socket::try_read)
    }

    /// Reads without asking the runtime whether the socket is readable.
    pub(crate) fn read_at_once(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.read_once(space, Socket::read_at_once)
    }

    fn read_once(
        &mut self,
        space: &mut [u8],
        read: impl FnOnce(&mut Socket, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let result = self.read_with(space, |under, space| Poll::Ready(read(under, space)));
        match result {
            Poll::Ready(Ok(Some(len))) => Ok(len),
            Poll::Ready(Ok(None)) | Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    /// Reads; 0 bytes at the end of the stream, with or without a `close_notify`.
    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..READS_PER_TURN {
            if let Some(len) = ready!(self.fill(cx, space))? {
                return Poll::Ready(Ok(len));
            }
        }
        // Other connections get their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits until there may be bytes to read.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_plain() || self.has_ended {
            return Poll::Ready(Ok(()));
        }
        self.under.poll_read_ready(cx)
    }

    /// Waits until there may be room to write.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.under.poll_write_ready(cx)
    }

    /// Encrypts and queues bytes for the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// The connection cannot be written to any more.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fragments = bytes.len().div_ceil(FRAGMENT);
        let mut room = bytes.len() + fragments * RECORD_OVERHEAD;
        loop {
            match self.write_with(room, |traffic, space| traffic.encrypt(bytes, space))? {
                Ok(()) => return Ok(()),
                Err(EncryptError::InsufficientSize(size)) if size.required_size > room => {
                    room = size.required_size;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Queues a `close_notify`.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(crate) fn put_end(&mut self) -> io::Result<()> {
        self.write_with(2 * RECORD_OVERHEAD, |traffic, space| {
            traffic.queue_close_notify(space)
        })?
        .map_err(io::Error::other)
    }

    /// Sends queued bytes, at most [`FLUSH_BYTES_MAX`], if the runtime knows that the
    /// socket is writable; returns whether none are left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        self.flush_with(Socket::try_write)
    }

    /// As [`flush`](Self::flush), without asking the runtime.
    pub(crate) fn flush_at_once(&mut self) -> io::Result<bool> {
        self.flush_with(|under, bytes| Ok(calls::send(under, bytes, SendFlags::empty())?))
    }

    fn flush_with(
        &mut self,
        write: impl Fn(&mut Socket, &[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let mut budget = FLUSH_BYTES_MAX;
        let sent = loop {
            if self.outbox.is_empty() {
                break Ok(true);
            }
            if budget == 0 {
                break Ok(false);
            }
            match write(&mut self.under, self.outbox.front()) {
                Ok(len) => {
                    self.outbox.sent(len);
                    budget = budget.saturating_sub(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        self.outbox.give_back(&mut self.scratch.borrow_mut().spare);
        sent
    }

    /// Sends all queued bytes.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.flush()? {
            ready!(self.under.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes as a socket does. The bytes may have to be [flushed](Self::flush); until
    /// then, no more are accepted.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let piece = &bytes[..bytes.len().min(4 * FRAGMENT)];
        if !piece.is_empty() {
            self.put(piece)?;
        }
        self.flush()?;
        Ok(piece.len())
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_PER_TURN {
            ready!(self.poll_send(cx))?;
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.fill(cx, &mut []))? == Some(0) {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        // Other connections get their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn fill(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<Option<usize>>> {
        self.read_with(space, |under, space| {
            let mut space = ReadBuf::new(space);
            let read = Pin::new(under).poll_read(cx, &mut space);
            read.map_ok(|()| space.filled().len())
        })
    }

    /// Returns buffered plaintext, or else reads once and decrypts; `None` without
    /// plaintext.
    fn read_with(
        &mut self,
        space: &mut [u8],
        read: impl FnOnce(&mut Socket, &mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<Option<usize>>> {
        if self.has_plain() {
            return Poll::Ready(Ok(Some(self.take_plain(space))));
        }
        if self.has_ended {
            return Poll::Ready(Ok(Some(0)));
        }
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        let buf = scratch.ciphertext();
        if self.fault.is_some() {
            let received = ready!(read(&mut self.under, buf))?;
            self.is_bulk = received == buf.len();
            return Poll::Ready(Ok((received == 0).then_some(0)));
        }
        let partial = self.incoming.len();
        // As much as fits `space`, so that little plaintext has to be buffered.
        let len = space.len().saturating_sub(partial).max(READ_BYTES_MIN);
        let len = len.min(buf.len() - partial);
        let received = ready!(read(&mut self.under, &mut buf[partial..partial + len]))?;
        self.is_bulk = received == len;
        if received == 0 {
            self.has_ended = true;
            return Poll::Ready(Ok(Some(0)));
        }
        buf[..partial].copy_from_slice(&self.incoming);
        let decrypted = self.decrypt(&mut buf[..partial + received], space);
        if decrypted.is_err() {
            self.fault.get_or_insert(Fault::Excess);
        }
        if !self.may_write() && !self.is_plain_request() {
            self.put_alert();
        }
        // Records without data may have answers, such as an alert.
        drop(scratch);
        let flushed = self.flush();
        let filled = decrypted?;
        flushed?;
        let is_result = filled > 0 || self.has_ended;
        Poll::Ready(Ok(is_result.then_some(filled)))
    }

    fn take_plain(&mut self, space: &mut [u8]) -> usize {
        let rest = &self.plain[self.plain_read..];
        let len = rest.len().min(space.len());
        space[..len].copy_from_slice(&rest[..len]);
        self.plain_read += len;
        if !self.has_plain() {
            self.plain = Vec::new();
            self.plain_read = 0;
        }
        len
    }

    /// Decrypts record by record into `space`, and into `plain` what does not fit. Keeps
    /// the partial record.
    fn decrypt(&mut self, bytes: &mut [u8], space: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut shown, mut filled) = (0, self.shown, 0);
        let result = loop {
            let record = whole_record(&bytes[shown..]);
            shown += record.unwrap_or(0);
            // The start of a record may be wrong already.
            let end = record.map_or(bytes.len(), |_len| shown);
            let (discard, brought) = self.process(&mut bytes[at..end], &mut space[filled..]);
            at += discard;
            match brought {
                Ok(Some(len)) => filled += len,
                Ok(None) if record.is_none() || self.has_ended => break Ok(()),
                Ok(None) if self.budget.take() => {}
                Ok(None) => break Err(wrong(TlsError::General(NO_DATA.into()))),
                Err(error) => break Err(error),
            }
        };
        // An exact allocation, not the capacity of a whole record.
        self.incoming = if self.has_ended {
            Vec::new()
        } else {
            bytes[at..].to_vec()
        };
        self.shown = (shown - at).min(self.incoming.len());
        if result.is_err() && self.may_write() {
            // Bytes that rustls has not seen are not needed any more.
            self.incoming.truncate(self.shown);
        }
        result?;
        if self.incoming.len() > RECORD_BYTES_MAX {
            return Err(wrong(TlsError::General("a message is too large".into())));
        }
        Ok(filled)
    }

    /// Passes rustls the records that it must see again, and a new one. Returns the bytes
    /// to discard, and the length of the plaintext, `None` if rustls needs the next record.
    fn process(
        &mut self,
        bytes: &mut [u8],
        space: &mut [u8],
    ) -> (usize, io::Result<Option<usize>>) {
        let mut at = 0;
        loop {
            let status = self.tls.process_tls_records(&mut bytes[at..]);
            at += status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    let mut filled = 0;
                    while let Some(record) = records.next_record() {
                        let record = match record {
                            Ok(record) => record,
                            Err(error) => return (at, Err(wrong(error))),
                        };
                        at += record.discard;
                        let payload = record.payload;
                        let fits = payload.len().min(space.len() - filled);
                        let (here, later) = payload.split_at(fits);
                        space[filled..filled + fits].copy_from_slice(here);
                        filled += fits;
                        self.plain.extend_from_slice(later);
                    }
                    return (at, Ok(Some(filled)));
                }
                Ok(state) => match answer(state, &mut self.outbox, &mut self.has_ended) {
                    Ok(true) => return (at, Ok(None)),
                    Ok(false) => {}
                    Err(error) => return (at, Err(error)),
                },
                Err(error) => {
                    self.fault = Some(Fault::Broken);
                    return (at, Err(wrong(error)));
                }
            }
        }
    }

    /// Whether the bytes are a plain request. Every record begins with a number below 32,
    /// every request with a method.
    fn is_plain_request(&self) -> bool {
        self.tls.protocol_version().is_none()
            && self.incoming.first().is_some_and(u8::is_ascii_uppercase)
    }

    /// Queues the alert of rustls, and no more: rustls must not be called after it.
    fn put_alert(&mut self) {
        while self.tls.wants_write() {
            let status = self.tls.process_tls_records(&mut self.incoming);
            let Ok(state @ ConnectionState::EncodeTlsData(_)) = status.state else {
                return;
            };
            if answer(state, &mut self.outbox, &mut self.has_ended).is_err() {
                return;
            }
        }
    }

    /// Writes into `len` bytes of room in the outbox.
    fn write_with(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<Result<(), EncryptError>> {
        if !self.may_write() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.outbox
            .borrow_from(&mut self.scratch.borrow_mut().spare);
        loop {
            // rustls remembers offsets of a partial message in it, and must not be passed
            // another buffer.
            let seen = &mut self.incoming[..self.shown];
            let status = self.tls.process_tls_records(seen);
            let discard = status.discard;
            let is_done = match status.state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let written = write(&mut traffic, self.outbox.room(len));
                    return Ok(written.map(|len| self.outbox.written(len)));
                }
                Ok(state) => answer(state, &mut self.outbox, &mut self.has_ended)?,
                Err(error) => {
                    self.fault = Some(Fault::Broken);
                    return Err(wrong(error));
                }
            };
            self.incoming.drain(..discard);
            self.shown -= discard;
            if is_done {
                return Err(io::ErrorKind::NotConnected.into());
            }
        }
    }
}

type Traffic<'c> = WriteTraffic<'c, ServerConnectionData>;

/// Handles a state of rustls, except decrypted data. Returns whether rustls needs more
/// bytes, or has none.
fn answer(
    state: ConnectionState<'_, '_, ServerConnectionData>,
    outbox: &mut Outbox,
    has_ended: &mut bool,
) -> io::Result<bool> {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let mut room = RECORD_OVERHEAD;
            loop {
                match data.encode(outbox.room(room)) {
                    Ok(len) => {
                        outbox.written(len);
                        return Ok(false);
                    }
                    Err(EncodeError::InsufficientSize(size)) if size.required_size > room => {
                        room = size.required_size;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
        }
        // The outbox keeps the order.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(false)
        }
        ConnectionState::PeerClosed => {
            *has_ended = true;
            Ok(false)
        }
        ConnectionState::BlockedHandshake
        | ConnectionState::WriteTraffic(_)
        | ConnectionState::Closed => Ok(true),
        state => Err(io::Error::other(format!("unexpected in TLS: {state:?}"))),
    }
}

/// The length of the record that `bytes` begin with, if they hold all of it.
fn whole_record(bytes: &[u8]) -> Option<usize> {
    let &[high, low] = bytes.get(3..RECORD_HEADER)?.first_chunk()?;
    let len = RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
    (len <= bytes.len()).then_some(len)
}

/// Whether the peer has broken TLS, and not the connection.
pub(crate) fn is_broken_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn wrong(error: TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Scratch {
    fn ciphertext(&mut self) -> &mut [u8] {
        if self.ciphertext.is_empty() {
            self.ciphertext = vec![0; self.ciphertext_len];
        }
        &mut self.ciphertext
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("under", &self.under)
            .finish_non_exhaustive()
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.under.as_fd()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = ready!(self.get_mut().poll_read_into(cx, buf.initialize_unfilled()))?;
        buf.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Poll::Ready(this.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.tls.is_handshaking() {
            // rustls writes it once, however often it is called.
            this.put_end()?;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.under).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdUnixStream;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::ring::default_provider;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::net::UnixStream;

    use super::*;
    use crate::config::TlsFiles;

    /// A server with a certificate for `localhost`, and a client that trusts it.
    fn ends() -> (Acceptor, ClientConnection) {
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let files = TlsFiles {
            certificate: write("cert.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
        };
        let tls = Arc::new(Tls::load(files).expect("a pair"));
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        (Acceptor::new(tls, 65_536), client)
    }

    /// A record with `len` bytes of plaintext.
    fn record(client: &mut ClientConnection, len: usize) -> Vec<u8> {
        let mut record = Vec::new();
        client.writer().write_all(&vec![7; len]).expect("taken");
        client.write_tls(&mut record).expect("written");
        record
    }

    /// The capacity for a long partial record was kept for a byte of the next one, and not
    /// counted as buffered.
    #[tokio::test]
    async fn a_byte_of_a_record_takes_no_capacity_for_a_record() {
        let (acceptor, mut client) = ends();
        let (ours, theirs) = StdUnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("set");
        let ours = UnixStream::from_std(ours).expect("on the runtime");
        let handshake = std::thread::spawn(move || {
            let mut theirs = theirs;
            while client.is_handshaking() {
                client.complete_io(&mut theirs).expect("agreed");
            }
            (client, theirs)
        });
        let mut stream = acceptor
            .accept(Socket::Unix(ours), |_| {})
            .await
            .expect("agreed");
        let (mut client, mut theirs) = handshake.join().expect("agreed");
        let long = record(&mut client, FRAGMENT);
        let short = record(&mut client, 1);
        let (start, end) = long.split_at(long.len() - 1);
        let mut space = vec![0; 65_536];
        theirs.write_all(start).expect("sent");
        while stream.held() < start.len() {
            stream.under.readable().await.expect("bytes");
            let read = stream.try_read(&mut space).expect_err("no record");
            assert_eq!(read.kind(), io::ErrorKind::WouldBlock);
        }
        theirs
            .write_all(&[end, &short[..1]].concat())
            .expect("sent");
        stream.under.readable().await.expect("bytes");
        assert_eq!(stream.try_read(&mut space).expect("a record"), FRAGMENT);
        assert_eq!((stream.held(), stream.incoming.capacity()), (1, 1));
        theirs.write_all(&short[1..]).expect("sent");
        stream.under.readable().await.expect("bytes");
        assert_eq!(stream.try_read(&mut space).expect("a record"), 1);
        assert_eq!((stream.held(), stream.incoming.capacity()), (0, 0));
        // The tickets.
        let _ = theirs.read(&mut space).expect("tickets");
    }
}
