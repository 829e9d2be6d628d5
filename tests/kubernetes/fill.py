"""Fills a control group of the size of the pod's memory: fill.py RINGBACK [KIND...].

The server runs with the settings of deploy/kubernetes and with a listener for TLS, and
attackers make it hold as much as they can, one kind of connection after the other. It
must not be killed, and a healthy client beside them is served. Needs root and control
groups, openssl, and a limit on open files for all the pod's connections.
"""

import multiprocessing
import os
import re
import resource
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

RINGBACK = Path(sys.argv[1]).resolve()
MANIFEST = Path(__file__).parents[2] / 'deploy' / 'kubernetes' / 'deployment.yaml'
ATTACKERS = 2
# Time that it goes on when no more fits, and the longest time until then.
FULL_S = 3
TIMEOUT_S = 60

REQUEST = (b'GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
           b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n')


def long_request(length):
    return (REQUEST[:-2] + b'X-Padding: ').ljust(length, b'x')


def client_hello():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def frame(length, sent):
    """A masked binary frame of this length, as far as it is sent."""
    header = b'\x82\xfe' + length.to_bytes(2, 'big') if length < 1 << 16 else \
        b'\x82\xff' + length.to_bytes(8, 'big')
    return (header + b'\0\0\0\0').ljust(sent, b'x')


# What attackers send, whether over TLS, their number, and whether they go on sending
# without reading.
KINDS = {
    'nothing': (b'', False, None, False),
    'one byte each': (b'G', False, None, False),
    '3 KB of a request': (long_request(3000), False, None, False),
    '15.9 KB of a request': (long_request(15_900), False, None, False),
    'nothing where TLS is spoken': (b'', True, None, False),
    'half a hello': (client_hello()[:-10], True, None, False),
    'a hello without an end': (b'\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03'.ljust(15_900, b'x'),
                               True, None, False),
    'a hello, and no Finished': (client_hello(), True, None, False),
    'idle': (REQUEST, False, None, False),
    'half a frame': (REQUEST + frame(16_000, 15_900), False, None, False),
    # The memory of their sockets is the machine's.
    'backlogs': (REQUEST + 64 * frame(16_000, 16_008), False, 200, True),
}


def variables():
    """The literal values of the container's environment."""
    text = MANIFEST.read_text()
    return dict(re.findall(r'- name: (RINGBACK_\w+)\n(?: +#.*\n)* +value: "?([^"\n]+)"?\n', text))


def memory_bytes():
    [request, limit] = re.findall(r'^ +memory: (\d+)Mi$', MANIFEST.read_text(), re.M)
    assert request == limit
    return int(limit) << 20


class Group:
    """A control group for memory, of either version."""

    def __init__(self, limit):
        root = Path('/sys/fs/cgroup')
        self.is_newer = (root / 'cgroup.controllers').exists()
        self.path = (root if self.is_newer else root / 'memory') / f'ringback-fill-{os.getpid()}'
        if self.is_newer:
            (root / 'cgroup.subtree_control').write_text('+memory')
        self.path.mkdir()
        if self.is_newer:
            self.write('memory.max', limit)
            self.write('memory.swap.max', 0)
        else:
            self.write('memory.limit_in_bytes', limit)

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def read(self, newer, older):
        return (self.path / (newer if self.is_newer else older)).read_text()

    def peak(self):
        return int(self.read('memory.peak', 'memory.max_usage_in_bytes'))

    def kills(self):
        text = self.read('memory.events', 'memory.oom_control')
        return int(re.search(r'^oom_kill (\d+)$', text, re.M).group(1))

    def remove(self):
        for _ in range(100):
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f'{self.path} is in use')


@contextmanager
def served(group, directory):
    """A server in the group; its process and its ports: plain, TLS, admin."""
    settings = variables() | {
        'RINGBACK_LISTEN': '127.0.0.1:0', 'RINGBACK_ADMIN': '127.0.0.1:0', 'RINGBACK_THREADS': '2',
        'RINGBACK_TLS_LISTEN': '127.0.0.1:0', 'RINGBACK_TLS_CERT': f'{directory}/cert.pem',
        'RINGBACK_TLS_KEY': f'{directory}/key.pem', 'RINGBACK_LOG_FORMAT': 'text',
        'RINGBACK_ENGINE': 'epoll'}
    server = subprocess.Popen(
        [RINGBACK], env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: group.write('cgroup.procs', os.getpid()))
    try:
        lines = [server.stdout.readline() for _ in range(3)]
        yield server, [int(re.search(r'://[^ ]*:(\d+)', line).group(1)) for line in lines]
    finally:
        server.kill()
        server.wait()


