//! The state of this machine, read once.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use host::cgroup::Limits;
use host::{Root, cores};
use rustix::process::{Resource, Rlimit, getrlimit};

use super::attempts::{self, Attempt};
use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::config::error::Error;
use crate::limits::tcp_memory;
use crate::server::restart::pid_file;
use crate::transport::tls;

/// The result of an echo through an engine.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) engine: EngineKind,
    pub(super) result: Result<(), String>,
}

/// The input of the checks. `None` or empty if it cannot be read.
#[derive(Debug)]
pub struct System {
    pub(super) open_files: Rlimit,
    /// The largest limit on open files that the kernel allows: `fs.nr_open`.
    pub(super) open_files_max: Option<u64>,
    pub(super) locked_memory: Rlimit,
    /// Whether the process has `CAP_IPC_LOCK`, so that the limit does not apply.
    pub(super) may_lock_memory: bool,
    pub(super) somaxconn: Option<u64>,
    pub(super) syn_cookies: Option<u8>,
    pub(super) syn_backlog_max: Option<u64>,
    /// The bytes at which TCP enters memory pressure.
    pub(super) tcp_pressure: Option<u64>,
    /// The largest buffers that a socket may set, and that TCP's grow to.
    pub(super) send_buffer_max: Option<u64>,
    pub(super) receive_buffer_max: Option<u64>,
    pub(super) tcp_send_buffer_max: Option<u64>,
    pub(super) tcp_receive_buffer_max: Option<u64>,
    pub(super) local_ports: Option<RangeInclusive<u16>>,
    /// Ports and ranges of them, as the kernel writes them: `8080,9000-9010`.
    pub(super) reserved_ports: String,
    pub(super) unprivileged_port_first: Option<u16>,
    /// The cores that this process may run on.
    pub(super) cores: Vec<usize>,
    /// The governors of those cores.
    pub(super) governors: BTreeSet<String>,
    pub(super) memory_total_bytes: Option<u64>,
    pub(super) cgroup: Limits,
    pub(super) kernel_version: Option<(u32, u32)>,
    /// `kernel.io_uring_disabled`.
    pub(super) io_uring_disabled: Option<u8>,
    /// Whether a seccomp filter applies to this process.
    pub(super) seccomp_filters: bool,
    pub(super) attempts: Vec<Attempt>,
    pub(super) probes: Vec<Probe>,
    /// The certificate and its key, if they are configured.
    pub(super) credentials: Option<Result<tls::Examination, Error>>,
    /// Whether the pid file can be claimed, if it is configured.
    pub(super) pid_file: Option<Result<(), pid_file::ClaimError>>,
}

impl System {
    /// Reads the kernel's files and the limits of this process, and tries what a server
    /// with this configuration does first: read the certificate, listen, and echo on each
    /// engine. The addresses are in use for a moment.
    pub fn read(config: &Config) -> Self {
        let cores = cores::usable().unwrap_or_default();
        Self {
            open_files: getrlimit(Resource::Nofile),
            locked_memory: getrlimit(Resource::Memlock),
            attempts: attempts::attempt(config),
            probes: probe_all(),
            credentials: config.tls.as_ref().map(tls::examine),
            pid_file: config.pid_file.as_deref().map(pid_file::examine),
            ..Self::files(&Root::of_this_machine(), cores)
        }
    }

    /// The part that is read from files.
    fn files(root: &Root, cores: Vec<usize>) -> Self {
        let seccomp = root.field("proc/self/status", "Seccomp");
        let port = |index| root.sysctl_number("net.ipv4.ip_local_port_range", index);
        Self {
            open_files: UNLIMITED,
            open_files_max: root.number("proc/sys/fs/nr_open"),
            locked_memory: UNLIMITED,
            may_lock_memory: root
                .field("proc/self/status", "CapEff")
                .is_some_and(|capabilities| has_ipc_lock(&capabilities)),
            somaxconn: root.number("proc/sys/net/core/somaxconn"),
            syn_cookies: root.number("proc/sys/net/ipv4/tcp_syncookies"),
            syn_backlog_max: root.number("proc/sys/net/ipv4/tcp_max_syn_backlog"),
            tcp_pressure: tcp_memory::pressure(root),
            send_buffer_max: root.number("proc/sys/net/core/wmem_max"),
            receive_buffer_max: root.number("proc/sys/net/core/rmem_max"),
            tcp_send_buffer_max: root.sysctl_number("net.ipv4.tcp_wmem", 2),
            tcp_receive_buffer_max: root.sysctl_number("net.ipv4.tcp_rmem", 2),
            local_ports: port(0).zip(port(1)).map(|(first, last)| first..=last),
            reserved_ports: root
                .text("proc/sys/net/ipv4/ip_local_reserved_ports")
                .unwrap_or_default(),
            unprivileged_port_first: root.number("proc/sys/net/ipv4/ip_unprivileged_port_start"),
            governors: cores::governors(root, &cores),
            cores,
            memory_total_bytes: root.memory_bytes("MemTotal"),
            cgroup: Limits::read(root),
            kernel_version: root
                .text("proc/sys/kernel/osrelease")
                .and_then(|release| parse_version(&release)),
            io_uring_disabled: root.number("proc/sys/kernel/io_uring_disabled"),
            // 1 is strict mode, in which this code could not run.
            seccomp_filters: seccomp.as_deref() == Some("2"),
            attempts: Vec::new(),
            probes: Vec::new(),
            credentials: None,
            pid_file: None,
        }
    }
}

