"""The rule of the soak finds every kind of leak, and none in a healthy server."""

import dataclasses
import os
import random
import tempfile
import unittest

import verdict
from verdict import AFTER, BEFORE, LOAD, Sample

MINUTES = 30
EVERY_S = 5


def soak(**leaks):
    """Half an hour of a healthy server, with noise; `leaks` change a sample by the
    part of the time that has passed."""
    chance = random.Random(1)
    rest = Sample(0.0, BEFORE, rss_kib=12_000, fds=20, open=0, accepted=500, messages=90_000,
                  p50_us=None, p99_us=None)
    samples = [rest]
    for second in range(0, MINUTES * 60, EVERY_S):
        connections = chance.randrange(60, 180)
        samples.append(Sample(
            second=float(second), phase=LOAD,
            rss_kib=20_000 + chance.randrange(-800, 800),
            fds=20 + connections + chance.randrange(0, 3), open=connections,
            accepted=500 + 40 * second, messages=90_000 + 2000 * second,
            p50_us=150.0 * chance.uniform(0.8, 1.3), p99_us=900.0 * chance.uniform(0.7, 2.0)))
    samples.append(dataclasses.replace(rest, second=MINUTES * 60.0 + 20, phase=AFTER,
                                       rss_kib=12_900))
    return [dataclasses.replace(sample, **{
        name: getattr(sample, name) + leak(sample.second / (MINUTES * 60))
        for name, leak in leaks.items()
        if getattr(sample, name) is not None
    }) for sample in samples]


def missed(samples, **options):
    return [check.name for check in verdict.judge(samples, **options) if not check.holds]


class Rule(unittest.TestCase):
    def test_healthy_server_passes(self):
        self.assertEqual(missed(soak()), [])

    def test_growing_memory_fails_under_load_and_at_rest(self):
        names = missed(soak(rss_kib=lambda passed: int(passed * 12_000)))
        self.assertEqual(names, ["RSS (KiB), middle to last third", "RSS (KiB), at rest"])

    def test_unreturned_memory_fails_at_rest(self):
        """A leak before the middle third does not show under load."""
        names = missed(soak(rss_kib=lambda passed: 5000 if passed > 0 else 0))
        self.assertEqual(names, ["RSS (KiB), at rest"])

    def test_growing_descriptors_fail_under_load_and_at_rest(self):
        names = missed(soak(fds=lambda passed: int(passed * 60)))
        self.assertEqual(names, ["descriptors besides connections, middle to last third",
                                 "descriptors, at rest"])

    def test_one_leaked_descriptor_fails_at_rest(self):
        self.assertEqual(missed(soak(fds=lambda passed: int(passed >= 1))),
                         ["descriptors, at rest"])

    def test_unclosed_connections_fail(self):
        leak = {name: lambda passed: int(passed * 300) for name in ("open", "fds")}
        self.assertEqual(missed(soak(**leak)),
                         ["open connections, middle to last third", "descriptors, at rest",
                          "open connections, at rest"])

    def test_growing_latency_fails_beyond_the_factor(self):
        names = missed(soak(p99_us=lambda passed: passed * 8000))
        self.assertEqual(names, ["p99 (µs), middle to last third"])
        names = missed(soak(p50_us=lambda passed: passed * 8000))
        self.assertEqual(names, ["p50 (µs), middle to last third"])
        slow = soak(p99_us=lambda passed: passed * 8000)
        self.assertEqual(missed(slow, latency_factor=10), [])

    def test_too_few_samples_are_an_error(self):
        whole = soak()
        with self.assertRaisesRegex(ValueError, "under load"):
            verdict.judge([sample for sample in whole if sample.phase != LOAD])
        for phase in (BEFORE, AFTER):
            with self.assertRaisesRegex(ValueError, phase):
                verdict.judge([sample for sample in whole if sample.phase != phase])
        for sample in whole:
            if sample.second > 1000:
                sample.p99_us = None
        with self.assertRaisesRegex(ValueError, "with a p99"):
            verdict.judge(whole)

    def test_csv_file_gives_the_same_verdict(self):
        samples = soak(fds=lambda passed: int(passed * 60))
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "samples.csv")
            verdict.write(path, samples)
            self.assertEqual(verdict.read(path), samples)
            self.assertEqual(verdict.main([path]), 1)
            verdict.write(path, soak())
            self.assertEqual(verdict.main([path]), 0)


if __name__ == "__main__":
    unittest.main()
