"""Compares a merged result with the sum of its parts: generators.py START MERGED PART...

The histograms are decoded and added up by the description of the HDR format, without any
code of the program under test."""

import base64
import json
import math
import struct
import sys
import zlib
from collections import Counter
from datetime import datetime
from fractions import Fraction

COOKIE, COMPRESSED_COOKIE = 0x1c849303, 0x1c849304
# Between the starts of the parts, by the clock that they share.
APART_MS_MAX = 5
TIMES = ('response_ns', 'service_ns', 'lag_ns')


def decode(text):
    """The counts of an HDR V2 histogram, by the index of their bucket."""
    data = base64.b64decode(text)
    cookie, length = struct.unpack('>II', data[:8])
    assert cookie & ~0xf0 == COMPRESSED_COOKIE & ~0xf0, hex(cookie)
    data = zlib.decompress(data[8:8 + length])
    cookie, length, _, digits, lowest, highest, _ = struct.unpack('>IIIIQQd', data[:40])
    assert cookie & ~0xf0 == COOKIE & ~0xf0, hex(cookie)
    assert (digits, lowest) == (3, 1), (digits, lowest)
    counts, index, position = Counter(), 0, 40
    while position < 40 + length:
        value, position = zigzag(data, position)
        if value < 0:
            index -= value
        else:
            counts[index] += value
            index += 1
    return +counts


def zigzag(data, position):
    """A signed number in seven bits of each byte; a ninth byte has eight."""
    value = 0
    for shift in range(0, 63, 7):
        byte = data[position]
        position += 1
        if shift == 56:
            value |= byte << shift
            break
        value |= (byte & 0x7f) << shift
        if byte < 0x80:
            break
    return (value >> 1) ^ -(value & 1), position


def highest_equivalent(index):
    """The highest value in a bucket, of histograms that keep three digits."""
    half = 1024
    bucket, sub = (index >> 10) - 1, (index & (half - 1)) + half
    if bucket < 0:
        bucket, sub = 0, sub - half
    return (sub << bucket) + (1 << bucket) - 1


def percentile(counts, percent):
    total = sum(counts.values())
    rank = max(math.ceil(Fraction(percent) / 100 * total), 1)
    for index in sorted(counts):
        rank -= counts[index]
        if rank <= 0:
            return highest_equivalent(index)
    raise AssertionError('an empty histogram')


def milliseconds(time):
    return datetime.fromisoformat(time.replace('Z', '+00:00')).timestamp() * 1000


def main():
    start, *paths = sys.argv[1:]
    merged, *parts = (json.load(open(path, encoding='utf-8')) for path in paths)

    starts = [milliseconds(part['started_at']) for part in parts]
    apart_ms = max(starts) - min(starts)
    late_ms = max(abs(each - milliseconds(start)) for each in starts)
    assert apart_ms <= APART_MS_MAX, f'they began {apart_ms} ms apart'
    assert late_ms <= APART_MS_MAX, f'one began {late_ms} ms from {start}'
    assert milliseconds(merged['started_at']) == min(starts)

    for name, sum_of_all in merged['counts'].items():
        total = sum(part['counts'][name] for part in parts)
        assert sum_of_all == total, f'{name}: {sum_of_all} instead of {total}'
    assert merged['counts']['due'] > 0

    compared = 0
    for name in TIMES:
        added = Counter()
        for part in parts:
            added.update(decode(part['histograms']['latencies'][name]))
        assert decode(merged['histograms']['latencies'][name]) == added, name
        spread = merged['summary'][name]
        assert spread['samples'] == sum(added.values()) > 0, name
        for percent, value in spread['percentiles'].items():
            if value is not None:
                expected = percentile(added, percent.removeprefix('p'))
                assert value == expected, f'{name} {percent}: {value} instead of {expected}'
                compared += 1
    assert compared >= 3 * len(TIMES), compared
    print(f'{len(parts)} generators began {apart_ms:.0f} ms apart, at most {late_ms:.0f} ms from '
          f'{start}; {len(merged["counts"])} counts and {compared} percentiles of '
          f'{merged["counts"]["due"]} messages are those of the sum')


main()
