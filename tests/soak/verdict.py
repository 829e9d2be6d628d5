"""The rule of the soak: a server must not grow or slow down over hours.

verdict.py CSV...: judges the samples of a soak again, and prints its table.

Compared are the last third of the load and the middle one, medians of the samples:
in the first third, caches and pools are still being filled. And the server at rest
after the load with the server at rest before it, when it had seen a little of
everything. Every bound can be missed; test_verdict.py has a leak for each of them.
"""

import csv
import dataclasses
import statistics
import sys

# Memory may grow by this part and this much, for fragmentation.
RSS_GROWTH = 0.05
RSS_SLACK_KIB = 2048

# Descriptors besides connections (rings, listeners), and those of connections
# that end while they are being counted.
FDS_SLACK = 8

# The number of connections at a sample is random.
OPEN_GROWTH = 0.2
OPEN_SLACK = 16

# Latency may grow by this factor and this much. A busy machine needs more: see
# --latency-factor.
LATENCY_FACTOR = 1.25
LATENCY_SLACK_US = 500.0

# With fewer samples in a third there is no verdict.
SAMPLES_MIN = 4

# The phases of a soak, as the samples have them.
BEFORE, LOAD, AFTER = "rest before", "load", "rest after"


@dataclasses.dataclass
class Sample:
    """The server at one moment; the field's names are the columns of the CSV."""

    second: float
    phase: str
    rss_kib: int
    fds: int
    open: int
    accepted: int
    messages: int
    # Of the messages around this moment; empty at rest, and where they were too few.
    p50_us: float | None
    p99_us: float | None


@dataclasses.dataclass
class Check:
    """One bound and the measured values."""

    name: str
    was: float
    is_now: float
    most: float

    @property
    def holds(self):
        return self.is_now <= self.most


def judge(samples, latency_factor=LATENCY_FACTOR):
    """Checks every bound. Raises ValueError where there is too little to judge."""
    _first, middle, last = thirds(samples)
    before, after = at_rest(samples, BEFORE), at_rest(samples, AFTER)

    def check(name, value, most):
        was, is_now = (median(value(sample) for sample in part) for part in (middle, last))
        return Check(f"{name}, middle to last third", was, is_now, most(was))

    def more_memory(kib):
        return kib * (1 + RSS_GROWTH) + RSS_SLACK_KIB

    def slower(us):
        return us * latency_factor + LATENCY_SLACK_US

    return [
        check("RSS (KiB)", lambda sample: sample.rss_kib, more_memory),
        check("descriptors besides connections", lambda sample: sample.fds - sample.open,
              lambda fds: fds + FDS_SLACK),
        check("open connections", lambda sample: sample.open,
              lambda count: count * (1 + OPEN_GROWTH) + OPEN_SLACK),
        check("p50 (µs)", lambda sample: sample.p50_us, slower),
        check("p99 (µs)", lambda sample: sample.p99_us, slower),
        Check("RSS (KiB), at rest", before.rss_kib, after.rss_kib, more_memory(before.rss_kib)),
        Check("descriptors, at rest", before.fds, after.fds, before.fds),
        Check("open connections, at rest", before.open, after.open, 0),
    ]


def thirds(samples):
    """The samples under load, by thirds of the time that they cover."""
    loaded = [sample for sample in samples if sample.phase == LOAD]
    if not loaded:
        raise ValueError("no sample was taken under load")
    begin, end = loaded[0].second, loaded[-1].second
    parts = ([], [], [])
    for sample in loaded:
        passed = (sample.second - begin) / max(end - begin, 1e-9)
        parts[min(int(passed * 3), 2)].append(sample)
    for part in parts[1:]:
        with_latency = [sample for sample in part if sample.p99_us is not None]
        if len(with_latency) < SAMPLES_MIN:
            raise ValueError(f"{len(with_latency)} samples with a p99 in a third, "
                             f"{SAMPLES_MIN} are needed")
    return parts


def at_rest(samples, phase):
    """The last sample of that phase."""
    found = [sample for sample in samples if sample.phase == phase]
    if not found:
        raise ValueError(f"no sample of the {phase}")
    return found[-1]


def median(values):
    """The middle of those that are known."""
    return statistics.median(value for value in values if value is not None)


def table(samples):
    """The table, as Markdown."""
    parts = thirds(samples)
    columns = [[at_rest(samples, BEFORE)], *parts, [at_rest(samples, AFTER)]]
    lines = ["| | at rest before | first third | middle third | last third | at rest after |",
             "|:---|---:|---:|---:|---:|---:|"]
    for name, value, form in [
        ("RSS", lambda sample: sample.rss_kib / 1024, "{:.1f} MiB"),
        ("descriptors", lambda sample: sample.fds, "{:.0f}"),
        ("open connections", lambda sample: sample.open, "{:.0f}"),
        ("p50", lambda sample: sample.p50_us, "{:,.0f} µs"),
        ("p99", lambda sample: sample.p99_us, "{:,.0f} µs"),
    ]:
        cells = []
        for part in columns:
            known = [value(sample) for sample in part if value(sample) is not None]
            cells.append(form.format(statistics.median(known)) if known else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def complaints(checks):
    """A line for each bound that was missed."""
    return [f"{check.name}: {check.was:,.0f} became {check.is_now:,.0f}, "
            f"at most {check.most:,.0f} are allowed" for check in checks if not check.holds]


def write(path, samples):
    """Writes the samples as a CSV file."""
    names = [field.name for field in dataclasses.fields(Sample)]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for sample in samples:
            writer.writerow(dataclasses.asdict(sample))


def read(path):
    """The samples of a CSV file, as write() makes them."""
    known = {str: str, int: int, float: float,
             float | None: lambda text: float(text) if text else None}
    with open(path, newline="", encoding="utf-8") as file:
        return [Sample(**{field.name: known[field.type](row[field.name])
                          for field in dataclasses.fields(Sample)})
                for row in csv.DictReader(file)]


def main(paths):
    failed = False
    for path in paths:
        samples = read(path)
        print(f"{path}\n\n{table(samples)}\n")
        for line in complaints(judge(samples)):
            print(f"FAILED: {line}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
