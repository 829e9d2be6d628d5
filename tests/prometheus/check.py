"""Reads the metrics of a server with the parser of Prometheus' own Python client.

check.py http://HOST:PORT
"""

import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def main(base):
    with urllib.request.urlopen(base + "/metrics", timeout=10) as answer:
        content_type = answer.headers["Content-Type"]
        text = answer.read().decode("utf-8")
    assert content_type == CONTENT_TYPE, content_type
    families = list(text_string_to_metric_families(text))
    for family in families:
        assert family.type in ("counter", "gauge", "histogram"), family
        assert family.documentation, family
        assert family.samples, family
    series = sum(len(family.samples) for family in families)
    lines = sum(1 for line in text.splitlines() if not line.startswith("#"))
    assert series == lines, (series, lines)
    print(f"{len(families)} metrics, {series} series")


main(sys.argv[1])
