//! A WebSocket load generator that checks every echo it counts.
//!
//! ```text
//!  args ─▶ plan ──────────────┐
//!                             ▼
//!  embedded (own server)   driver ──▶ recorder ──▶ report ─▶ stdout
//!  or a ws:// target  ──▶  (epoll)
//!                           │   ▲
//!            client::Deck   ▼   │  client::Checker
//!            masked frames  sockets  replies, compared in place
//! ```
//!
//! [`plan`] says what is to be sent, [`client`] knows what its bytes look like
//! and contains no networking code beyond the handshake, [`driver`] owns the
//! sockets, [`recorder`] the numbers and [`report`] their rendering.
//! [`embedded`] is the only module that knows the server's library, and all it
//! uses of it is what starts and stops one.
//!
//! # What a latency is
//!
//! The load is a closed loop: a connection sends its next message when a reply
//! came in. A latency runs from the clock read just before the write call that
//! took the message's first byte to the clock read just after the read call
//! that brought the reply's last byte. The clock is read once per call, so
//! messages that travel in one batch share both ends. Where a read brought so
//! little that checking it takes no time to speak of, its clock also serves the
//! write that follows; that makes latencies longer by well under a microsecond,
//! never shorter. A closed loop slows down with its server and so under-reports
//! stalls; the reports say "closed loop".

pub mod args;
pub mod client;
pub mod cores;
pub mod cpu;
pub mod driver;
pub mod embedded;
pub mod failure;
pub mod limits;
pub mod plan;
pub mod recorder;
pub mod report;
pub mod target;
pub mod units;
