"""The final stages of deploy/Dockerfile, run by runc as a runtime would."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / 'deploy'

# The longest wait before a check fails.
TIMEOUT_S = 20


def seccomp(without=()):
    """deploy/seccomp.json, less some system calls."""
    profile = json.loads((DEPLOY / 'seccomp.json').read_text())
    for rule in profile['syscalls']:
        rule['names'] = [name for name in rule['names'] if name not in without]
        # For people; a runtime has no such field.
        rule.pop('comment', None)
    profile['syscalls'] = [rule for rule in profile['syscalls'] if rule['names']]
    return profile


def run_checks(checks):
    """Runs all of them, prints the result of each, and exits."""
    failed = 0
    for check in checks:
        name = check.__name__.replace('_', ' ')
        try:
            check()
            print(f'ok: {name}', flush=True)
        except Exception as error:
            failed += 1
            print(f'FAILED: {name}: {type(error).__name__}: {error}', flush=True)
    print(f'{len(checks) - failed} passed, {failed} failed')
    sys.exit(failed > 0)


class Image:
    """The instructions of a stage in the Dockerfile."""

    def __init__(self, stage):
        text = (DEPLOY / 'Dockerfile').read_text()
        text = re.sub(r'^\s*#.*\n', '', text, flags=re.M).replace('\\\n', ' ')
        stages = re.split(r'^FROM ', text, flags=re.M)
        [body] = [body for body in stages if body.split('\n')[0] == f'scratch AS {stage}']
        lines = [line.split(None, 1) for line in body.split('\n')[1:] if line.strip()]
        self.files = dict(
            reversed(argument.removeprefix('--from=build ').split())
            for name, argument in lines if name == 'COPY')
        said = dict(lines)
        self.environment = said.get('ENV', '').split()
        self.user, self.group = map(int, said['USER'].split(':'))
        self.entrypoint = json.loads(said['ENTRYPOINT'])
        check = said.get('HEALTHCHECK', '')
        self.health_check = json.loads(check.split('CMD ')[1]) if check else None


class Container:
    """A running one; gone at the end of its block."""

    number = 0

    def __init__(self, image, built, arguments=(), profile=None, environment=(), network=None,
                 mounts=(), limits=None, resources=None):
        Container.number += 1
        self.name = f'ringback-check-{Container.number}-{time.monotonic_ns()}'
        self.image = image
        self.work = Path(tempfile.mkdtemp())
        root = self.work / 'rootfs'
        for inside, outside in image.files.items():
            place = root / inside.lstrip('/')
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(outside.replace('/out/', f'{built}/'), place)
        namespaces = [{'type': kind} for kind in ('pid', 'ipc', 'uts', 'mount')]
        namespaces.append({'type': 'network', **({'path': network} if network else {})})
        config = {
            'ociVersion': '1.0.2',
            'process': {
                'user': {'uid': image.user, 'gid': image.group},
                'args': [*image.entrypoint, *arguments],
                'env': [*image.environment, *environment],
                'cwd': '/',
                'noNewPrivileges': True,
                'rlimits': limits or [],
            },
            'root': {'path': 'rootfs', 'readonly': True},
            'mounts': [
                {'destination': '/proc', 'type': 'proc', 'source': 'proc'},
                {'destination': '/sys', 'type': 'sysfs', 'source': 'sysfs', 'options': ['ro']},
                {'destination': '/sys/fs/cgroup', 'type': 'cgroup', 'source': 'cgroup',
                 'options': ['ro']},
                *mounts,
            ],
            'linux': {
                'namespaces': namespaces,
                'resources': resources or {},
                **({'seccomp': profile} if profile else {}),
            },
        }
        (self.work / 'config.json').write_text(json.dumps(config))
        self.out = open(self.work / 'out', 'w+')
        self.err = open(self.work / 'err', 'w+')

    def __enter__(self):
        self.process = subprocess.Popen(
            [*self.runc(), 'run', '--pid-file', self.work / 'pid', '--bundle', self.work,
             self.name],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            subprocess.run([*self.runc(), 'kill', self.name, 'KILL'], check=False)
        self.process.wait(TIMEOUT_S)
        self.out.close()
        self.err.close()
        shutil.rmtree(self.work)

    def runc(self):
        return ['runc', '--root', self.work / 'state']

    @property
    def pid(self):
        return int((self.work / 'pid').read_text())

    def output(self):
        return (self.work / 'out').read_text()

    def log(self):
        return (self.work / 'err').read_text()

    def wait_for_line(self, start):
        """The first line of its output that begins so."""
        return self._wait_for(self.output, lambda line: line.startswith(start))

    def wait_for_event(self, message):
        """The first line of its output that is this event, where its log is JSON."""
        return self._wait_for(self.output, lambda line: f'"message":"{message}"' in line)

    def wait_for_log(self, part):
        """The first line of its log with this in it."""
        return self._wait_for(self.log, lambda line: part in line)

    def _wait_for(self, read, is_it):
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            for line in read().splitlines(keepends=True):
                if is_it(line) and line.endswith('\n'):
                    return line.rstrip('\n')
            assert self.process.poll() is None, f'it ended: {self.log()}'
            time.sleep(0.05)
        raise AssertionError(f'no such line: {self.output()}{self.log()}')

    def wait(self):
        return self.process.wait(TIMEOUT_S)

    def signal(self, name):
        subprocess.run([*self.runc(), 'kill', self.name, name], check=True)

    def stop(self):
        """SIGTERM, and the exit status."""
        self.signal('TERM')
        return self.wait()

    def execute(self, *command):
        """Runs a command inside, as a health check is; its status and output."""
        user = f'{self.image.user}:{self.image.group}'
        done = subprocess.run(
            [*self.runc(), 'exec', '--user', user, '--cwd', '/', self.name, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
        return done.returncode, done.stdout + done.stderr

    def from_its_network(self, *command):
        """Runs a command of this machine in the network of the container."""
        done = subprocess.run(
            ['nsenter', f'--net=/proc/{self.pid}/ns/net', *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S * 3)
        assert done.returncode == 0, f'{command}: {done.stdout}{done.stderr}'
        return done.stdout
