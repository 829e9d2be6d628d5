"""The load of well-behaved clients: rounds of `loadtest run`.

Every round opens its connections and closes them again with a closing handshake,
and loadtest checks every byte. Open loops sleep instead of spinning, so that they
leave the cores to the servers.
"""

import csv
import io
import subprocess
import threading
import time

# A reply may be late on a machine that has other work; it may not be missing.
TIMEOUT = "30s"
ROUND_SLACK_S = 60

# Measures the latency: the same round over and over again.
STEADY = ["--rate", "500", "-c", "20", "--pace", "sleep"]

# One after the other, each at a different weak point.
MIX = [
    ("sizes", ["--rate", "300", "-c", "30", "-s", "64:20,4k:4,64k:1", "--text",
               "--fragment", "3", "--split", "--pace", "sleep"]),
    ("churn", ["--rate", "300", "-c", "40", "--churn", "50", "--idle", "100",
               "--pace", "sleep"]),
    ("slow readers", ["--rate", "100", "-c", "10", "-s", "4k", "--slow-readers", "5",
                      "--pace", "sleep"]),
    ("bulk", ["--rate", "20", "-c", "4", "-s", "1m", "--pace", "sleep"]),
    ("floods", ["-c", "10", "-w", "64", "-n", "100k"]),
]


class Failure(Exception):
    """The server did something wrong."""


class Rounds:
    """Starts rounds against one server, and counts them."""

    def __init__(self, loadtest, url):
        self.loadtest = loadtest
        self.url = url
        self.count = 0
        self.late = 0
        self._lock = threading.Lock()

    def run(self, flags, seconds):
        """One round, as a row of its CSV report. Raises Failure if loadtest has found
        a wrong or missing reply, or a lost connection."""
        command = [self.loadtest, "run", self.url, *flags, "--warmup", "200ms",
                   "--timeout", TIMEOUT, "--format", "csv"]
        if "-n" not in flags:
            command += ["-d", f"{max(int(seconds * 1000), 200)}ms"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, check=False, timeout=seconds + ROUND_SLACK_S)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{' '.join(command)} does not end") from error
        # 4 is a load that came late: this machine was busy.
        if done.returncode not in (0, 4):
            last = done.stderr.strip().splitlines()[-1:] + done.stdout.splitlines()[-1:]
            raise Failure(f"{' '.join(command)}: status {done.returncode}: {' | '.join(last)}")
        with self._lock:
            self.count += 1
            self.late += done.returncode == 4
        return next(csv.DictReader(io.StringIO(done.stdout)))


def mix(rounds, slot_s, stop):
    """Runs the mix over and over, a kind for each slot, until `stop` is set."""
    begin, slot = time.monotonic(), 0
    while not stop.is_set():
        _name, flags = MIX[slot % len(MIX)]
        slot += 1
        left = begin + slot * slot_s - time.monotonic()
        # Time for opening and closing.
        rounds.run(flags, max(left * 0.9 - 0.3, 0.2))
        stop.wait(max(begin + slot * slot_s - time.monotonic(), 0))
