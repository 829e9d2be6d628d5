"""Checks deploy/kubernetes: check.py DIRECTORY, with what deploy/static-build made."""

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml

from image import DEPLOY, TIMEOUT_S, Container, Image, run_checks, seccomp

built = Path(sys.argv[1])
MANIFESTS = DEPLOY / 'kubernetes'
LOADTEST = MANIFESTS / 'loadtest'

# preStop's sleep is on by default since 1.30; the newest is what the validator has.
VERSIONS = [f'1.{minor}.0' for minor in range(30, 38)]

# Not for the API server: kustomize's own, and values of a chart.
OTHERS = {'kustomization.yaml', 'prometheus-adapter.yaml'}


def load(path):
    return yaml.safe_load(path.read_text())


def resources():
    return {path: load(path) for path in sorted(MANIFESTS.rglob('*.yaml'))
            if path.name not in OTHERS}


deployment = load(MANIFESTS / 'deployment.yaml')
pod = deployment['spec']['template']
[container] = pod['spec']['containers']
job = load(LOADTEST / 'job.yaml')
merge = load(LOADTEST / 'merge.yaml')


def environment():
    """The server's, as the kubelet would make it."""
    variables = {}
    for variable in container['env']:
        if 'value' in variable:
            variables[variable['name']] = variable['value']
        else:
            field = variable['valueFrom']['resourceFieldRef']['resource']
            kind, resource = field.split('.')
            variables[variable['name']] = container['resources'][kind][resource]
    return variables


