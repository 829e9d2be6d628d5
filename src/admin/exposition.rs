//! Every metric: its name, its labels, its help and its value.
//!
//! Values are read from the workers' counters while the page is written. Metrics that
//! show how evenly the workers are used have the label `worker`; events that are as rare
//! as connections are summed over the workers, so that the number of series does not grow
//! with workers × labels. Every label set is fixed: see [`label`].
//!
//! [`label`]: crate::observe::metrics::label

mod page;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use host::open_files;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Overview;
use super::process::Process;
use crate::observe::COMMIT;
use crate::observe::metrics::Counters;
use crate::observe::metrics::label::{
    Code, EndReason, HandshakeOutcome, RefusalReason, TlsOutcome,
};
use crate::observe::metrics::number::Counter;
use crate::observe::output;
use crate::proto::Violation;
use crate::transport::tls::Tls;
use page::{Page, worker};

/// Writes the page of metrics.
#[derive(Debug)]
pub(super) struct Exposition {
    registry: Registry,
    view: Arc<View>,
}

#[derive(Debug)]
struct View {
    overview: Overview,
    process: Process,
}

impl Exposition {
    pub(super) fn new(overview: Overview) -> Self {
        let view = Arc::new(View {
            overview,
            process: Process::open(),
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&view)));
        Self { registry, view }
    }

    pub(super) fn overview(&self) -> &Overview {
        &self.view.overview
    }

    /// The page, in the Prometheus text format.
    ///
    /// # Errors
    /// None that can happen: it is written to memory.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Collector for View {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page {
            encoder,
            workers: self.overview.workers.iter().map(|w| &*w.counters).collect(),
        };
        self.server(&mut page)?;
        self.workers(&mut page)?;
        connections(&mut page)?;
        self.tls(&mut page)?;
        traffic(&mut page)?;
        self.process(&mut page)
    }
}

