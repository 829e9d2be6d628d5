#!/usr/bin/env python3
"""Writes the seeds of every fuzz target: fuzz/seeds.py DIRECTORY

The formats are those at the top of each target. The cases are the ones of the
Autobahn suite and of tests/attacks that are small, and one of each thing that
the formats can say.
"""

import shutil
import struct
import sys
from itertools import chain
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHOLE, EVERY_BYTE = b"\x00", b"\xff"
KEY = bytes([0x37, 0xFA, 0x21, 0x3D])

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

# Section 6 of the Autobahn suite: what is and what is not UTF-8.
VALID_TEXTS = {
    "empty": b"",
    "ascii": b"Hello, world",
    "greek": "κόσμε".encode(),
    "first-of-each-length": b"\x00\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80",
    "last-of-each-length": b"\x7f\xdf\xbf\xef\xbf\xbf\xf4\x8f\xbf\xbf",
    "around-surrogates": b"\xed\x9f\xbf\xee\x80\x80",
    "noncharacter": b"\xef\xbf\xbe",
}
INVALID_TEXTS = {
    "continuation": b"\x80",
    "ff": b"a\xff",
    "overlong-2": b"\xc0\xaf",
    "overlong-3": b"\xe0\x80\xaf",
    "overlong-4": b"\xf0\x80\x80\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond": b"\xf4\x90\x80\x80",
    "five-bytes": b"\xf8\x88\x80\x80\x80",
    "truncated-2": b"a\xc2",
    "truncated-3": b"a\xe2\x82",
    "truncated-4": b"a\xf0\x9f\xa6",
    "autobahn-6.4": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
}
CLOSES = {
    "empty": b"",
    "one-byte": b"\x03",
    "1000": b"\x03\xe8",
    "reason": b"\x03\xe8" + "adiós".encode(),
    "longest": b"\x03\xe8" + b"*" * 123,
    "invalid-reason": b"\x03\xe8\xce\xba\xf4\x90",
    **{str(code): struct.pack(">H", code) for code in
       (0, 999, 1003, 1004, 1005, 1006, 1007, 1011, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535)},
}


def frame(first, payload, fin=True, masked=True, announced=None, form=None):
    """A client's frame; `form` forces the 16- or 64-bit length."""
    length = len(payload) if announced is None else announced
    head = bytes([first | (0x80 if fin else 0)])
    mask = 0x80 if masked else 0
    if form == 16 or form is None and 126 <= length < 65536:
        head += bytes([mask | 126]) + struct.pack(">H", length)
    elif form == 64 or form is None and length >= 65536:
        head += bytes([mask | 127]) + struct.pack(">Q", length)
    else:
        head += bytes([mask | length])
    if not masked:
        return head + payload
    return head + KEY + bytes(byte ^ KEY[at % 4] for at, byte in enumerate(payload))


def fragments(kind, *payloads):
    last = len(payloads) - 1
    return b"".join(frame(CONTINUATION if at else kind, payload, fin=at == last)
                    for at, payload in enumerate(payloads))


