"""Runs the images that deploy/Dockerfile describes: check.py DIRECTORY, with what
deploy/static-build made."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from image import TIMEOUT_S, Container, Image, run_checks, seccomp

REQUEST = (b'GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
           b'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')

IO_URING = ('io_uring_setup', 'io_uring_enter', 'io_uring_register')

built = Path(sys.argv[1])
server = Image('ringback')
generator = Image('loadtest')


def echoes(container):
    """Checks that the server in it echoes every byte."""
    out = container.from_its_network(
        built / 'loadtest', 'run', 'ws://127.0.0.1:9001/', '-c', '20', '-w', '4', '-n', '4000',
        '--warmup', '0s', '-s', '32:9,100k:1', '--format', 'json')
    counts = json.loads(out)['counts']
    assert counts['answered'] == 4000, counts


def is_healthy(container):
    status, said = container.execute(*server.health_check)
    assert (status, said) == (0, 'ok\n'), (status, said)


def doctor_has_no_problem(container):
    """Doctor has no problem, except with this machine's limit on open files."""
    warnings = [line for line in container.log().splitlines()
                if 'WARN' in line and 'the limit on open files' not in line]
    assert not warnings, warnings


def every_engine_works_under_the_profile():
    for engine in ('epoll', 'ring', 'tokio-uring', 'auto'):
        with Container(server, built, ['--engine', engine], seccomp()) as container:
            line = container.wait_for_line('listening ')
            expected = 'ring' if engine == 'auto' else engine
            assert f'ws://[::]:9001 engine={expected} ' in line, line
            status = Path(f'/proc/{container.pid}/status').read_text()
            for field in (r'Uid:\t65532\t', r'CapEff:\t0+\n', r'NoNewPrivs:\t1\n', r'Seccomp:\t2\n'):
                assert re.search(field, status), f'{field}: {status}'
            echoes(container)
            is_healthy(container)
            assert container.stop() == 0, container.log()
            doctor_has_no_problem(container)


def server_files_are_in_a_volume():
    """A Unix-domain socket, which echoes, and the process id."""
    volume = {'destination': '/run', 'type': 'tmpfs', 'source': 'tmpfs',
              'options': [f'uid={server.user}', 'mode=0700', 'noexec', 'nosuid', 'nodev']}
    arguments = ['--listen', '0.0.0.0:9001', '--listen', 'unix:/run/echo.sock',
                 '--pid-file', '/run/pid']
    with Container(server, built, ['doctor', '--max-connections', '1000', *arguments], seccomp(),
                   mounts=[volume]) as container:
        assert container.wait() == 0, container.output()
        assert 'unix:/run/echo.sock is free' in container.output(), container.output()
    with Container(server, built, arguments, seccomp(), mounts=[volume]) as container:
        container.wait_for_line('admin ')
        assert 'unix:/run/echo.sock' in container.output(), container.output()
        run = Path('/proc', str(container.pid), 'root', 'run')
        assert (run / 'echo.sock').stat().st_mode & 0o777 == 0o660
        assert (run / 'pid').read_text() == '1\n'
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(str(run / 'echo.sock'))
            client.sendall(REQUEST + b'\x81\x82\0\0\0\0hi')
            answer = b''
            while not answer.endswith(b'\r\n\r\n\x81\x02hi'):
                piece = client.recv(4096)
                assert piece, answer
                answer += piece
        assert container.stop() == 0, container.log()
        doctor_has_no_problem(container)


def process_1_is_not_replaced():
    """The container, and the replacement in it, would end with this process."""
    with Container(server, built, []) as container:
        container.wait_for_line('admin ')
        container.signal('USR2')
        container.wait_for_log('cannot be replaced')
        echoes(container)
        assert container.stop() == 0, container.log()


def auto_falls_back_to_epoll_and_logs_reason():
    profile = seccomp(without=IO_URING)
    with Container(server, built, [], profile) as container:
        assert ' engine=epoll ' in container.wait_for_line('listening ')
        assert 'falling back' in container.log() and 'seccomp' in container.log(), container.log()
        echoes(container)
        is_healthy(container)
        assert container.stop() == 0, container.log()
    with Container(server, built, ['--engine', 'ring'], profile) as container:
        assert container.wait() == 1, container.log()
        assert 'seccomp' in container.log(), container.log()