impl View {
    fn server(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let overview = &self.overview;
        let build = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("engine", overview.engine.name()),
            ("commit", COMMIT.unwrap_or("unknown")),
        ];
        let mut info = page.encoder.encode_descriptor(
            "ringback_build",
            "Version, engine, and the commit of the build if known. Always 1.",
            None,
            MetricType::Info,
        )?;
        info.encode_info(&build)?;
        page.gauge(
            "ringback_draining",
            "1 while the server drains, else 0.",
            &u64::from(overview.is_draining()),
        )?;
        page.gauge(
            "ringback_connections_max",
            "Limit on open connections, over all workers.",
            &(overview.server_limits.capacity().get() as u64),
        )?;
        if let Some(max) = overview.server_limits.handshakes_max() {
            page.gauge(
                "ringback_handshakes_max",
                "Limit on handshakes in progress, over all workers. Missing if there is none.",
                &(max.get() as u64),
            )?;
        }
        for (name, help, queue) in [
            (
                "ringback_log_lines_lost",
                "Log lines dropped: stderr is not read fast enough, or cannot be written.",
                output::stderr(),
            ),
            (
                "ringback_stdout_lines_lost",
                "Lines for stdout dropped, for the same reasons.",
                output::stdout(),
            ),
        ] {
            page.counter(name, help, &queue.lines_lost())?;
        }
        let access_limit = overview.server_limits.access_limit();
        page.counter(
            "ringback_access_lines_left_out",
            "Access lines dropped: more than --access-log-rate.",
            &access_limit.map_or(0, |limit| limit.suppressed()),
        )?;
        let tcp_memory = overview.server_limits.tcp_memory();
        let held_max = overview.server_limits.held().max();
        for (name, help, value) in [
            (
                "ringback_held_bytes_max",
                "Limit on buffered bytes, over all workers (--max-held-bytes). Missing if there is \
                 none.",
                held_max.map(|max| max.get() as u64),
            ),
            (
                "ringback_tcp_memory_bytes",
                "Memory that the kernel has allocated to TCP, for all sockets of this machine. \
                 Missing where the kernel does not report it.",
                tcp_memory.bytes(),
            ),
            (
                "ringback_tcp_memory_pressure_bytes",
                "TCP memory at which the kernel begins to limit it: the second number of \
                 net.ipv4.tcp_mem at start. A sixteenth of the machine's memory where that cannot \
                 be read, as in containers.",
                Some(tcp_memory.pressure()),
            ),
            (
                "ringback_tcp_memory_max_bytes",
                "TCP memory above which clients that do not read are evicted. Missing if there is \
                 no limit.",
                tcp_memory.max().map(NonZeroU64::get),
            ),
        ] {
            if let Some(value) = value {
                page.gauge(name, help, &value)?;
            }
        }
        Ok(())
    }

    fn workers(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let workers = &self.overview.workers;
        page.gauges(
            "ringback_worker_up",
            "1 if the worker has ticked within the last 5 seconds, else 0.",
            (0..workers.len()).map(|n| (worker(n), u64::from(self.overview.is_up(n)))),
        )?;
        let cpu_times = workers.iter().map(|worker| worker.clock.cpu_time());
        page.counters(
            "ringback_worker_cpu_seconds",
            "CPU time of the worker's thread, user and system. Missing where the kernel does not \
             report it.",
            cpu_times
                .enumerate()
                .filter_map(|(n, time)| Some((worker(n), time?.as_secs_f64()))),
        )
    }

    fn tls(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        page.counter_by_label(
            "ringback_tls_handshakes",
            "TLS handshakes by outcome: tls12, tls13, failed, plain_http (a request without TLS), \
             timeout, abandoned.",
            TlsOutcome::ALL,
            |outcome| [("outcome", outcome.name())],
            |counters, outcome| counters.tls_handshakes.get(outcome),
        )?;
        let tls = self.overview.tls.as_deref();
        let (good, failed) = tls.map_or((0, 0), Tls::reloads);
        page.counters(
            "ringback_tls_reloads",
            "Reloads of the certificate and its key: ok, or failed (the old ones stay in use).",
            [("ok", good), ("failed", failed)]
                .into_iter()
                .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        page.gauge(
            "ringback_tls_certificate_not_after_seconds",
            "End of the certificate's validity, in seconds since 1970; 0 without TLS.",
            &tls.map_or(0, Tls::not_after_s),
        )
    }

    fn process(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        page.counter(
            "process_cpu_seconds",
            "CPU time of all threads, user and system.",
            &Process::cpu_time().as_secs_f64(),
        )?;
        let memory = self.process.memory();
        for (name, help, value) in [
            (
                "process_open_fds",
                "Open file descriptors.",
                open_files::open_descriptors(),
            ),
            (
                "process_max_fds",
                "Limit on open file descriptors. Missing if there is none.",
                open_files::limit(),
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory.",
                memory.map(|memory| memory.resident),
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory.",
                memory.map(|memory| memory.virtual_),
            ),
        ] {
            if let Some(value) = value {
                page.gauge(name, help, &value)?;
            }
        }
        match self.process.started() {
            Some(started) => page.gauge(
                "process_start_time_seconds",
                "Start of the process, in seconds since 1970.",
                &started.as_secs_f64(),
            ),
            None => Ok(()),
        }
    }
}

fn connections(page: &mut Page<'_, '_>) -> fmt::Result {
    page.gauge_by_worker(
        "ringback_connections_open",
        "Open connections, including handshakes. Never more than ringback_connections_max.",
        |counters| &counters.open,
    )?;
    page.gauge_by_worker(
        "ringback_handshakes_in_progress",
        "Accepted connections that are not upgraded yet. Up to a second old.",
        |counters| &counters.handshakes_in_progress,
    )?;
    page.gauge_by_worker(
        "ringback_connections_rejecting",
        "Connections over a limit that are being answered with 503 or 429. Not counted as open.",
        |counters| &counters.rejecting,
    )?;
    page.counter_by_worker(
        "ringback_connections_accepted",
        "Connections accepted.",
        |counters| &counters.accepted,
    )?;
    page.counter_by_worker(
        "ringback_accept_pauses",
        "Times that accept was paused for lack of file descriptors or memory.",
        |counters| &counters.accept_pauses,
    )?;
    page.counter_by_label(
        "ringback_connections_refused",
        "Connections refused, by reason: full (503), address (429: too many connections of its \
         address), rate (429: its address connects too often), overrun (closed without an answer: \
         too many are being answered), handshakes (the oldest handshake, evicted for a new one), \
         held_bytes (a handshake, evicted: buffered bytes exceed the limit), malformed (400), \
         origin (403), path (404), method (405), timeout (408), version (426), head_too_large \
         (431), tls (an alert), proxy (no valid PROXY header), other.",
        RefusalReason::ALL,
        |reason| [("reason", reason.name())],
        |counters, reason| counters.refusals.get(reason),
    )?;
    page.counter_by_label(
        "ringback_handshakes",
        "Accepted connections by the outcome of their handshake: upgraded, refused, served (a \
         plain request), timeout, abandoned (no request), health_check (no request, from a proxy \
         itself), cut_off (the server stopped).",
        HandshakeOutcome::ALL,
        |outcome| [("outcome", outcome.name())],
        |counters, outcome| counters.handshakes.get(outcome),
    )?;
    page.durations(
        "ringback_handshake_duration_seconds",
        "Time from accept until the 101 was written, of upgraded connections.",
        |counters| &counters.handshake_times,
    )?;
    closes(page)
}

