"""Drives servers for a long time and checks that they do not grow or slow down.

See run.sh for how to start it, docs/soak.md for what it does, and verdict.py for the
rule. Each engine has a server of its own, all at the same time, with the same load.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import threading
import time
import traceback

import verdict
from load import MIX, STEADY, Failure, Rounds, mix
from server import Server
from verdict import AFTER, BEFORE, LOAD, Sample

# A kind of the mix gets at most this long, so that a third of the soak sees each of
# them, and sees each of them several times if it is long.
SLOT_S_MAX = 30
PRIME_SLOT_S = 2

# Until the server has no connection left: longer than all its timeouts.
REST_S = 60

HERE = os.path.dirname(os.path.abspath(__file__))


class Soak:
    """One server with its load, on a thread of its own."""

    def __init__(self, args, engine):
        self.args = args
        self.engine = engine
        self.server = Server(os.path.join(args.bin, "ringback"), engine, args.out)
        self.rounds = Rounds(os.path.join(args.bin, "loadtest"), self.server.url)
        self.samples = []
        self.failures = []
        self.attacks = collections.Counter()
        self.stop = threading.Event()

    def run(self):
        try:
            self._prime()
            self._rest(BEFORE)
            self._load()
            self._rest(AFTER)
        except (Failure, OSError) as error:
            self.failures.append(str(error))
        except Exception:
            self.failures.append(traceback.format_exc())
        self.stop.set()
        self.failures += self.server.stop()
        verdict.write(os.path.join(self.args.out, f"{self.engine}.csv"), self.samples)

    def _prime(self):
        """A little of everything, so that shared memory is allocated."""
        attacker = self._attack()
        for _name, flags in MIX:
            self.rounds.run(flags, PRIME_SLOT_S * 0.5)
        self._stop_attack(attacker)

    def _load(self):
        third = self.args.duration / 3
        slot_s = third / len(MIX) / max(1, round(third / len(MIX) / SLOT_S_MAX))
        attacker = self._attack()
        mixer = threading.Thread(target=self._mix, args=(slot_s,))
        mixer.start()
        end = time.monotonic() + self.args.duration
        while time.monotonic() < end and not self.failures:
            self._sample_under_load()
            if not self.server.is_alive():
                self.failures.append("the server is gone")
            if attacker.poll() is not None:
                break
        self.stop.set()
        mixer.join()
        self._stop_attack(attacker)

    def _mix(self, slot_s):
        try:
            mix(self.rounds, slot_s, self.stop)
        except (Failure, OSError) as error:
            self.failures.append(str(error))

    def _sample_under_load(self):
        """A round of the steady load; the sample is taken in the middle of it."""
        taken = []
        timer = threading.Timer(self.args.every / 2, lambda: taken.append(self._sample(LOAD)))
        timer.start()
        report = self.rounds.run(STEADY, self.args.every)
        timer.join()
        if not taken:
            raise Failure("the server could not be looked at")
        [sample] = taken
        sample.p50_us, sample.p99_us = (
            float(report[f"service_{name}_ns"]) / 1000 if report[f"service_{name}_ns"] else None
            for name in ("p50", "p99"))
        self.samples.append(sample)

    def _rest(self, phase):
        """Waits until all connections are closed, and takes the last sample."""
        deadline = time.monotonic() + REST_S
        while self.server.metrics()["ringback_connections_open"] > 0:
            if time.monotonic() > deadline:
                # The verdict fails.
                break
            time.sleep(0.2)
        # The last descriptors are closed, and held bytes are reported.
        time.sleep(2)
        self.samples.append(self._sample(phase))

    def _sample(self, phase):
        # Before the metrics are asked for: that is a connection, too.
        second = round(time.monotonic() - self.server.started, 1)
        rss_kib, fds = self.server.rss_kib(), self.server.fds()
        metrics = self.server.metrics()
        return Sample(
            second=second, phase=phase, rss_kib=rss_kib, fds=fds,
            open=int(metrics["ringback_connections_open"]),
            accepted=int(metrics["ringback_connections_accepted_total"]),
            messages=int(metrics["ringback_messages_received_total"]),
            p50_us=None, p99_us=None)

    def _attack(self):
        host, port = self.server.address
        return subprocess.Popen(
            [sys.executable, os.path.join(HERE, "attacks.py"), host, str(port),
             self.server.socket, str(self.args.attacks_per_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _stop_attack(self, attacker):
        try:
            out, err = attacker.communicate(timeout=REST_S)
        except subprocess.TimeoutExpired:
            attacker.kill()
            attacker.communicate()
            raise Failure("the attacker does not end") from None
        if attacker.returncode != 0:
            raise Failure(err.strip() or f"the attacker: status {attacker.returncode}")
        self.attacks.update(json.loads(out))


def report(soak, latency_factor):
    """Prints the verdict on one server; returns whether it passed."""
    failures = list(soak.failures)
    print(f"\n### {soak.engine}\n")
    try:
        print(verdict.table(soak.samples))
        failures += verdict.complaints(verdict.judge(soak.samples, latency_factor))
    except ValueError as error:
        failures.append(str(error))
    last = soak.samples[-1] if soak.samples else None
    if last:
        print(f"\n{last.accepted:,} connections, {last.messages:,} messages, "
              f"{soak.rounds.count:,} rounds of load, {soak.rounds.late} of them late; "
              f"{soak.attacks.total():,} attacks.")
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"\n{soak.engine}: {'FAILED' if failures else 'passed'}", flush=True)
    return not failures


def duration(text):
    found = re.fullmatch(r"(\d+)(s|m|h)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 30m or 2h")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def main():
    parser = argparse.ArgumentParser(prog="tests/soak/run.sh", description=__doc__.split("\n")[0])
    parser.add_argument("bin", help="where the release builds of ringback and loadtest are")
    parser.add_argument("out", help="directory for the samples, one CSV file per engine, and logs")
    parser.add_argument("--duration", type=duration, default="30m", metavar="TIME",
                        help="how long the load lasts: 90s, 30m (the default), 2h")
    parser.add_argument("--engine", action="append", choices=["epoll", "tokio-uring", "ring"],
                        help="repeatable; all of them by default, side by side")
    parser.add_argument("--every", type=duration, metavar="TIME",
                        help="time between two samples; 5s, less if the soak is short")
    parser.add_argument("--attacks-per-s", type=float, default=10, metavar="N",
                        help="on each server; 10 by default")
    parser.add_argument("--latency-factor", type=float, default=verdict.LATENCY_FACTOR,
                        metavar="X", help="what p50 and p99 of the last third may be of those of "
                        f"the middle one; {verdict.LATENCY_FACTOR} by default, for a quiet machine")
    args = parser.parse_args()
    if not args.every:
        args.every = max(1, min(5, args.duration // 20))
    os.makedirs(args.out, exist_ok=True)

    soaks = [Soak(args, engine) for engine in args.engine or ["epoll", "tokio-uring", "ring"]]
    threads = [threading.Thread(target=soak.run) for soak in soaks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0 if all([report(soak, args.latency_factor) for soak in soaks]) else 1


if __name__ == "__main__":
    sys.exit(main())