def streams():
    """Streams of a client, by name."""
    yield "empty", b""
    for length in (0, 1, 125, 126, 127, 300, 1000, 4100):
        yield f"binary-{length}", frame(BINARY, b"\xfe" * length)
    for name, text in VALID_TEXTS.items():
        yield f"text-{name}", frame(TEXT, text) + frame(PING, b"next")
    for name, text in INVALID_TEXTS.items():
        yield f"invalid-{name}", frame(TEXT, b"ok") + frame(TEXT, text) + frame(PING, b"never")
        yield f"invalid-fragments-{name}", fragments(TEXT, text[:1], text[1:2], text[2:])
        yield f"invalid-long-{name}", frame(TEXT, b"x" * 300 + text + b"y" * 100)
    for name, payload in CLOSES.items():
        yield f"close-{name}", frame(CLOSE, payload) + frame(TEXT, b"after")
    for length in (0, 1, 125):
        yield f"ping-{length}", frame(PING, b"\xff" * length)
    yield "pings", b"".join(frame(PING, b"payload-%d" % at) for at in range(10))
    yield "pongs", frame(PONG, b"") + frame(PONG, b"unsolicited") + frame(PING, b"")
    yield "ping-fragmented", frame(PING, b"", fin=False)
    yield "ping-126", frame(PING, b"\xfe" * 126)
    for bits in range(1, 8):
        yield f"reserved-bits-{bits}", frame(TEXT, b"ok") + frame(TEXT | bits << 4, b"no")
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"reserved-opcode-{opcode}", frame(TEXT, b"ok") + frame(opcode, b"")
    yield "unmasked", frame(TEXT, b"no", masked=False)
    yield "not-minimal-16", frame(BINARY, b"no", form=16)
    yield "not-minimal-64", frame(BINARY, b"no" * 100, form=64)
    # The last lengths that are too short for a form, and the first that are not.
    yield "not-minimal-16-last", frame(BINARY, b"\xfe" * 125, form=16)
    yield "not-minimal-64-last", frame(BINARY, b"part", announced=(1 << 16) - 1, form=64)
    yield "minimal-64-first", frame(BINARY, b"part", announced=1 << 16, form=64)
    yield "length-overflow", frame(BINARY, b"no", announced=1 << 63, form=64)
    yield "length-huge", frame(BINARY, b"part", announced=(1 << 63) - 1, form=64)
    yield "unexpected-continuation", frame(CONTINUATION, b"no")
    yield "continuation-after-end", frame(TEXT, b"a") + frame(CONTINUATION, b"no")
    yield "interleaved", frame(TEXT, b"a", fin=False) + frame(TEXT, b"no")
    yield "fragments", fragments(TEXT, b"frag", b"", b"ment")
    yield "fragments-many", fragments(BINARY, *[b"."] * 12)
    yield "fragments-of-a-letter", fragments(TEXT, b"\xf0", b"\x9f", b"\xa6", b"\x80")
    yield "fragments-and-pings", (frame(TEXT, b"a", fin=False) + frame(PING, b"1")
                                  + frame(CONTINUATION, b"b", fin=False) + frame(PONG, b"")
                                  + frame(CONTINUATION, b"c") + frame(CLOSE, b"\x03\xe8"))
    yield "partial-header", frame(TEXT, b"ok") + b"\x82\xfe\x01"
    yield "partial-payload", frame(BINARY, b"part", announced=120)
    yield "partial-long", frame(BINARY, b"p" * 400, announced=5000)
    yield "batch", b"".join(frame(TEXT, b"message %d" % at) for at in range(24))


# ---- the format of src/frames.rs -----------------------------------------------

FIRSTS = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0x81, 0x01, 0x80, 0xC1, 0x83, 0x09, 0xF8]


def clear(first, payload, form=0, repeat=None):
    """A frame whose payload stands there in clear."""
    head = bytes([FIRSTS.index(first) | form << 4, 0x11, len(payload) | (0x80 if repeat else 0)])
    return head + (bytes([repeat]) if repeat else b"") + payload


def clear_streams():
    for name, text in {**VALID_TEXTS, **INVALID_TEXTS}.items():
        yield f"text-{name}", clear(0x81, text) + clear(0x89, b"next")
        yield f"fragments-{name}", clear(0x01, text[:1]) + clear(0x89, b"") + clear(0x80, text[1:])
        yield f"long-{name}", clear(0x01, b"abcdefgh", repeat=40) + clear(0x80, text)
    for name, payload in CLOSES.items():
        yield f"close-{name}", clear(0x82, b"before") + clear(0x88, payload[:125])
    for repeat in (1, 2, 16, 17, 64, 255):
        yield f"repeat-{repeat}", clear(0x82, bytes(range(32)), repeat=repeat) + clear(0x81, b"next")
        yield f"letters-{repeat}", clear(0x81, "aé€🦀".encode(), repeat=repeat)
    yield "64-kib", clear(0x82, bytes(range(64)), repeat=128)
    for form in (9, 10, 11, 13, 14, 15):
        yield f"form-{form}", clear(0x81, b"ok") + clear(0x82, b"shape", form=form)
    yield "mixed", (clear(0x01, b"a") + clear(0x8A, b"") + clear(0x00, b"b") + clear(0x89, b"p")
                    + clear(0x80, b"c") + clear(0x82, b"") + clear(0x88, b"\x03\xe9bye"))


# ---- the format of src/handshake.rs --------------------------------------------

