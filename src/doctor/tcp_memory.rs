//! Kernel memory for clients that do not read.
//!
//! ```text
//! connections x (send queue + receive buffer)
//! ```
//!
//! The kernel limits TCP's memory for the whole machine. It also charges the control
//! group, which cannot reclaim it.

use std::num::{NonZeroU64, NonZeroUsize};

use host::finding::Finding;

use super::Need;
use super::system::System;
use crate::config::Config;
use crate::limits::tcp_memory;

/// The kernel charges a buffer's overhead like its content.
const OVERHEAD_FACTOR: u64 = 2;

pub(super) fn check(config: &Config, system: &System) -> Vec<Finding> {
    let [send, receive] = buffers(config, system);
    let mut findings: Vec<_> = [&send, &receive]
        .into_iter()
        .filter_map(Buffer::capped)
        .collect();
    findings.extend(all(config, system, &send, &receive));
    findings
}

/// The buffers of a socket in one direction.
struct Buffer {
    setting: &'static str,
    requested: Option<NonZeroUsize>,
    /// The kernel's limit on that, in `sysctl`.
    allowed: Option<u64>,
    sysctl: &'static str,
    /// The size it grows to if the setting is 0.
    grows_to: Option<u64>,
}

fn buffers(config: &Config, system: &System) -> [Buffer; 2] {
    [
        Buffer {
            setting: "--socket-send-buffer",
            requested: config.socket_send_buffer,
            allowed: system.send_buffer_max,
            sysctl: "net.core.wmem_max",
            grows_to: system.tcp_send_buffer_max,
        },
        Buffer {
            setting: "--socket-receive-buffer",
            requested: config.socket_receive_buffer,
            allowed: system.receive_buffer_max,
            sysctl: "net.core.rmem_max",
            grows_to: system.tcp_receive_buffer_max,
        },
    ]
}

impl Buffer {
    /// The kernel reduces the size without an error.
    fn capped(&self) -> Option<Finding> {
        let (requested, allowed) = (self.requested?.get() as u64, self.allowed?);
        (requested > allowed).then(|| {
            let Self {
                setting, sysctl, ..
            } = self;
            let found = format!("{sysctl} caps {setting} {requested} to {allowed}");
            let change = format!("sysctl -w {sysctl}={requested}, or {setting} {allowed}");
            Finding::warning("socket buffers", found).advise(change)
        })
    }

    /// The most bytes that the kernel charges for it.
    fn most(&self) -> Option<u64> {
        let Some(requested) = self.requested else {
            return self.grows_to;
        };
        let taken = (requested.get() as u64).min(self.allowed.unwrap_or(u64::MAX));
        Some(taken.saturating_mul(OVERHEAD_FACTOR))
    }
}