def doctor_finds_what_stops_the_server():
    arguments = ['doctor', '--format', 'json', '--max-connections', '1000']
    with Container(server, built, arguments, seccomp(without=IO_URING)) as container:
        assert container.wait() == 0, container.log()
        findings = json.loads(container.output())
        [ring] = [found for found in findings if found['check'] == 'engine ring']
        assert ring['level'] == 'warning' and 'seccomp.json' in ring['change'], ring
    with Container(server, built, arguments, seccomp()) as container:
        assert container.wait() == 0, container.log()
        findings = json.loads(container.output())
        [ring] = [found for found in findings if found['check'] == 'engine ring']
        assert ring['level'] == 'ok', ring


def doctor_finds_low_locked_memory():
    """If it finds a problem, the server does not start; with its advice the server does."""
    flags = ['--engine', 'ring', '--threads', '8', '--max-connections', '1000']
    limit = lambda size: [{'type': 'RLIMIT_MEMLOCK', 'soft': size, 'hard': size}]
    with Container(server, built, ['doctor', '--format', 'json', *flags], seccomp(),
                   limits=limit(512 << 10)) as container:
        status = container.wait()
        findings = json.loads(container.output())
    [locked] = [found for found in findings if found['check'] == 'locked memory'] or [None]
    if locked is None:
        print('note: this kernel does not charge rings to the limit on locked memory')
        return
    assert (status, locked['level']) == (1, 'problem'), locked
    with Container(server, built, flags, seccomp(), limits=limit(512 << 10)) as container:
        assert container.wait() == 1, container.log()
    advised = int(re.search(r'memlock=(\d+)', locked['change'])[1])
    with Container(server, built, flags, seccomp(), limits=limit(advised)) as container:
        container.wait_for_line('listening ')
        assert container.stop() == 0, container.log()


def profile_allows_few_system_calls():
    profile = seccomp()
    allowed = {name for rule in profile['syscalls'] for name in rule['names']
               if rule['action'] == 'SCMP_ACT_ALLOW'}
    assert profile['defaultAction'] == 'SCMP_ACT_ERRNO'
    for name in ('ptrace', 'mount', 'unshare', 'setns', 'bpf', 'keyctl', 'chown', 'link', 'kill',
                 'perf_event_open', 'process_vm_readv', 'setuid', 'personality', 'userfaultfd'):
        assert name not in allowed, name
    # A runtime's own profile has some 350.
    assert len(allowed) < 100, len(allowed)


def failed_health_check_logs_reason():
    with Container(server, built, ['--admin', '127.0.0.1:9191'], seccomp()) as container:
        container.wait_for_line('listening ')
        status, said = container.execute(*server.health_check)
        assert status == 1 and 'refused' in said, (status, said)


def generator_finds_server_by_dns():
    """As a Job in a cluster does: by a name, in another container, into a volume."""
    with Container(server, built, ['--threads', '1'], seccomp()) as container, \
            tempfile.TemporaryDirectory() as volume:
        container.wait_for_line('listening ')
        results = Path(volume, 'results')
        results.mkdir()
        os.chown(results, generator.user, generator.group)
        resolver = Path(volume, 'resolv.conf')
        resolver.write_text('nameserver 127.0.0.1\noptions timeout:2 attempts:2\n')
        network = f'/proc/{container.pid}/ns/net'
        dns = subprocess.Popen(
            ['nsenter', f'--net={network}', sys.executable, Path(__file__).with_name('dns.py'),
             'ringback.test', '127.0.0.1'], stdout=subprocess.PIPE, text=True)
        try:
            assert dns.stdout.readline() == 'ready\n'
            mounts = [
                {'destination': '/results', 'type': 'bind', 'source': str(results),
                 'options': ['rbind', 'rw']},
                {'destination': '/etc/resolv.conf', 'type': 'bind', 'source': str(resolver),
                 'options': ['rbind', 'ro']},
            ]
            arguments = ['run', 'ws://ringback.test:9001/', '-c', '10', '-n', '2000',
                         '-o', '/results/result.json']
            with Container(generator, built, arguments, network=network, mounts=mounts) as load:
                assert load.process.wait(TIMEOUT_S * 3) == 0, load.output() + load.log()
            result = json.loads((results / 'result.json').read_text())
            assert result['counts']['answered'] == 2000, result['counts']
        finally:
            dns.kill()
            dns.wait()


run_checks([
    every_engine_works_under_the_profile,
    server_files_are_in_a_volume,
    process_1_is_not_replaced,
    auto_falls_back_to_epoll_and_logs_reason,
    doctor_finds_what_stops_the_server,
    doctor_finds_low_locked_memory,
    profile_allows_few_system_calls,
    failed_health_check_logs_reason,
    generator_finds_server_by_dns,
])