def configuration():
    """What the binary makes of the container's environment and arguments."""
    done = subprocess.run(
        [built / 'ringback', 'config', *container.get('args', [])], env=environment(),
        capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return tomllib.loads(done.stdout)


def seconds(text):
    number, unit = re.fullmatch(r'(\d+)(ms|s|m)', text).groups()
    return int(number) * {'ms': 0.001, 's': 1, 'm': 60}[unit]


def bytes_of(quantity):
    number, unit = re.fullmatch(r'(\d+)(Mi|Gi)', quantity).groups()
    return int(number) << {'Mi': 20, 'Gi': 30}[unit]


def manifests_are_valid():
    assert len(resources()) == 8, list(resources())
    for version in VERSIONS:
        for path, resource in resources().items():
            try:
                kubernetes_validate.validate(resource, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise AssertionError(f'{path.name}, {version}: {error.message}') from error


def invalid_manifests_are_found():
    def refused(change):
        wrong = copy.deepcopy(deployment)
        change(wrong['spec']['template']['spec']['containers'][0])
        try:
            kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)
        except kubernetes_validate.ValidationError:
            return True
        return False
    assert refused(lambda container: container.update(readynessProbe={}))
    assert refused(lambda container: container['livenessProbe'].update(periodSeconds='10'))
    assert refused(lambda container: container['ports'][0].pop('containerPort'))


def kustomization_lists_every_manifest():
    for directory in (MANIFESTS, LOADTEST):
        listed = load(directory / 'kustomization.yaml')
        expected = {path.name for path in directory.glob('*.yaml')} - OTHERS - {'merge.yaml'}
        assert set(listed['resources']) == expected, directory
    images = {'deployment.yaml': container['image'], 'loadtest': job_container(job)['image']}
    named = load(MANIFESTS / 'kustomization.yaml')['images'][0]['name']
    assert named == images['deployment.yaml']
    named = load(LOADTEST / 'kustomization.yaml')['images'][0]['name']
    assert named == images['loadtest'] == job_container(merge)['image']
    [patch] = load(MANIFESTS / 'io-uring' / 'kustomization.yaml')['patches']
    assert patch['target'] == {'kind': 'Deployment', 'name': deployment['metadata']['name']}
    [operation] = yaml.safe_load(patch['patch'])
    patched = copy.deepcopy(deployment)
    *way, last = operation['path'].strip('/').split('/')
    place = patched
    for name in way:
        place = place[name]
    assert last in place, operation
    place[last] = operation['value']
    kubernetes_validate.validate(patched, VERSIONS[-1], strict=True)


def job_container(job):
    [container] = job['spec']['template']['spec']['containers']
    return container


def selectors_match_the_pods():
    labels = pod['metadata']['labels']
    service = load(MANIFESTS / 'service.yaml')['spec']
    policy = load(MANIFESTS / 'networkpolicy.yaml')['spec']
    budget = load(MANIFESTS / 'poddisruptionbudget.yaml')['spec']
    scaler = load(MANIFESTS / 'horizontalpodautoscaler.yaml')['spec']
    spread = pod['spec']['topologySpreadConstraints']
    for selector in (
            deployment['spec']['selector']['matchLabels'], service['selector'],
            policy['podSelector']['matchLabels'], budget['selector']['matchLabels'],
            *(constraint['labelSelector']['matchLabels'] for constraint in spread)):
        assert selector.items() <= labels.items(), selector
    target = scaler['scaleTargetRef']
    assert target == {'apiVersion': deployment['apiVersion'], 'kind': deployment['kind'],
                      'name': deployment['metadata']['name']}
    assert scaler['minReplicas'] > budget['maxUnavailable']
    assert 'replicas' not in deployment['spec'], 'the autoscaler and apply would fight'
    [near] = job['spec']['template']['spec']['affinity']['podAntiAffinity'][
        'preferredDuringSchedulingIgnoredDuringExecution']
    assert near['podAffinityTerm']['labelSelector']['matchLabels'].items() <= labels.items()


def ports_match_the_server():
    ports = {port['name']: port['containerPort'] for port in container['ports']}
    config = configuration()
    assert config['listen'] == [f'[::]:{ports["ws"]}'], config['listen']
    assert config['admin'] == f'[::]:{ports["admin"]}', config['admin']
    service = load(MANIFESTS / 'service.yaml')
    assert [port['targetPort'] for port in service['spec']['ports']] == ['ws']
    policy = load(MANIFESTS / 'networkpolicy.yaml')['spec']
    allowed = {port['port']: 'from' in rule for rule in policy['ingress'] for port in rule['ports']}
    assert allowed == {'ws': False, 'admin': True}, allowed
    for probe in ('readinessProbe', 'livenessProbe'):
        assert container[probe]['httpGet']['port'] == 'admin'
    annotations = pod['metadata']['annotations']
    assert annotations['prometheus.io/port'] == str(ports['admin'])
    url = job_container(job)['args'][1]
    host, port = re.fullmatch(r'ws://([^:]+):(\d+)/', url).groups()
    assert host == service['metadata']['name']
    assert int(port) == service['spec']['ports'][0]['port']


def limits_and_timeouts_agree():
    config, resources = configuration(), container['resources']
    assert config['threads'] == int(resources['limits']['cpu'])
    assert resources['requests'] == resources['limits'], 'not Guaranteed'
    sleep = container['lifecycle']['preStop']['sleep']['seconds']
    grace = sleep + seconds(config['drain-timeout']) + 5
    assert pod['spec']['terminationGracePeriodSeconds'] >= grace, grace
    scaler = load(MANIFESTS / 'horizontalpodautoscaler.yaml')['spec']
    [connections] = [metric['pods'] for metric in scaler['metrics'] if metric['type'] == 'Pods']
    wanted = int(connections['target']['averageValue'])
    assert wanted == config['max-connections'] * 3 // 4, wanted
    [rule] = load(MANIFESTS / 'prometheus-adapter.yaml')['rules']['custom']
    assert rule['name']['as'] == connections['metric']['name']
    assert rule['seriesQuery'].startswith(connections['metric']['name'] + '{')
    merged = [argument for argument in job_container(merge)['args'] if argument.startswith('/')]
    output = job_container(job)['args'][-1].removeprefix('--output=')
    names = [output.replace('$(JOB_COMPLETION_INDEX)', str(index))
             for index in range(job['spec']['completions'])]
    assert merged == names, merged
    assert job['spec']['parallelism'] == job['spec']['completions']


def pods_match_the_images():
    for manifest, image in ((deployment, 'ringback'), (job, 'loadtest'), (merge, 'loadtest')):
        image, spec = Image(image), manifest['spec']['template']['spec']
        context = spec['securityContext']
        assert context['runAsNonRoot'] and context['runAsUser'] == image.user
        assert context['runAsGroup'] == image.group
        [container] = spec['containers']
        assert 'command' not in container, 'the entry point is the image\'s'
        assert container['securityContext'] == {
            'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True,
            'capabilities': {'drop': ['ALL']}}
        assert spec['enableServiceLinks'] is False
        assert spec['automountServiceAccountToken'] is False


def variables():
    return [f'{name}={value}' for name, value in environment().items()]


def pod_answers_probes_and_drains():
    """With the memory and the time of the manifest; doctor has no problem inside."""
    limits = container['resources']['limits']
    room = {'memory': {'limit': bytes_of(limits['memory'])},
            'cpu': {'quota': 100_000 * int(limits['cpu']), 'period': 100_000}}
    profile = seccomp()
    with Container(Image('ringback'), built, ['doctor', '--format', 'json'], profile,
                   variables(), resources=room) as doctor:
        doctor.wait()
        findings = {found['check']: found for found in json.loads(doctor.output())}
    problems = {check for check, found in findings.items() if found['level'] == 'problem'}
    # A container's limit on open files is its node's; this machine's may be lower.
    assert problems <= {'open files'}, findings
    for check in ('memory', 'CPU quota', 'listen address'):
        assert findings[check]['level'] == 'ok', findings[check]
    # Both are those of the container, not the machine's.
    assert '512 MiB that the control group allows' in findings['memory']['found'], findings
    assert '2.00 cores for 2 threads' in findings['CPU quota']['found'], findings
    with Container(Image('ringback'), built, [], profile, variables(), resources=room) as server:
        server.wait_for_event('admin')
        ports = {port['name']: port['containerPort'] for port in container['ports']}
        metrics = ''
        for path in (container['readinessProbe']['httpGet']['path'],
                     container['livenessProbe']['httpGet']['path'],
                     pod['metadata']['annotations']['prometheus.io/path']):
            url = f'http://127.0.0.1:{ports["admin"]}{path}'
            fetch = f'import urllib.request as u; print(u.urlopen("{url}", timeout=9).read().decode())'
            metrics = server.from_its_network(sys.executable, '-c', fetch)
        scaler = load(MANIFESTS / 'horizontalpodautoscaler.yaml')['spec']
        for metric in scaler['metrics']:
            if metric['type'] == 'Pods':
                name = metric['pods']['metric']['name']
                assert re.search(rf'^{name}{{', metrics, re.M), name
        assert server.stop() == 0, server.log()


# The Job's load is for a cluster; this machine gets a small one.
SCALE = {'--connections=2000': '--connections=20', '--rate=5k': '--rate=200',
         '--duration=60s': '--duration=10s', '--warmup=10s': '--warmup=500ms'}


def job_results_merge():
    """The pods of the Job, with their own command line, and then the merging one."""
    arguments = job_container(job)['args']
    assert SCALE.keys() <= set(arguments), arguments
    arguments = [SCALE.get(argument, argument) for argument in arguments]
    completions = job['spec']['completions']
    image = Image('loadtest')
    # Generators and server share two cores here, so the numbers may be unreliable: 4 is
    # a run that was INVALID.
    run = (0, 4)
    with Container(Image('ringback'), built, [], seccomp(), variables()) as server, \
            tempfile.TemporaryDirectory() as volume:
        server.wait_for_event('listening')
        results, hosts = Path(volume, 'results'), Path(volume, 'hosts')
        results.mkdir()
        os.chown(results, image.user, image.group)
        hosts.write_text('127.0.0.1 ringback\n')
        mounts = [
            {'destination': '/results', 'type': 'bind', 'source': str(results),
             'options': ['rbind', 'rw']},
            {'destination': '/etc/hosts', 'type': 'bind', 'source': str(hosts),
             'options': ['rbind', 'ro']},
        ]
        network = f'/proc/{server.pid}/ns/net'
        pods = []
        try:
            for index in range(completions):
                expanded = [argument.replace('$(JOB_COMPLETION_INDEX)', str(index))
                            for argument in arguments]
                assert not any('$(' in argument for argument in expanded), expanded
                pods.append(Container(image, built, expanded, network=network, mounts=mounts))
                pods[-1].__enter__()
            for pod in pods:
                status = pod.process.wait(TIMEOUT_S * 3)
                assert status in run, f'{status}: {pod.output()}{pod.log()}'
        finally:
            for pod in pods:
                pod.__exit__()
        parts = [json.loads((results / f'result-{index}.json').read_text())
                 for index in range(completions)]
        with Container(image, built, job_container(merge)['args'], network=network,
                       mounts=mounts) as merging:
            status = merging.wait()
            assert status in run, merging.output() + merging.log()
            assert f'from {completions} generators' in merging.output(), merging.output()
        merged = json.loads((results / 'merged.json').read_text())
        for name in ('due', 'sent', 'answered', 'echoed', 'handshakes'):
            total = sum(part['counts'][name] for part in parts)
            assert merged['counts'][name] == total > 0, name
        assert merged['plan']['connections'] == 20 * completions
        assert merged['summary']['response_ns']['samples'] == sum(
            part['summary']['response_ns']['samples'] for part in parts)
        assert merged['summary']['response_ns']['max'] == max(
            part['summary']['response_ns']['max'] for part in parts)
        # As any result, it is one that the program reads.
        again = subprocess.run(
            [built / 'loadtest', 'merge', results / 'merged.json', '--format', 'csv'],
            capture_output=True, text=True, timeout=TIMEOUT_S)
        assert again.returncode in run, again.stderr


run_checks([
    manifests_are_valid,
    invalid_manifests_are_found,
    kustomization_lists_every_manifest,
    selectors_match_the_pods,
    ports_match_the_server,
    limits_and_timeouts_agree,
    pods_match_the_images,
    pod_answers_probes_and_drains,
    job_results_merge,
])
