"""Attacks on a server, repeated.

attacks.py HOST PORT SOCKET RATE: RATE attacks per second, from any address of
127.0.0.0/8 or over a Unix-domain socket, until its stdin ends, then prints the number of
each attack as JSON. Status 1, with a line on stderr, if the server has not answered as it
must. tests/attacks has many more kinds, with what each may cost; here the number counts.
"""

import collections
import json
import os
import random
import select
import socket
import struct
import sys
import time

REQUEST = (b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
           b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")

# Longer than any timeout of the server's that ends a connection here.
TIMEOUT_S = 60

# The most silent connections at a time; a new one replaces the oldest.
LINGERERS = 20


def frame(first_byte, payload, length=None):
    """A frame with mask zero and this announced length."""
    length = len(payload) if length is None else length
    if length < 126:
        head = bytes([first_byte, 0x80 | length])
    elif length < 1 << 16:
        head = struct.pack(">BBH", first_byte, 0x80 | 126, length)
    else:
        head = struct.pack(">BBQ", first_byte, 0x80 | 127, length)
    return head + bytes(4) + payload


# Frames that break a rule, and the code that the server has to close with.
BROKEN = {
    "no mask": (b"\x82\x02ab", 1002),
    "reserved bit": (frame(0xC2, b"ab"), 1002),
    "reserved opcode": (frame(0x83, b"ab"), 1002),
    "length over 2^63": (frame(0x82, b"ab", 1 << 63), 1002),
    "length not minimal": (b"\x82\xfe\x00\x02" + bytes(4) + b"ab", 1002),
    "control frame in fragments": (frame(0x09, b"ab"), 1002),
    "control frame too long": (frame(0x89, b"a" * 126), 1002),
    "continuation of nothing": (frame(0x80, b"ab"), 1002),
    "text that is not UTF-8": (frame(0x81, b"ab\xff"), 1007),
    "close code that must not be sent": (frame(0x88, b"\x03\xed"), 1002),
}


class Attacker:
    """Attacks one server."""

    def __init__(self, address, path):
        self.address = address
        self.path = path
        self.chance = random.Random(7)
        self.counts = collections.Counter()
        self.lingering = collections.deque()
        self.kinds = [self.broken_frame, self.reset_at_any_byte, self.reset_while_it_writes,
                      self.invalid_request, self.endless_request, self.incomplete_request,
                      self.incomplete_frame, self.never_read, self.close_at_once]

    def attack(self):
        kind = self.chance.choice(self.kinds)
        kind()
        self.counts[kind.__name__.replace("_", " ")] += 1

    def broken_frame(self):
        name, (bytes_, code) = self.chance.choice(list(BROKEN.items()))
        with self._open() as connection:
            connection.sendall(bytes_)
            answer = read_to_end(connection)
        expected = b"\x88" + bytes([len(answer) - 2]) + struct.pack(">H", code)
        expect(answer.startswith(expected) and len(answer) >= 4, name, answer)

    def reset_at_any_byte(self):
        stream = REQUEST + frame(0x82, os.urandom(3000)) * 3
        connection = self._dial()
        connection.sendall(stream[:self.chance.randrange(len(stream))])
        reset(connection)

    def reset_while_it_writes(self):
        connection = self._open()
        self._fill(connection, 300_000)
        reset(connection)

    def invalid_request(self):
        with self._dial() as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n")
            answer = read_to_end(connection)
        # TLS's alert "protocol_version", or nothing, if that got lost.
        expect(answer in (b"\x15\x03\x01\x00\x02\x02F", b""), "no request", answer)

    def endless_request(self):
        with self._dial() as connection:
            try:
                connection.sendall(REQUEST[:-2] + b"X-Filler: " + b"a" * 200_000)
            except (BrokenPipeError, ConnectionResetError):
                pass
            answer = read_to_end(connection)
        # The answer may be lost: what was sent behind it resets the connection.
        expect(answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")) or not answer,
               "endless request", answer)

    def incomplete_request(self):
        connection = self._dial()
        connection.sendall(REQUEST[:self.chance.randrange(1, len(REQUEST) - 1)])
        self._leave(connection)

    def incomplete_frame(self):
        connection = self._open()
        whole = frame(0x82, os.urandom(200), self.chance.choice([1000, 60_000, 1 << 40]))
        connection.sendall(whole[:self.chance.randrange(1, len(whole))])
        self._leave(connection)

    def never_read(self):
        connection = self._open()
        self._fill(connection, 1_000_000)
        self._leave(connection)

    def close_at_once(self):
        connections = [self._dial() for _ in range(20)]
        for connection in connections:
            connection.close()

    def _dial(self):
        if self.chance.random() < 0.3:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(TIMEOUT_S)
            connection.connect(self.path)
            return connection
        source = socket.inet_ntoa(b"\x7f" + self.chance.randbytes(2) + b"\x01")
        return socket.create_connection(self.address, TIMEOUT_S, (source, 0))

    def _open(self):
        connection = self._dial()
        connection.sendall(REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            expect(byte, "handshake", head)
            head += byte
        expect(head.startswith(b"HTTP/1.1 101 "), "handshake", head)
        return connection

    def _fill(self, connection, most):
        """Sends frames until the socket is full, or this many bytes, and reads nothing."""
        connection.setblocking(False)
        frames = frame(0x82, bytes(16_000))
        sent = 0
        while sent < most and select.select([], [connection], [], 0.02)[1]:
            try:
                sent += connection.send(frames[sent % len(frames):])
            except BlockingIOError:
                pass

    def _leave(self, connection):
        """Neither sends nor closes for a while."""
        self.lingering.append(connection)
        if len(self.lingering) > LINGERERS:
            oldest = self.lingering.popleft()
            if self.chance.random() < 0.5:
                reset(oldest)
            else:
                oldest.close()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_to_end(connection):
    answer = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return answer
        if not piece:
            return answer
        answer += piece


def expect(condition, what, answer):
    if not condition:
        raise AssertionError(f"{what}: answered with {bytes(answer[:100])!r}")


def main(host, port, path, rate):
    attacker = Attacker((host, int(port)), path)
    pause = 1 / float(rate)
    try:
        while not select.select([sys.stdin], [], [], pause)[0]:
            attacker.attack()
    except (AssertionError, OSError) as error:
        print(f"attack: {error!r}", file=sys.stderr)
        return 1
    print(json.dumps(attacker.counts))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