NAMES, VALUES = 14, 30


def changed(*changes):
    return bytes([len(changes)]) + b"".join(changes)


def heads():
    yield "good", changed()
    for name in range(NAMES):
        for value in range(0, VALUES, 6):
            yield f"add-{name}-{value + name % 6}", changed(bytes([0, name, value + name % 6]))
    for line in range(5):
        yield f"drop-{line}", changed(bytes([2, line, 0]))
        yield f"twice-{line}", changed(bytes([3, line, 0]))
        yield f"replace-{line}", changed(bytes([1, line, 3 * line]))
        yield f"append-{line}", changed(bytes([4, line, 4]) + b", x\xff")
        yield f"flip-{line}", changed(bytes([5 + 8 * 5, line, 2]))
    for method in range(5):
        yield f"method-{method}", changed(bytes([6, method, 0]))
        yield f"path-{method}", changed(bytes([7, 0, method]))
    yield "http-1.0", changed(bytes([7, 1, 1]))
    yield "subprotocols", changed(bytes([0, 6, 24]), bytes([0, 6, 25]), bytes([0, 5, 20]))
    yield "plain", changed(bytes([2, 1, 0]), bytes([2, 1, 0]), bytes([2, 1, 0]), bytes([2, 1, 0]))


# ---- the format of fuzz_targets/config.rs --------------------------------------

FILES = {
    "empty": "",
    "switch": "no-pin = true",
    "integers": "threads = 1_0\nwindow = 0x400\nbacklog = 0o17",
    "sizes": "window = \"1k\"\nread-size = '16k'\nmax-message = \"2g\"",
    "times": "idle-timeout = 0\npong-timeout = \"10ms\"\nbusy-poll = '200us'",
    "lists": "listen = [\n  '127.0.0.1:1', # one\n  '[::1]:2',\n]\norigin = 'http://a'",
    "profile": "profile = 'memory'\nwindow = ''",
    "profile-conflict": "profile = 'memory'\nwindow = '64k'",
    "unknown": "\nmax_message = 1",
    "table": "[limits]\nwindow = 1",
    "dotted": "path.a = 5",
    "inline": "path = {a = 1}",
    "float": "window = 1.5",
    "date": "log = 2026-01-01",
    "twice": "window = 1024\nwindow = 1024",
    "open-string": "path = '/a",
    "escapes": "origin = \"http://a\\\"b\\\\c\\u00e9\"",
    "line-feed": "origin = \"a\\nb\"",
    "log": "log = 'ringback=debug,warn'\nlog-format = 'json'",
    "multiline": "path = \"\"\"\n/a\"\"\"",
    "not-text": b"path = '\xff'",
    "mark": "\ufeffthreads = 1",
    "sockets": "listen = ['unix:/run/a b.sock', 'unix:@a']\nunix-mode = '600'\npid-file = '/run/é.pid'",
    "socket-line-feed": "listen = \"unix:/a\\nb\"",
    "socket-zero": "listen = \"unix:/a\\u0000b\"",
    "socket-too-long": f"listen = 'unix:/{'a' * 120}'",
    "mode-too-large": "unix-mode = '1777'",
    "socket-times": "defer-accept = '1s'\nkeepalive = '90s'\nuser-timeout = '1m'\nsocket-busy-poll = '50us'",
    "socket-sizes": "socket-send-buffer = '1m'\nsocket-receive-buffer = 4096\ntcp-notsent-lowat = 0\nmax-tcp-memory = '2g'",
    "rate": "handshake-rate = '600/h'\nhandshake-burst = 20\nmax-connections-per-address = 9",
    "rate-zero": "handshake-rate = '0/s'",
    "rate-too-high": "handshake-rate = '4294967295/s'\nhandshake-burst = 4294967295",
    "burst-alone": "handshake-burst = 3",
    "held": "max-held-bytes = '64m'\naccess-log = true",
    "carriage-return": "threads = 1\r\nwindow = 512\r\n",
}
ENVIRONMENTS = {
    "window": [(0, b"1k")],
    "list": [(3, b"127.0.0.1:1, [::1]:2"), (4, b"http://a,")],
    "switch-and-time": [(5, b"1"), (6, b"0")],
    "unknown": [(10, b"1m")],
    "not-text": [(7, b"/\xff")],
    "profile": [(2, b"latency")],
    "line-feed": [(7, b"/a\n")],
    "log": [(8, b"a=\n")],
    "log-letters": [(8, " wi\u0648= ".encode())],
    "rate": [(13, b"30/m"), (14, b"5")],
    "sockets": [(3, b"unix:/run/a.sock"), (12, b"0o600"), (16, b"/run/a\n.pid")],
    "paths-not-text": [(3, b"unix:/a\xff"), (16, b"/\xff")],
    "read-size-taken-back": [(2, b"latency"), (1, b"")],
}