def attack(port, kind, most):
    """Holds as many connections open as the server takes, and replaces those that end."""
    payload, _, _, is_endless = KINDS[kind]
    selector, count = selectors.EpollSelector(), 0

    def close(connection):
        nonlocal count
        selector.unregister(connection)
        connection.close()
        count -= 1

    while True:
        for _ in range(min(most - count, 200)):
            connection = socket.socket()
            if is_endless:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            connection.connect_ex(('127.0.0.1', port))
            selector.register(connection, selectors.EVENT_WRITE, payload)
            count += 1
        for key, events in selector.select(0.01):
            connection, unsent = key.fileobj, key.data
            try:
                if events & selectors.EVENT_WRITE and unsent:
                    unsent = unsent[connection.send(unsent):]
                    if not unsent and is_endless:
                        unsent = frame(16_000, 16_008)
                    wanted = selectors.EVENT_WRITE if unsent else selectors.EVENT_READ
                    selector.modify(connection, wanted, unsent)
                elif not unsent and events & selectors.EVENT_WRITE:
                    selector.modify(connection, selectors.EVENT_READ, b'')
                elif events & selectors.EVENT_READ and not connection.recv(4096):
                    close(connection)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                close(connection)


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port), timeout=TIMEOUT_S)
        self.socket.sendall(REQUEST)
        answer = b''
        while not answer.endswith(b'\r\n\r\n'):
            got = self.socket.recv(1)
            assert got, f'no upgrade: {answer}'
            answer += got
        assert answer.startswith(b'HTTP/1.1 101 '), answer

    def echo(self):
        start = time.monotonic()
        self.socket.sendall(b'\x82\x85\0\0\0\0hello')
        got = b''
        while len(got) < 7:
            more = self.socket.recv(7 - len(got))
            assert more, 'the healthy client was closed'
            got += more
        assert got == b'\x82\x05hello', got
        return time.monotonic() - start


def metrics(port):
    """The server's metrics, summed over workers and labels, by their short names."""
    with socket.create_connection(('127.0.0.1', port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
        page = b''
        while more := connection.recv(1 << 16):
            page += more
    found = {}
    for name, value in re.findall(r'^ringback_(\w+)(?:{[^}]*})? (\S+)$', page.decode(), re.M):
        found[name] = found.get(name, 0) + float(value)
    return found


def is_full(kind, seen):
    """Whether attackers hold about as much as the limits allow."""
    if kind == 'idle':
        return seen['connections_open'] > 0.9 * seen['connections_max']
    if kind in ('half a frame', 'backlogs'):
        return seen['held_bytes'] > 0.7 * seen['held_bytes_max']
    return (seen['handshakes_in_progress'] > 0.9 * seen['handshakes_max']
            or seen['held_bytes'] > 0.4 * seen['held_bytes_max'])


def fill(kind, directory):
    _, is_tls, fewer, _ = KINDS[kind]
    count = int(variables()['RINGBACK_MAX_CONNECTIONS'])
    count = min(count, ATTACKERS * (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100))
    group = Group(memory_bytes())
    try:
        with served(group, directory) as (server, ports):
            client = Client(ports[0])
            attackers = [
                multiprocessing.Process(
                    target=attack, args=(ports[is_tls], kind, (fewer or count) // ATTACKERS),
                    daemon=True)
                for _ in range(ATTACKERS)]
            for attacker in attackers:
                attacker.start()
            worst, newcomers, full_s = 0, 0, None
            start = time.monotonic()
            most = {}
            try:
                while full_s is None or time.monotonic() < full_s + FULL_S:
                    worst = max(worst, client.echo())
                    # An incomplete handshake takes no slot of a connection.
                    if kind not in ('idle', 'half a frame'):
                        newcomer = Client(ports[0])
                        newcomer.echo()
                        newcomer.socket.close()
                        newcomers += 1
                    seen = metrics(ports[2])
                    most = {name: max(value, most.get(name, 0)) for name, value in seen.items()}
                    if full_s is None and is_full(kind, seen):
                        full_s = time.monotonic()
                    assert time.monotonic() < start + TIMEOUT_S, f'it does not get full: {most}'
                assert server.poll() is None, f'it has ended: {server.poll()}'
            finally:
                for attacker in attackers:
                    attacker.kill()
                    attacker.join()
                kills, peak = group.kills(), group.peak()
                assert kills == 0, 'it was killed for want of memory'
            print(f'{kind:28} peak {peak >> 20:4} MiB, held {int(most["held_bytes"]) >> 20:4} MiB, '
                  f'{int(most["connections_open"]):5} open, worst echo {worst * 1000:5.0f} ms, '
                  f'{newcomers} newcomers', flush=True)
            server.send_signal(signal.SIGKILL)
            server.wait()
    finally:
        group.remove()


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
             '-keyout', f'{directory}/key.pem', '-out', f'{directory}/cert.pem', '-subj', '/CN=localhost'],
            check=True, capture_output=True, timeout=TIMEOUT_S)
        for kind in sys.argv[2:] or KINDS:
            fill(kind, directory)


main()
