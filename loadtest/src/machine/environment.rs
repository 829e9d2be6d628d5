//! The machine in a result file, so that a comparison of two results can show what else
//! differs.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use data_encoding::HEXLOWER;
use host::cgroup::Limits;
use host::root::field;
use host::{Root, cores};
use rustix::process::{Resource, getrlimit};
use rustix::thread::current_timer_slack;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::frequency::Turbo;
use super::topology;

/// The kernel parameters that bear on sockets and their speed.
const SYSCTLS: [&str; 21] = [
    "net.core.busy_poll",
    "net.core.busy_read",
    "net.core.default_qdisc",
    "net.core.netdev_max_backlog",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_default",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_autocorking",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
];

/// The machine and the program, as far as a result depends on them. Values that the kernel does
/// not export are `None` or empty. Nothing in it names the machine or its user, unless labels do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The version of the generator.
    pub version: String,
    /// The commit it was built from, with `-dirty` if its sources were changed;
    /// unknown if it was not built in a git checkout.
    pub commit: Option<String>,
    /// The SHA-256 of the generator's binary, in hexadecimal.
    pub binary_sha256: Option<String>,
    /// The kernel's release and version, as `uname -rv` prints them.
    pub kernel: Option<String>,
    /// The architecture the generator was compiled for.
    pub architecture: String,
    /// The CPU's model name.
    pub cpu_model: Option<String>,
    /// Cores that are switched on.
    pub cores_online: Option<usize>,
    /// The cores the calling thread may run on, as `0-3,8`.
    pub cores_allowed: Option<String>,
    /// Whether two hardware threads share a core.
    pub smt_active: Option<bool>,
    /// The frequency governors of the allowed cores; several if they differ.
    pub governors: Option<BTreeSet<String>>,
    /// Whether cores may exceed their nominal clock.
    pub turbo: Option<bool>,
    /// The kernel's clock source.
    pub clocksource: Option<String>,
    /// Whether a hypervisor is below the kernel.
    pub virtual_machine: Option<bool>,
    /// The kernel's mitigation of each vulnerability of the CPU.
    pub mitigations: BTreeMap<String, String>,
    /// The machine's memory in bytes.
    pub memory_total_bytes: Option<u64>,
    /// The time the control groups allow this process, in cores; `None` is no
    /// limit.
    pub cgroup_cpu_quota_cores: Option<f64>,
    /// The memory the control groups allow this process, in bytes; `None` is no
    /// limit.
    pub cgroup_memory_max_bytes: Option<u64>,
    /// Tasks that ran or wanted to, on average over the last minute.
    pub load_average_1min: Option<f64>,
    /// Kernel parameters that bear on sockets.
    pub sysctls: BTreeMap<String, String>,
    /// The soft limit of open files; `None` is no limit.
    pub open_files_soft: Option<u64>,
    /// The hard limit of open files; `None` is no limit.
    pub open_files_hard: Option<u64>,
    /// The timer slack of the calling thread, in nanoseconds.
    pub timer_slack_ns: Option<u64>,
    /// Whether server and generator were on this machine and spoke over
    /// loopback.
    pub loopback: bool,
    /// The user's labels of the runs: a build, a ticket, a setting.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The user's note.
    #[serde(default)]
    pub note: Option<String>,
}

impl Environment {
    /// Reads all fields. Takes some milliseconds, mostly for the checksum of the binary.
    pub fn capture(loopback: bool) -> Self {
        let root = Root::of_this_machine();
        let cores = cores::usable().ok();
        let governors = cores::governors(&root, cores.as_deref().unwrap_or_default());
        let open_files = getrlimit(Resource::Nofile);
        let cgroup = Limits::read(&root);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("BUILD_COMMIT").map(str::to_owned),
            binary_sha256: binary_sha256(Path::new("/proc/self/exe")),
            kernel: kernel(&root),
            architecture: env::consts::ARCH.to_owned(),
            cpu_model: cpu_model(&root.text("/proc/cpuinfo").unwrap_or_default()),
            cores_online: topology::cores_online(&root).map(|cores| cores.len()),
            cores_allowed: cores.as_deref().map(cores::format_list),
            smt_active: topology::smt_active(&root),
            governors: (!governors.is_empty()).then_some(governors),
            turbo: Turbo::read(&root).map(|turbo| turbo.on),
            clocksource: root
                .text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            virtual_machine: topology::is_virtual(&root),
            mitigations: mitigations(&root),
            memory_total_bytes: root.memory_bytes("MemTotal"),
            cgroup_cpu_quota_cores: cgroup.cpu_cores_max,
            cgroup_memory_max_bytes: cgroup.memory_max_bytes,
            load_average_1min: load_average_1min(&root),
            sysctls: sysctls(&root),
            open_files_soft: open_files.current,
            open_files_hard: open_files.maximum,
            timer_slack_ns: current_timer_slack().ok(),
            loopback,
            labels: BTreeMap::new(),
            note: None,
        }
    }
}

