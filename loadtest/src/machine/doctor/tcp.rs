//! Limits of connections, and settings of TCP.

use host::Root;
use host::finding::Finding;
use host::root::field;
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};

use super::format_rough_size;
use crate::units::format_count;

/// Limits and settings of sockets.
#[derive(Debug, Clone, Default)]
pub(super) struct Tcp {
    /// The hard limit, to which server and generator raise theirs; `None` if there is none.
    open_files_max: Option<u64>,
    somaxconn: Option<u64>,
    /// First and last port for outgoing connections.
    ports: Option<(u64, u64)>,
    /// Connections in TIME-WAIT.
    time_wait: u64,
    tw_reuse: Option<u8>,
    congestion_control: Option<String>,
    /// The largest receive and send buffer of a connection.
    buffers_max_bytes: Option<(u64, u64)>,
    /// The memory limit of all sockets together.
    memory_max_bytes: Option<u64>,
    /// Packets dropped because the kernel's queue was full, since boot.
    backlog_drops: Option<u64>,
    /// The connections in conntrack, and its limit.
    conntrack: Option<(u64, u64)>,
}

impl Tcp {
    pub(super) fn read(root: &Root) -> Self {
        Self {
            open_files_max: getrlimit(Resource::Nofile).maximum,
            somaxconn: root.sysctl_number("net.core.somaxconn", 0),
            ports: pair(
                root.sysctl_number("net.ipv4.ip_local_port_range", 0),
                root.sysctl_number("net.ipv4.ip_local_port_range", 1),
            ),
            time_wait: root
                .text("/proc/net/sockstat")
                .and_then(|stat| parse_time_wait(&stat))
                .unwrap_or(0),
            tw_reuse: root.number("/proc/sys/net/ipv4/tcp_tw_reuse"),
            congestion_control: root.sysctl("net.ipv4.tcp_congestion_control"),
            buffers_max_bytes: pair(
                root.sysctl_number("net.ipv4.tcp_rmem", 2),
                root.sysctl_number("net.ipv4.tcp_wmem", 2),
            ),
            memory_max_bytes: root
                .sysctl_number("net.ipv4.tcp_mem", 2)
                .map(|pages: u64| pages.saturating_mul(page_size() as u64)),
            backlog_drops: root
                .text("/proc/net/softnet_stat")
                .and_then(|stat| parse_backlog_drops(&stat)),
            conntrack: pair(
                root.sysctl_number("net.netfilter.nf_conntrack_count", 0),
                root.sysctl_number("net.netfilter.nf_conntrack_max", 0),
            ),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        [
            Some(self.judge_open_files()),
            self.judge_somaxconn(),
            self.judge_ports(),
            self.judge_tw_reuse(),
            self.judge_congestion_control(),
            self.judge_buffers(),
            self.judge_memory(),
            self.judge_backlog(),
            Some(self.judge_conntrack()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn judge_open_files(&self) -> Finding {
        const CHECK: &str = "open files";
        let Some(max) = self.open_files_max else {
            return Finding::ok(CHECK, "no limit");
        };
        let found = format!(
            "{} (hard limit), for a few fewer connections",
            format_count(max)
        );
        let advice = "ulimit -n 1048576 as root in the shell of each program, \
                      or LimitNOFILE=1048576 in a unit";
        match max {
            65_536.. => Finding::ok(CHECK, found),
            4_096.. => Finding::warning(CHECK, found).advise(advice),
            _ => Finding::problem(CHECK, found).advise(advice),
        }
    }

    fn judge_somaxconn(&self) -> Option<Finding> {
        const CHECK: &str = "accept queue";
        let somaxconn = self.somaxconn?;
        let found = format!("{} at most (somaxconn)", format_count(somaxconn));
        let full = format!("{found}: when it is full, a connect takes a second longer");
        let advice = "sysctl -w net.core.somaxconn=65535 before the server starts";
        Some(match somaxconn {
            4_096.. => Finding::ok(CHECK, found),
            1_024.. => Finding::warning(CHECK, full).advise(advice),
            _ => Finding::problem(CHECK, full).advise(advice),
        })
    }

    fn judge_ports(&self) -> Option<Finding> {
        const CHECK: &str = "local ports";
        let (first, last) = self.ports?;
        let count = (last + 1).saturating_sub(first);
        // Sockets of an earlier run stay for up to a minute.
        let waiting = self.time_wait >= count / 4;
        let left_over = if waiting {
            format!(", {} still in TIME-WAIT", format_count(self.time_wait))
        } else {
            String::new()
        };
        let found = format!(
            "{first}-{last}: {} connections per source and target{left_over}",
            format_count(count)
        );
        let advice = "--source 127.0.0.1-127.0.0.20 has that many for each address, or \
                      sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"";
        Some(match count {
            60_000.. if !waiting => Finding::ok(CHECK, found),
            10_000.. => Finding::warning(CHECK, found).advise(advice),
            _ => Finding::problem(CHECK, found).advise(advice),
        })
    }

    fn judge_tw_reuse(&self) -> Option<Finding> {
        const CHECK: &str = "port reuse";
        Some(match self.tw_reuse? {
            0 => Finding::warning(
                CHECK,
                "off: after a close, a port is gone for a minute, which limits churn",
            )
            .advise("sysctl -w net.ipv4.tcp_tw_reuse=1"),
            2 => Finding::ok(CHECK, "over loopback only"),
            _ => Finding::ok(CHECK, "on"),
        })
    }

    fn judge_congestion_control(&self) -> Option<Finding> {
        const CHECK: &str = "congestion control";
        let name = self.congestion_control.as_deref()?;
        // BBR paces sends at its estimate of the path's rate, and loopback has none.
        Some(if name.starts_with("bbr") {
            Finding::warning(
                CHECK,
                format!("{name}: it paces what is sent, over loopback too"),
            )
            .advise("sysctl -w net.ipv4.tcp_congestion_control=cubic")
        } else {
            Finding::ok(CHECK, name)
        })
    }

    fn judge_buffers(&self) -> Option<Finding> {
        const CHECK: &str = "socket buffers";
        let (receive, send) = self.buffers_max_bytes?;
        let found = format!(
            "up to {} to receive and {} to send",
            format_rough_size(receive),
            format_rough_size(send)
        );
        let advice = "sysctl -w net.ipv4.tcp_rmem=\"4096 131072 33554432\" \
                      net.ipv4.tcp_wmem=\"4096 16384 4194304\"";
        Some(match receive.min(send) {
            // The kernel's own choice where there is memory enough.
            0x0040_0000.. => Finding::ok(CHECK, found),
            0x0004_0000.. => Finding::warning(CHECK, found).advise(advice),
            _ => Finding::problem(CHECK, format!("{found}: large messages wait")).advise(advice),
        })
    }

    fn judge_memory(&self) -> Option<Finding> {
        const CHECK: &str = "TCP memory";
        let max = self.memory_max_bytes?;
        let found = format!("{} for all connections together", format_rough_size(max));
        let advice = "sysctl -w net.ipv4.tcp_mem=\"262144 393216 524288\", which is 2 GiB \
                      with pages of 4 KiB";
        Some(match max {
            0x2000_0000.. => Finding::ok(CHECK, found),
            0x0800_0000.. => Finding::warning(CHECK, found).advise(advice),
            _ => Finding::problem(CHECK, found).advise(advice),
        })
    }

    fn judge_backlog(&self) -> Option<Finding> {
        const CHECK: &str = "packet queue";
        Some(match self.backlog_drops? {
            0 => Finding::ok(CHECK, "never full since boot"),
            drops => Finding::warning(
                CHECK,
                format!(
                    "was full for {} packets since boot: each is sent again, late",
                    format_count(drops)
                ),
            )
            .advise("sysctl -w net.core.netdev_max_backlog=30000"),
        })
    }

    fn judge_conntrack(&self) -> Finding {
        const CHECK: &str = "conntrack";
        let found = match self.conntrack {
            None => return Finding::ok(CHECK, "not loaded"),
            // It is used only if a firewall rule needs it.
            Some((0, _)) => return Finding::ok(CHECK, "tracks nothing"),
            Some((count, max)) => format!(
                "tracks {} of at most {} connections, at a cost for each packet",
                format_count(count),
                format_count(max)
            ),
        };
        let advice = "sysctl -w net.netfilter.nf_conntrack_max=1048576; leave loopback out: \
                      iptables -t raw -I OUTPUT -o lo -j NOTRACK";
        match self.conntrack {
            Some((count, max)) if max.saturating_sub(count) < 65_536 => {
                Finding::problem(CHECK, found).advise(advice)
            }
            _ => Finding::warning(CHECK, found).advise(advice),
        }
    }
}

fn pair(a: Option<u64>, b: Option<u64>) -> Option<(u64, u64)> {
    a.zip(b)
}

/// Finds `tw 7` in the line of TCP.
fn parse_time_wait(sockstat: &str) -> Option<u64> {
    let mut words = field(sockstat, "TCP")?.split(' ');
    words.find(|&word| word == "tw")?;
    words.next()?.parse().ok()
}

/// Adds up the second column, which is in hexadecimal, over all cores.
fn parse_backlog_drops(softnet_stat: &str) -> Option<u64> {
    softnet_stat
        .lines()
        .map(|line| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;

    fn level(finding: Option<Finding>) -> Option<Level> {
        finding.map(|finding| {
            assert_eq!(
                finding.change.is_some(),
                finding.level > Level::Ok,
                "{finding:?}"
            );
            finding.level
        })
    }

    #[test]
    fn open_files_limit_connections() {
        for (open_files_max, expected) in [
            (None, Level::Ok),
            (Some(1 << 20), Level::Ok),
            (Some(20_000), Level::Warning),
            (Some(1024), Level::Problem),
        ] {
            let tcp = Tcp {
                open_files_max,
                ..Tcp::default()
            };
            assert_eq!(level(Some(tcp.judge_open_files())), Some(expected));
        }
    }

    #[test]
    fn a_short_accept_queue_is_bad() {
        for (somaxconn, expected) in [
            (4096, Level::Ok),
            (1024, Level::Warning),
            (128, Level::Problem),
        ] {
            let tcp = Tcp {
                somaxconn: Some(somaxconn),
                ..Tcp::default()
            };
            assert_eq!(level(tcp.judge_somaxconn()), Some(expected));
        }
    }

    #[test]
    fn ports_limit_connections_per_source() {
        for (ports, time_wait, expected) in [
            ((1024, 65_535), 0, Level::Ok),
            ((1024, 65_535), 30_000, Level::Warning),
            ((32_768, 60_999), 0, Level::Warning),
            ((60_000, 60_999), 0, Level::Problem),
            ((2, 1), 0, Level::Problem),
        ] {
            let tcp = Tcp {
                ports: Some(ports),
                time_wait,
                ..Tcp::default()
            };
            assert_eq!(level(tcp.judge_ports()), Some(expected), "{ports:?}");
        }
        let usual = Tcp {
            ports: Some((32_768, 60_999)),
            ..Tcp::default()
        };
        let found = usual.judge_ports().unwrap();
        assert_eq!(
            found.found,
            "32768-60999: 28,232 connections per source and target"
        );
        assert!(found.change.unwrap().starts_with("--source 127.0.0.1-"));
    }

    #[test]
    fn ports_that_are_not_reused_limit_churn() {
        for (tw_reuse, expected) in [(0, Level::Warning), (1, Level::Ok), (2, Level::Ok)] {
            let tcp = Tcp {
                tw_reuse: Some(tw_reuse),
                ..Tcp::default()
            };
            assert_eq!(level(tcp.judge_tw_reuse()), Some(expected));
        }
    }

    #[test]
    fn pacing_congestion_control_is_reported() {
        for (name, expected) in [("cubic", Level::Ok), ("bbr", Level::Warning)] {
            let tcp = Tcp {
                congestion_control: Some(name.to_owned()),
                ..Tcp::default()
            };
            assert_eq!(level(tcp.judge_congestion_control()), Some(expected));
        }
    }

    #[test]
    fn the_smaller_buffer_counts() {
        for (buffers, expected) in [
            ((32 << 20, 4 << 20), Level::Ok),
            ((32 << 20, 1 << 20), Level::Warning),
            ((64 << 10, 4 << 20), Level::Problem),
        ] {
            let tcp = Tcp {
                buffers_max_bytes: Some(buffers),
                ..Tcp::default()
            };
            assert_eq!(level(tcp.judge_buffers()), Some(expected), "{buffers:?}");
        }
    }

    #[test]
    fn little_memory_for_all_is_bad() {
        for (max, expected) in [
            (2 << 30, Level::Ok),
            (256 << 20, Level::Warning),
            (16 << 20, Level::Problem),
        ] {
            let tcp = Tcp {
                memory_max_bytes: Some(max),
                ..Tcp::default()
            };
            assert_eq!(level(tcp.judge_memory()), Some(expected), "{max}");
        }
    }

    #[test]
    fn dropped_packets_are_reported() {
        for (drops, expected) in [(0, Level::Ok), (5, Level::Warning)] {
            let tcp = Tcp {
                backlog_drops: Some(drops),
                ..Tcp::default()
            };
            assert_eq!(level(tcp.judge_backlog()), Some(expected));
        }
    }

    #[test]
    fn conntrack_counts_when_it_is_at_work() {
        for (conntrack, expected) in [
            (None, Level::Ok),
            (Some((0, 262_144)), Level::Ok),
            (Some((90, 262_144)), Level::Warning),
            (Some((90, 65_536)), Level::Problem),
            (Some((250_000, 262_144)), Level::Problem),
        ] {
            let tcp = Tcp {
                conntrack,
                ..Tcp::default()
            };
            assert_eq!(level(Some(tcp.judge_conntrack())), Some(expected));
        }
    }

    #[test]
    fn unknown_values_are_left_out() {
        let checks = Tcp::default().judge();
        assert_eq!(checks.len(), 2);
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let sockstat = "sockets: used 25\nTCP: inuse 1 orphan 0 tw 17 alloc 1 mem 14\n";
        assert_eq!(parse_time_wait(sockstat), Some(17));
        assert_eq!(parse_time_wait("UDP: inuse 0 mem 0\n"), None);
        let softnet = "0013ca25 00000002 00000000\n0013dc3d 0000000f 00000000\n";
        assert_eq!(parse_backlog_drops(softnet), Some(17));
        assert_eq!(parse_backlog_drops("nonsense\n"), None);
    }
}