fn closes(page: &mut Page<'_, '_>) -> fmt::Result {
    let ends = EndReason::ALL
        .into_iter()
        .flat_map(|reason| Code::ALL.map(|code| (reason, code)))
        .filter(|&(reason, code)| reason.may_carry(code));
    page.counter_by_label(
        "ringback_closes",
        "Ended WebSocket connections, by reason and by the code of the Close frame: client (it \
         sent a Close), violation, tls (a violation of TLS), idle, drain, handler, slow_reader, \
         held_bytes (evicted: buffered bytes exceed the limit), tcp_memory (evicted: TCP memory \
         exceeds the limit), gone (no Close). Code `none`: no Close frame, or no code in it; \
         `other`: 3000 to 4999.",
        ends,
        |(reason, code)| [("reason", reason.name()), ("code", code.name())],
        |counters, (reason, code)| counters.ends(reason, code),
    )?;
    page.counter_by_label(
        "ringback_violations",
        "Connections closed because the client broke a rule of RFC 6455 or a limit, by rule.",
        Violation::ALL,
        |violation| [("kind", violation.name())],
        |counters, violation| counters.violations.get(violation),
    )
}

fn traffic(page: &mut Page<'_, '_>) -> fmt::Result {
    for (name, help, counter) in [
        (
            "ringback_messages_received",
            "Complete messages received; a fragmented one counts once.",
            (|counters| &counters.messages_received) as fn(&Counters) -> &Counter,
        ),
        (
            "ringback_messages_sent",
            "Messages sent: written to the socket in full, or queued for it.",
            |counters| &counters.messages_sent,
        ),
        (
            "ringback_received_bytes",
            "Bytes of WebSocket frames read, headers included.",
            |counters| &counters.bytes_received,
        ),
        (
            "ringback_sent_bytes",
            "Bytes of WebSocket frames written, headers included.",
            |counters| &counters.bytes_sent,
        ),
        (
            "ringback_reads",
            "Reads that returned bytes of WebSocket frames.",
            |counters| &counters.reads,
        ),
        (
            "ringback_writes",
            "Writes of WebSocket frames, partial ones included.",
            |counters| &counters.writes,
        ),
    ] {
        page.counter_by_worker(name, help, counter)?;
    }
    page.batches(
        "ringback_frames_per_read",
        "Frames completed per batch: one read, or several that were queued.",
        |counters| &counters.frames_per_read,
    )?;
    page.batches(
        "ringback_frames_per_write",
        "Frames completed in the replies to one batch.",
        |counters| &counters.frames_per_write,
    )?;
    for (name, help, counter) in [
        (
            "ringback_pings_sent",
            "Pings sent to idle clients.",
            (|counters| &counters.pings_sent) as fn(&Counters) -> &Counter,
        ),
        (
            "ringback_pings_received",
            "Pings received. Each gets a Pong.",
            |counters| &counters.pings_received,
        ),
        (
            "ringback_pongs_received",
            "Pongs received, solicited or not.",
            |counters| &counters.pongs_received,
        ),
        (
            "ringback_slow_readers_cut",
            "Connections cut because the client read too little within the write timeout.",
            |counters| &counters.slow_readers_cut,
        ),
        (
            "ringback_handler_panics",
            "Panics of handlers, each of which ended its connection.",
            |counters| &counters.handler_panics,
        ),
    ] {
        let total = page.workers.iter().map(|counters| counter(counters).get());
        let total: u64 = total.sum();
        page.counter(name, help, &total)?;
    }
    page.gauge_by_worker(
        "ringback_slow_readers",
        "Connections whose client has left a reply unread for 100 ms or more. Up to a second old.",
        |counters| &counters.slow_readers,
    )?;
    page.gauge_by_worker(
        "ringback_held_bytes",
        "Buffered bytes: of handshakes in progress, incomplete frames and messages, queued \
         replies, and buffers larger than those of an idle connection. Up to a second old.",
        |counters| &counters.held_bytes,
    )
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Instant;

    use super::*;
    use crate::admin::Watched;
    use crate::config::Config;
    use crate::config::engine_kind::EngineKind;
    use crate::limits::admission::ServerLimits;
    use crate::limits::descriptors::REJECTS_MAX;
    use crate::proto::CloseCode;
    use crate::sys::shutdown;

    fn text(workers: [Counters; 2]) -> String {
        let (_trigger, shutdown) = shutdown::channel();
        let this_thread = rustix::thread::gettid().as_raw_nonzero().get();
        let overview = Overview {
            engine: EngineKind::Epoll,
            workers: workers
                .map(|counters| Watched::new(Arc::new(counters), this_thread))
                .into(),
            server_limits: ServerLimits::new(
                &Config {
                    max_connections: NonZeroUsize::new(7).expect("not zero"),
                    ..Config::default()
                },
                REJECTS_MAX,
            ),
            tls: None,
            epoch: Instant::now(),
            shutdown,
        };
        Exposition::new(overview).text().expect("in memory")
    }

    #[track_caller]
    fn expect_line(text: &str, line: &str) {
        let found = text.lines().filter(|found| *found == line).count();
        assert_eq!(found, 1, "{line} in\n{text}");
    }

    #[test]
    fn traffic_is_per_worker_and_rare_events_are_totals() {
        let workers: [Counters; 2] = Default::default();
        for (counters, n) in workers.iter().zip([2, 3]) {
            counters.messages_received.add(n);
            counters.open.set(10 * n);
            counters.refusals.add(RefusalReason::Origin);
            counters.count_end(EndReason::Client, Some(CloseCode::NORMAL));
            counters.violations.add(Violation::Unmasked);
            counters.frames_per_read.note(4);
            counters
                .handshake_times
                .note(std::time::Duration::from_millis(3));
        }
        let text = text(workers);
        for line in [
            "ringback_messages_received_total{worker=\"0\"} 2",
            "ringback_messages_received_total{worker=\"1\"} 3",
            "ringback_connections_open{worker=\"1\"} 30",
            "ringback_connections_max 7",
            "ringback_connections_refused_total{reason=\"origin\"} 2",
            "ringback_connections_refused_total{reason=\"path\"} 0",
            "ringback_closes_total{reason=\"client\",code=\"1000\"} 2",
            "ringback_violations_total{kind=\"unmasked\"} 2",
            "ringback_frames_per_read_bucket{le=\"2\"} 0",
            "ringback_frames_per_read_bucket{le=\"4\"} 2",
            "ringback_frames_per_read_bucket{le=\"+Inf\"} 2",
            "ringback_frames_per_read_sum 8.0",
            "ringback_handshake_duration_seconds_bucket{le=\"0.0025\"} 0",
            "ringback_handshake_duration_seconds_bucket{le=\"0.005\"} 2",
            "ringback_handshake_duration_seconds_count 2",
            "# TYPE ringback_handshake_duration_seconds histogram",
            "# TYPE ringback_build_info gauge",
        ] {
            expect_line(&text, line);
        }
    }

    #[test]
    fn every_series_exists_at_zero_from_the_start() {
        let text = text(Default::default());
        for violation in Violation::ALL {
            let name = violation.name();
            expect_line(
                &text,
                &format!("ringback_violations_total{{kind=\"{name}\"}} 0"),
            );
        }
        expect_line(
            &text,
            "ringback_closes_total{reason=\"idle\",code=\"1001\"} 0",
        );
        assert!(
            !text.contains("reason=\"idle\",code=\"1002\""),
            "1002 is no code of an idle timeout"
        );
    }
}
