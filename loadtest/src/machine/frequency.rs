//! Turbo frequencies.

use host::Root;

/// Whether the cores may exceed their nominal frequency, and the command that disables it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turbo {
    /// Whether it is switched on.
    pub(super) on: bool,
    /// The command that switches it off.
    pub(super) off_command: &'static str,
}

impl Turbo {
    /// Reads the switches of the drivers.
    pub(super) fn read(root: &Root) -> Option<Self> {
        let intel: Option<u8> = root.number("/sys/devices/system/cpu/intel_pstate/no_turbo");
        if let Some(no_turbo) = intel {
            return Some(Self {
                on: no_turbo == 0,
                off_command: "echo 1 | tee /sys/devices/system/cpu/intel_pstate/no_turbo",
            });
        }
        let boost: u8 = root.number("/sys/devices/system/cpu/cpufreq/boost")?;
        Some(Self {
            on: boost != 0,
            off_command: "echo 0 | tee /sys/devices/system/cpu/cpufreq/boost",
        })
    }
}