/// The SHA-256 of a file in hexadecimal, or `None` if it cannot be read. A
/// running process's binary is `/proc/PID/exe`, even when its file was replaced.
pub fn binary_sha256(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match file.read(&mut chunk).ok()? {
            0 => return Some(HEXLOWER.encode(&digest.finalize())),
            len => digest.update(&chunk[..len]),
        }
    }
}

/// The weaknesses of the CPU and what is done about each.
pub(super) fn mitigations(root: &Root) -> BTreeMap<String, String> {
    let Ok(files) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return BTreeMap::new();
    };
    files
        .filter_map(|file| {
            let file = file.ok()?;
            let name = file.file_name().into_string().ok()?;
            Some((name, root.text(file.path())?))
        })
        .collect()
}

fn kernel(root: &Root) -> Option<String> {
    let release = root.sysctl("kernel.osrelease")?;
    let version = root.sysctl("kernel.version")?;
    Some(format!("{release} {version}"))
}

/// x86 has a model name, ARM an implementer and a part, and others have their own fields.
fn cpu_model(info: &str) -> Option<String> {
    for name in ["model name", "cpu model", "uarch", "cpu"] {
        if let Some(model) = field(info, name) {
            return Some(model.to_owned());
        }
    }
    let implementer = field(info, "CPU implementer")?;
    let part = field(info, "CPU part")?;
    Some(format!("implementer {implementer} part {part}"))
}

fn load_average_1min(root: &Root) -> Option<f64> {
    root.text("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

fn sysctls(root: &Root) -> BTreeMap<String, String> {
    SYSCTLS
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), root.sysctl(name)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_survives_its_file() {
        let environment = Environment::capture(true);
        let text = serde_json::to_string(&environment).unwrap();
        let read: Environment = serde_json::from_str(&text).unwrap();
        assert_eq!(read, environment);
        assert!(read.loopback);
        let broken = text.replace("\"loopback\":true", "\"loopback\":1");
        assert!(serde_json::from_str::<Environment>(&broken).is_err());
    }

    #[test]
    fn what_every_linux_has_is_captured() {
        let environment = Environment::capture(false);
        assert_eq!(environment.version, env!("CARGO_PKG_VERSION"));
        assert!(environment.kernel.is_some());
        assert!(environment.cores_online.unwrap() > 0);
        assert!(environment.memory_total_bytes.unwrap() > 0);
        assert!(environment.load_average_1min.is_some());
        assert!(environment.timer_slack_ns.is_some());
        assert!(
            environment
                .sysctls
                .contains_key("net.ipv4.tcp_congestion_control")
        );
        let commit = environment.commit.unwrap_or("0".repeat(40));
        assert!(
            commit
                .trim_end_matches("-dirty")
                .chars()
                .all(|c| c.is_ascii_hexdigit())
        );
    }

    #[test]
    fn the_host_name_is_not_captured() {
        let host = Root::of_this_machine().sysctl("kernel.hostname").unwrap();
        let environment = serde_json::to_value(Environment::capture(true)).unwrap();
        assert!(environment.get("hostname").is_none());
        // A short name, such as "vm", may well be part of another word.
        if host.len() > 8 {
            assert!(!environment.to_string().contains(&host));
        }
    }

    #[test]
    fn a_checksum_is_that_of_sha256sum() {
        assert_eq!(
            binary_sha256(Path::new("/dev/null")).as_deref(),
            Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        );
        assert_eq!(binary_sha256(Path::new("/no/such/file")), None);
        assert_eq!(
            binary_sha256(Path::new("/proc/self/exe")).unwrap().len(),
            64
        );
    }

    #[test]
    fn a_cpu_is_named_as_well_as_it_can_be() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n").as_deref(),
            Some("AMD EPYC")
        );
        assert_eq!(
            cpu_model("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n").as_deref(),
            Some("implementer 0x41 part 0xd0c")
        );
        assert_eq!(cpu_model("processor: 0\n"), None);
    }
}