fn all(config: &Config, system: &System, send: &Buffer, receive: &Buffer) -> Option<Finding> {
    const CHECK: &str = "TCP memory";
    let pressure = system.tcp_pressure()?;
    let unsent = config.tcp_notsent_lowat.map_or(u64::MAX, |lowat| {
        (lowat.get() as u64).saturating_mul(OVERHEAD_FACTOR)
    });
    let each = send.most()?.min(unsent) + receive.most()?;
    let connections = Need::of(config, system).connections;
    let most = connections.saturating_mul(each);
    let found = format!(
        "{connections} clients that do not read take up to {} MiB of the kernel, {} KiB each",
        mib(most),
        each.div_ceil(1 << 10),
    );
    let max = tcp_memory::max(config.max_tcp_memory, pressure);
    let bound = most.min(max.map_or(u64::MAX, NonZeroU64::get));
    if bound > pressure {
        let found = format!(
            "{found}; the kernel resets connections of all servers when TCP has one and a half \
             times {} MiB (net.ipv4.tcp_mem)",
            mib(pressure)
        );
        let change = format!("--max-tcp-memory {}m", mib(pressure / 4 * 3));
        return Some(Finding::warning(CHECK, found).advise(change));
    }
    let group = system.cgroup.memory_max_bytes;
    if let Some(group) = group.filter(|&group| bound > group) {
        let found = format!(
            "{found}, {} MiB before they are reset; the control group allows {} MiB in all",
            mib(bound),
            mib(group)
        );
        let change = format!(
            "--max-tcp-memory {}m, which counts all of the machine, or a smaller \
             --socket-receive-buffer or --max-connections",
            mib(group / 4)
        );
        return Some(Finding::warning(CHECK, found).advise(change));
    }
    let found = if bound < most {
        format!(
            "{found}, and are reset when TCP has {} MiB on this machine",
            mib(bound)
        )
    } else {
        found
    };
    Some(Finding::ok(CHECK, found))
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::cgroup::Limits;
    use host::finding::Level;

    use crate::doctor::tests::{config, system};

    const MIB: u64 = 1 << 20;

    fn machine(group_mib: Option<u64>) -> System {
        System {
            tcp_pressure: Some(1000 * MIB),
            send_buffer_max: Some(MIB),
            receive_buffer_max: Some(MIB),
            tcp_send_buffer_max: Some(4 * MIB),
            tcp_receive_buffer_max: Some(6 * MIB),
            cgroup: Limits {
                memory_max_bytes: group_mib.map(|group| group * MIB),
                ..Limits::default()
            },
            ..system()
        }
    }

    fn finding(config: &Config, group_mib: Option<u64>) -> Finding {
        let mut findings = check(config, &machine(group_mib));
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.remove(0)
    }

    #[test]
    fn the_most_is_the_unsent_bytes_and_the_receive_buffer_of_each_client() {
        let found = finding(&config(100), None);
        assert_eq!(found.level, Level::Ok);
        // 256 KiB and 6 MiB.
        assert!(found.found.contains("625 MiB of the kernel, 6400 KiB each"));
        let config = Config {
            socket_receive_buffer: NonZeroUsize::new(64 * 1024),
            tcp_notsent_lowat: None,
            ..config(100)
        };
        // 4 MiB and 128 KiB.
        let found = finding(&config, None).found;
        assert!(found.contains("4224 KiB each"), "{found}");
    }

    #[test]
    fn without_a_limit_below_memory_pressure_there_is_a_warning() {
        let many = config(10_000);
        let found = finding(&many, None);
        assert_eq!(found.level, Level::Ok);
        assert!(found.found.contains("reset when TCP has 750 MiB"));
        let unlimited = Config {
            max_tcp_memory: Some(0),
            ..many
        };
        let found = finding(&unlimited, None);
        assert_eq!(found.level, Level::Warning);
        assert_eq!(found.change.as_deref(), Some("--max-tcp-memory 750m"));
        assert_eq!(finding(&config(10), None).level, Level::Ok);
    }

    #[test]
    fn the_advice_fits_the_control_group() {
        let found = finding(&config(10_000), Some(512));
        assert_eq!(found.level, Level::Warning);
        let change = found.change.expect("advice");
        assert!(change.starts_with("--max-tcp-memory 128m"), "{change}");
        let advised = Config {
            max_tcp_memory: Some(128 << 20),
            ..config(10_000)
        };
        assert_eq!(finding(&advised, Some(512)).level, Level::Ok);
        assert_eq!(finding(&config(10), Some(512)).level, Level::Ok);
    }

    #[test]
    fn a_buffer_that_the_kernel_caps_is_a_warning() {
        let large = Config {
            socket_send_buffer: NonZeroUsize::new(4 << 20),
            socket_receive_buffer: NonZeroUsize::new(1 << 20),
            ..config(10)
        };
        let findings = check(&large, &machine(None));
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert_eq!(
            findings[0].found,
            "net.core.wmem_max caps --socket-send-buffer 4194304 to 1048576"
        );
        assert!(check(&large, &system()).is_empty());
    }
}