def settings():
    deployed = (HERE.parent / "deploy" / "ringback.toml").read_bytes()
    set_lines = [line[2:] if line.startswith(b"# ") and b" = " in line else line
                 for line in deployed.splitlines() if not line.startswith(b"# ") or b" = " in line]
    yield "deployed", b"\x00" + deployed
    yield "deployed-and-set", b"\x00" + b"\n".join(set_lines)
    for name, text in FILES.items():
        yield name, b"\x00" + (text if isinstance(text, bytes) else text.encode())
    for name, variables in ENVIRONMENTS.items():
        coded = b"".join(bytes([at, len(value)]) + value for at, value in variables)
        yield f"variables-{name}", bytes([len(variables)]) + coded + b"window = 2048"


# ---- the format of fuzz_targets/connection.rs ----------------------------------

SERVERS = 16
REQUESTS = {
    "nothing": b"",
    "get": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "half": b"GET / HTTP/1.1\r\nHost: a\r\nUpgr",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http-0.9": b"GET /\r\n",
    "tls": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    "line-feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "folded": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "two-lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "long-header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 7900,
    "space-in-name": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "zero": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
}


def connections():
    good = changed()
    mixed = dict(clear_streams())["mixed"]
    for server in range(SERVERS):
        yield f"server-{server}", bytes([server, 0]) + WHOLE + good + mixed
        yield f"server-{server}-cut", bytes([server, 0]) + EVERY_BYTE + good + mixed
        yield f"server-{server}-tls", bytes([server, 4]) + EVERY_BYTE + good + mixed
        yield (f"server-{server}-torn", bytes([server, 0]) + b"\x03" + struct.pack("<HHH", 200, 400, 600)
               + good + clear(0x81, b"abcdefgh", repeat=40) + clear(0x81, b"\xff" + b"x" * 30, repeat=16))
    for name in ("interleaved", "unmasked", "close-1000", "invalid-long-surrogate", "partial-long", "batch",
                 "length-huge", "fragments-many"):
        stream = dict(streams())[name]
        for server in (1, 5, 9, 13):
            yield f"raw-{name}-{server}", bytes([server, 2]) + WHOLE + good + stream
            yield f"raw-{name}-{server}-tls", bytes([server, 6]) + WHOLE + good + stream
    for at, (name, head) in enumerate(heads()):
        if at % 8 == 0:
            yield f"head-{name}", bytes([at % SERVERS, 0]) + WHOLE + head + clear(0x81, b"hello")
    for at, (name, request) in enumerate(REQUESTS.items()):
        for cuts in (WHOLE, EVERY_BYTE):
            sent = struct.pack("<H", len(request)) + request
            yield f"request-{name}-{cuts[0]}", bytes([4 * (at % 4), 3]) + cuts + sent + b"more"


def at_limits():
    """Limits, as src/arrivals.rs codes them, and what is just within and just over."""
    for code, limit in ((1, 0), (2, 125), (3, 126), (4, 700), (5, 4096)):
        for length in (limit, limit + 1):
            stream = frame(BINARY, b"\xfe" * length) + frame(PING, b"next")
            yield f"message-{length}-of-{limit}", bytes([code]) + WHOLE + stream
            if limit:
                stream = fragments(TEXT, b"x" * (limit - 1), b"x" * (length - limit + 1)) + frame(PING, b"next")
                yield f"fragments-{length}-of-{limit}", bytes([code]) + WHOLE + stream
    for code, limit in ((8, 1), (16, 2), (24, 5)):
        for count in (limit, limit + 1):
            yield f"frames-{count}-of-{limit}", bytes([code]) + EVERY_BYTE + fragments(BINARY, *[b"."] * count)
    for code, window in ((1, 256), (2, 257), (3, 300), (4, 512), (5, 1024)):
        # The header takes 8 of it.
        for length in (window - 8, window - 7):
            yield (f"window-{length + 8}-of-{window}", bytes([code * 32]) + EVERY_BYTE
                   + frame(TEXT, b"x" * (length - 1) + b"\xff") + frame(PING, b"next"))


