//! The files `stat` and `schedstat` of a process or a thread, see proc(5).

use std::str;

/// Some of the fields of `stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    state: u8,
    threads: u32,
    /// The process group.
    pub group: i32,
    /// CPU time in user space, in ticks.
    pub user_ticks: u64,
    /// CPU time in the kernel, in ticks.
    pub system_ticks: u64,
    /// The start time, in ticks since boot: it distinguishes processes that had the same id.
    pub start_ticks: u64,
    /// The core that it runs on, or last ran on.
    pub core: usize,
}

impl Stat {
    /// Reads the file's text; `None` if it is not whole.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (_, rest) = split(text)?;
        // In proc(5) the fields count from 1; the first two are removed.
        let rest = str::from_utf8(rest).ok()?;
        let mut fields = rest.split_ascii_whitespace().zip(3..);
        let mut field = |number: usize| fields.find(|&(_, n)| n == number).map(|(text, _)| text);
        Some(Self {
            state: *field(3)?.as_bytes().first()?,
            group: field(5)?.parse().ok()?,
            user_ticks: field(14)?.parse().ok()?,
            system_ticks: field(15)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            core: field(39)?.parse().ok()?,
        })
    }

    /// Whether the process has not ended. A zombie has, unless it is the first thread of a
    /// process with other threads alive.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X') || self.threads > 1
    }
}

/// The scheduler's counters of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedstat {
    /// The time it ran, in nanoseconds.
    pub cpu_ns: u64,
    /// The time it could have run and waited for a core, in nanoseconds; `None`
    /// where the kernel does not count it.
    pub wait_ns: Option<u64>,
}

impl Schedstat {
    /// Reads the file's text; `None` if it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let mut fields = text
            .split_ascii_whitespace()
            .map_while(|it| it.parse().ok());
        let cpu_ns = fields.next()?;
        let wait_ns = fields.next();
        // A kernel that does not count waits writes zeros, but a thread that ran got a core at
        // least once.
        let is_counted = cpu_ns == 0 || fields.next().is_some_and(|times| times > 0);
        Some(Self {
            cpu_ns,
            wait_ns: wait_ns.filter(|_| is_counted),
        })
    }
}

/// The program's name in the text of `stat`. It may be any bytes.
pub fn name(text: &[u8]) -> Option<&[u8]> {
    let (before, _) = split(text)?;
    let start = before.iter().position(|&byte| byte == b'(')? + 1;
    Some(&before[start..])
}

/// The text before and after the parenthesis that ends the name, which may itself contain
/// parentheses and spaces.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().rposition(|&byte| byte == b')')?;
    Some((&text[..end], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "S 1 42 42 0 -1 4194560 4409 0 11 0 123 45 0 0 20 0 7 0 9876 \
        11030528 1520 18446744073709551615 1 1 0 0 0 0 0 4096 81923 0 0 0 17 3 0 0 0 0 0";

    #[test]
    fn a_name_with_parentheses_and_spaces_is_skipped() {
        for program in ["sh", ") (", "a) R 9 9 9 (b", "\u{e9} ) "] {
            let text = format!("17 ({program}) {REST}");
            let expected = Stat {
                state: b'S',
                threads: 7,
                group: 42,
                user_ticks: 123,
                system_ticks: 45,
                start_ticks: 9876,
                core: 3,
            };
            assert_eq!(Stat::parse(text.as_bytes()), Some(expected), "{program:?}");
            assert_eq!(name(text.as_bytes()), Some(program.as_bytes()));
        }
        assert!(Stat::parse(format!("17 (\u{0}) {REST}").as_bytes()).is_some());
        assert!(Stat::parse([b"17 (\xff\xfe) ", REST.as_bytes()].concat().as_slice()).is_some());
        assert_eq!(name(b"17"), None);
    }

    #[test]
    fn a_stat_file_that_is_cut_off_is_not_read() {
        let whole = format!("17 (sh) {REST}");
        let core_end = whole.find(" 3 0 0 0 0 0").expect("the core") + 1;
        for length in 0..core_end {
            assert_eq!(Stat::parse(&whole.as_bytes()[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_zombie_is_alive_while_other_threads_are() {
        let stat = Stat::parse(format!("17 (sh) {REST}").as_bytes()).expect("a stat file");
        assert!(stat.is_alive());
        let zombie = Stat {
            state: b'Z',
            ..stat
        };
        assert!(zombie.is_alive());
        let alone = Stat {
            threads: 1,
            ..zombie
        };
        assert!(!alone.is_alive());
    }

    #[test]
    fn an_uncounted_wait_is_none_and_not_zero() {
        for (text, cpu_ns, wait_ns) in [
            ("1500 700 3\n", 1_500, Some(700)),
            ("0 700 1\n", 0, Some(700)),
            ("1500 0 3\n", 1_500, Some(0)),
            ("1500 0 0\n", 1_500, None),
            ("1500 700\n", 1_500, None),
            ("1500\n", 1_500, None),
        ] {
            let expected = Schedstat { cpu_ns, wait_ns };
            assert_eq!(
                Schedstat::parse(text.as_bytes()),
                Some(expected),
                "{text:?}"
            );
        }
        assert_eq!(Schedstat::parse(b""), None);
    }
}
