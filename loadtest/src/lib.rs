//! A WebSocket load generator that checks every byte it counts.
//!
//! ```text
//!  args ─────▶ plan ◀──── result (rerun)         embedded   the demo's server
//!                │                               floor      a raw TCP echo
//!                ▼                               selftest   a server with
//!              session ◀── watch: the server's     │        injected faults
//!                │         process, its cost       ▼
//!                ▼                              session
//!               run ────── the coordinator: one thread, wakes ten times a second
//!     start, cut  │  ▲ thread
//!     short,      │  │ events                      live ─▶ terminal
//!     abort       ▼  │
//!            ┌─ driver, one per thread ───────────────────────────┐
//!            │  schedule ─▶ connection ─▶ client::Mix: masked     │
//!            │  (when)      │   ▲         frames ─▶ writer ─▶ ────┼─▶ server
//!            │              ▼   │                                 │
//!            │        recorder  client::Checker: replies compared │
//!            │        (counts,  in place ◀────── transport ◀ ─────┼── server
//!            │        histograms)                                 │
//!            └──────────────┬─────────────────────────────────────┘
//!                           ▼ an interval each second
//!            run::intervals ─▶ outcome ─▶ verdict ─▶ report ─▶ stdout
//!                                          slo       result ─▶ file
//! ```
//!
//! [`plan`] describes a run completely: [`args`] make one from a command line, a [`result`]
//! file holds one. [`session`] is what every command does around a run. [`run`](mod@run) starts
//! the threads, has all of them begin at the same time, samples the server and the machine
//! meanwhile, and adds up the threads' reports. A [`driver`] owns one thread's sockets;
//! [`schedule`] has the times when an open loop's messages are due, [`client`] their bytes and
//! the check of replies, [`recorder`] the counts and histograms, one
//! [`IntervalRecord`](recorder::IntervalRecord) a second. Threads share nothing that is written
//! while messages flow. The sum is an [`outcome`]; [`verdict`] judges it, [`slo`] evaluates
//! objectives, [`report`] and [`result`] write it. [`sweep`](mod@sweep) makes many runs, and
//! draws them with [`plot`].
//!
//! [`builtin`] has two servers on the generator's side: the raw TCP echo of [`floor`], and one
//! that delays, stalls and misbehaves by a script, with which [`selftest`] proves the reports.
//! `benches/peers/` has servers on other libraries. `docs/loadtest.md` is the user's manual.
//!
//! # Latencies
//!
//! Every message has three times, read from one monotonic clock: its intended send,
//! its actual send, and its reply. An open loop's
//! intended times are a function of the plan alone, so a reply that is late moves
//! none of them. A closed loop's is when its connection was free to send it: when
//! the reply came that made room in a full window.
//!
//! - **Response time** runs from the intended send to the reply: the
//!   wait of a client.
//! - **Service time** runs from the actual send to the reply: the time of kernel,
//!   network and server.
//! - **Generator lag** runs from the intended to the actual send.
//!
//! The send is the clock read before the write call that took the message's first
//! byte; the reply is the clock read after the read call that brought its last
//! byte. The clock is read once per call, so messages that travel in one batch
//! share it. Where a read brought so little that checking it takes no time to
//! speak of (2 KiB), its clock also serves the write that follows. That makes
//! latencies longer by well under a microsecond, never shorter.
//!
//! The measurement is a half-open [`Window`](recorder::Window) of that clock, or several where
//! runs alternate by slices ([`run_in_turns`](run::run_in_turns)). The histograms hold the
//! messages whose intended send is in it, whenever their replies come; throughput counts the
//! replies that come in it, to any message. Unanswered messages are in the histograms with
//! their age, a lower bound, and those never sent are in all of them but that of the service
//! time.
//!
//! # Imports
//!
//! - [`client`], [`schedule`], [`recorder`], [`verdict`], [`statistics`],
//!   [`comparison`] and [`plot`] do no I/O:
//!   bytes, times and counts in, bytes, times and counts out.
//! - Only [`driver`] touches the sockets of a run. It does not depend on arguments, observers,
//!   or the format of a result.
//! - [`watch`] and [`machine`] read `/proc` and `/sys` and do not depend on load.
//! - [`verdict`], [`report`] and [`result`] see a plan and an outcome, never a
//!   thread or a socket.
//! - [`session`], [`embedded`], [`floor`], [`sweep`](mod@sweep), [`ab`] and [`selftest`] are
//!   the only ones that implement a whole command, from the arguments to the exit code.
//! - [`comparison`] uses results, never a run; it judges and writes what [`ab`] has measured
//!   and [`compare`](mod@compare) has read.
//! - Only [`output`] writes: to standard output, standard error and files.
//! - [`preflight`] checks before a run whether this machine can carry out a plan.
//! - [`html`] makes a page from files and uses only [`result`], [`comparison`] and [`sweep`].
//! - What the server reads of a machine as well is in the crate `host`; [`machine`] is the
//!   rest.
//! - Of the server's library, [`embedded`] uses what starts and stops a server, and [`machine`]
//!   the check of engines. The codec in [`client`] is the generator's own, so that a bug cannot
//!   hide in both.

pub mod ab;
pub mod args;
pub mod builtin;
pub mod client;
pub mod compare;
pub mod comparison;
pub mod cores;
pub mod cpu;
pub mod driver;
pub mod embedded;
pub mod export;
pub mod failure;
#[cfg(test)]
mod fixture;
pub mod floor;
pub mod history;
pub mod html;
pub mod interrupt;
pub mod live;
pub mod machine;
pub mod merge;
pub mod metric;
pub mod outcome;
pub mod output;
pub mod paint;
pub mod percentile;
pub mod plan;
pub mod plot;
pub mod preflight;
pub mod recorder;
pub mod report;
pub mod result;
pub mod run;
mod scale;
pub mod schedule;
pub mod selftest;
pub mod session;
pub mod slo;
pub mod source;
pub mod statistics;
pub mod sweep;
pub mod table;
pub mod target;
pub mod terminal;
pub mod tls;
pub mod units;
pub mod verdict;
pub mod watch;