impl System {
    /// The bytes at which TCP enters memory pressure: the kernel's number, or its default
    /// for this machine's memory.
    pub(super) fn tcp_pressure(&self) -> Option<u64> {
        let default = self.memory_total_bytes.map(tcp_memory::usual_pressure);
        self.tcp_pressure.or(default)
    }
}

pub(super) const UNLIMITED: Rlimit = Rlimit {
    current: None,
    maximum: None,
};

/// `CAP_IPC_LOCK` of `linux/capability.h`.
const IPC_LOCK_BIT: u32 = 14;

fn has_ipc_lock(capabilities: &str) -> bool {
    let mask = u64::from_str_radix(capabilities, 16).unwrap_or(0);
    mask >> IPC_LOCK_BIT & 1 == 1
}

/// The first two numbers of `6.18.44-fc-v669`.
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn probe_all() -> Vec<Probe> {
    let probe = |&engine: &EngineKind| Probe {
        engine,
        result: engine.probe().map_err(|error| match error {
            Error::Engine { reason, .. } => reason,
            other => other.to_string(),
        }),
    };
    EngineKind::ALL.iter().map(probe).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    impl System {
        /// A machine of which nothing can be read, and on which nothing was tried.
        pub(crate) fn unreadable() -> Self {
            Self::files(&Root::at("/dev/null"), Vec::new())
        }
    }

    #[test]
    fn every_file_is_read() {
        let tree = tempfile::tempdir().expect("a directory");
        for (path, text) in [
            ("proc/sys/fs/nr_open", "1048576\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "1024\n"),
            ("proc/sys/net/core/wmem_max", "1000\n"),
            ("proc/sys/net/core/rmem_max", "2000\n"),
            ("proc/sys/net/ipv4/tcp_wmem", "1\t2\t3000\n"),
            ("proc/sys/net/ipv4/tcp_rmem", "1\t2\t4000\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/ipv4/ip_local_reserved_ports", "40000-40010\n"),
            ("proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n"),
            ("proc/sys/kernel/osrelease", "6.18.44-fc-v669\n"),
            ("proc/sys/kernel/io_uring_disabled", "2\n"),
            ("proc/meminfo", "MemTotal:       1024 kB\nMemFree: 1 kB\n"),
            (
                "proc/self/status",
                "CapEff:\t0000000000004000\nSeccomp:\t2\n",
            ),
            ("proc/self/cgroup", "0::/\n"),
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/pids.max", "7\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
                "schedutil\n",
            ),
            (
                "sys/devices/system/cpu/cpu9/cpufreq/scaling_governor",
                "ondemand\n",
            ),
        ] {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().expect("below the tree")).expect("created");
            fs::write(path, text).expect("written");
        }
        let system = System::files(&Root::at(tree.path()), vec![0, 3]);
        assert_eq!(system.open_files_max, Some(1 << 20));
        assert_eq!(system.somaxconn, Some(4096));
        assert_eq!(system.syn_cookies, Some(1));
        assert_eq!(system.syn_backlog_max, Some(1024));
        let buffers = [
            system.send_buffer_max,
            system.receive_buffer_max,
            system.tcp_send_buffer_max,
            system.tcp_receive_buffer_max,
        ];
        assert_eq!(buffers, [1000, 2000, 3000, 4000].map(Some));
        assert_eq!(system.tcp_pressure(), Some((1 << 20) / 16));
        assert_eq!(system.local_ports, Some(32_768..=60_999));
        assert_eq!(system.reserved_ports, "40000-40010");
        assert_eq!(system.unprivileged_port_first, Some(80));
        assert_eq!(system.kernel_version, Some((6, 18)));
        assert_eq!(system.io_uring_disabled, Some(2));
        assert_eq!(system.memory_total_bytes, Some(1 << 20));
        assert!(system.may_lock_memory && system.seccomp_filters);
        assert_eq!(system.cgroup.tasks_max, Some(7));
        let governors: Vec<_> = system.governors.iter().collect();
        assert_eq!(governors, ["powersave", "schedutil"]);
    }

    #[test]
    fn capabilities_are_bits_in_hexadecimal() {
        assert!(has_ipc_lock("000001ffffffffff"));
        assert!(!has_ipc_lock("00000000a80425fb"));
        assert!(!has_ipc_lock("nonsense"));
    }

    #[test]
    fn a_release_begins_with_its_version() {
        assert_eq!(parse_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(parse_version("7.0-rc1"), Some((7, 0)));
        assert_eq!(parse_version("unknown"), None);
    }
}