def clear_at_limits():
    """The largest limit, with what no seed could hold in full."""
    whole = clear(0x82, b"\xfe" * 125, repeat=70)
    first = clear(0x02, b"\xfe" * 125, repeat=70)
    for name, stream in (("70000", whole), ("70000-and-0", first + clear(0x80, b"")),
                         ("70001", first + clear(0x80, b"x"))):
        yield f"message-{name}-of-70000", bytes([6]) + WHOLE + stream + clear(0x89, b"next")


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack(">HH", 12345, 443)
SIX = bytes([0x20, 1, 0x0D, 0xB8]) + bytes(11) + b"\x01" + b"\x09" * 16 + struct.pack(">HH", 12345, 443)
MAPPED = bytes(10) + b"\xff\xff" + FOUR[:4] + SIX[16:]
LOCAL = b"/run/haproxy.sock".ljust(108, b"\0") * 2


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def proxy_headers():
    """PROXY headers, as fuzz_targets/proxy.rs codes them."""
    def coded(version_command, family, rest, behind=b"GET / HTTP/1.1", shape=0, own=b""):
        return (bytes([shape]), bytes([version_command, family]) + own
                + struct.pack("<H", len(rest)) + rest + behind)

    ssl = tlv(0x20, b"\x07\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"client"))
    cases = {
        "four": coded(0x21, 0x11, FOUR),
        "six": coded(0x21, 0x21, SIX),
        "mapped": coded(0x21, 0x21, MAPPED),
        "unix": coded(0x21, 0x31, LOCAL),
        "unspecified": coded(0x21, 0x00, b"whatever"),
        "local": coded(0x20, 0x00, b""),
        "local-with-addresses": coded(0x20, 0x11, FOUR),
        "nothing-behind": coded(0x21, 0x11, FOUR, behind=b""),
        "another-behind": coded(0x21, 0x11, FOUR, behind=SIGNATURE + b"\x20\0\0\0"),
        "tlvs": coded(0x21, 0x11, FOUR + tlv(1, b"h2") + tlv(2, b"host") + tlv(4, b"") + tlv(5, b"id") + ssl),
        "checked": coded(0x21, 0x11, FOUR, shape=4),
        "checked-among-tlvs": coded(0x21, 0x21, SIX + tlv(4, b"pad"), shape=4),
        "checked-twice": coded(0x21, 0x11, FOUR + tlv(3, bytes(4)), shape=4),
        "checksum-wrong": coded(0x21, 0x11, FOUR + tlv(3, b"\1\2\3\4")),
        "checksum-short": coded(0x21, 0x11, FOUR + tlv(3, b"ab")),
        "tlv-cut": coded(0x21, 0x11, FOUR + b"\x04\0"),
        "tlv-too-long": coded(0x21, 0x11, FOUR + b"\x04\0\x09short"),
        "datagram": coded(0x21, 0x12, FOUR),
        "version-1-nibble": coded(0x11, 0x11, FOUR),
        "command-2": coded(0x22, 0x11, FOUR),
        "family-4": coded(0x21, 0x41, FOUR),
        "four-too-short": coded(0x21, 0x11, FOUR[:-1]),
        "six-too-short": coded(0x21, 0x21, SIX[:-1]),
        "unix-too-short": coded(0x21, 0x31, LOCAL[:-1]),
        "length-0": coded(0x21, 0x11, FOUR, shape=2, own=b"\0\0"),
        "length-longest": coded(0x20, 0x00, bytes(4096)),
        "length-too-long": coded(0x21, 0x11, FOUR, shape=2, own=b"\x10\x01"),
        "length-largest": coded(0x21, 0x11, FOUR, shape=2, own=b"\xff\xff"),
        "length-of-more": coded(0x21, 0x11, FOUR, behind=b"", shape=2, own=b"\0\x20"),
        "version-1": (b"\x01", b"PROXY TCP4 192.0.2.1 198.51.100.7 12345 443\r\n"),
        "version-1-six": (b"\x01", b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\nGET"),
        "version-1-unknown": (b"\x01", b"PROXY UNKNOWN \xff and so on\r\nGET"),
        "version-1-port": (b"\x01", b"PROXY TCP4 192.0.2.1 198.51.100.7 01 443\r\n"),
        "version-1-return": (b"\x01", b"PROXY TCP4 192.0.2.1\r198.51.100.7 1 443\r\n"),
        "version-1-longest": (b"\x01", b"PROXY UNKNOWN " + b"x" * 91 + b"\r\nGET"),
        "version-1-too-long": (b"\x01", b"PROXY UNKNOWN " + b"x" * 92 + b"\r\nGET"),
        "version-1-too-long-by-half-its-end": (b"\x01", b"PROXY UNKNOWN " + b"x" * 92 + b"\r"),
        "version-1-cut": (b"\x01", b"PROXY"),
        "request": (b"\x01", b"GET / HTTP/1.1\r\n\r\n"),
        "hello": (b"\x01", b"\x16\x03\x01\x02\0\x01"),
        "signature-cut": (b"\x01", SIGNATURE[:-1]),
        "signature-wrong": (b"\x01", SIGNATURE[:-1] + b"X!\x11\0\0"),
        "prefix-cut": (b"\x01", SIGNATURE + b"\x21\x11\0"),
        "empty": (b"\x01", b""),
    }
    for name, (shape, rest) in cases.items():
        for cuts in (WHOLE, EVERY_BYTE):
            yield f"{name}-{cuts[0]}", shape + cuts + rest


def lists():
    """Lists of proxies, as src/forwarded.rs codes them: the last hop first."""
    def hop(kind, byte=5, form=0, port=8, style=0, separator=1):
        return bytes([kind, byte, form, port, style, separator])

    def coded(header, hops, own=b""):
        return bytes([header, len(hops)]) + b"".join(hops) + own

    proxy, client = hop(0), hop(4)
    for header in (0, 1):
        for kind in range(8):
            for form in range(4):
                yield f"one-{header}-{kind}-{form}", coded(header, [hop(kind, 2 * form, form)])
        for byte in range(8):
            yield f"malformed-{header}-{byte}", coded(header, [proxy, hop(7, byte)])
            yield f"unknown-{header}-{byte}", coded(header, [proxy, hop(6, byte)])
        for style in range(0, 144, 7):
            yield f"style-{header}-{style}", coded(header, [hop(0, style=style), hop(4, form=3, style=style)])
        for separator in range(5):
            yield f"separator-{header}-{separator}", coded(header, [proxy, hop(2, separator=separator), client])
        for count in (0, 31, 32, 33):
            yield f"proxies-{header}-{count}", coded(header, [proxy] * count)
            yield f"behind-proxies-{header}-{count}", coded(header, [proxy] * count + [client])
        for at, own in enumerate((b"192.0.2.9", b"\xff", b'"', b'for="', b"\\", b",", b'for="\\')):
            yield f"own-{header}-{at}", coded(header, [proxy, client], own)
            yield f"own-behind-proxies-{header}-{at}", coded(header, [proxy], own)


def targets():
    def cut(streams):
        """At every byte; the target does the whole as well. Every limit comes up."""
        for at, (name, stream) in enumerate(streams):
            yield name, bytes([at // 2 * 37 % 256 if at % 2 else 0]) + EVERY_BYTE + stream

    yield "echo", chain(cut(streams()), at_limits())
    yield "frames", chain(cut(clear_streams()), clear_at_limits())
    yield "gate", ((f"{name}-{at % 4}", bytes([at % 4]) + head) for at, (name, head) in enumerate(heads()))
    yield "config", settings()
    yield "connection", connections()
    yield "proxy", proxy_headers()
    yield "forwarded", lists()


def main():
    seeds = Path(sys.argv[1])
    shutil.rmtree(seeds, ignore_errors=True)
    for target, cases in targets():
        folder = seeds / target
        folder.mkdir(parents=True)
        for name, data in cases:
            (folder / name).write_bytes(data)


main()
