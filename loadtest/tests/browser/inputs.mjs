// The input files of reports: real runs, and files derived from them.
import {execFileSync} from 'node:child_process';
import {readFileSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:net';
import {join} from 'node:path';

const RUN_MS = 60_000;

// Labels that would be markup, a style or a script if they were not escaped.
export const HOSTILE = [
  '<script>window.hacked = 1</script>',
  '" onload="window.hacked = 1" x="',
  '</style><img src=x onerror="window.hacked = 1">',
  '</title></svg><iframe src="https://example.com/"></iframe>',
];

export async function makeInputs(loadtest, server, dir) {
  const port = await freePort();
  const url = `ws://127.0.0.1:${port}/`;
  const command = `${server} --threads 1 --listen 127.0.0.1:${port}`;
  const drive = (name, ...args) => {
    const file = join(dir, `${name}.json`);
    try {
      execFileSync(loadtest, [...args, url, '-c4', '--warmup=100ms', '--server-cmd', command, '-o', file],
        {stdio: 'ignore', timeout: RUN_MS});
    } catch (error) {
      // A busy machine may keep a run from its rate or its objective.
      if (![3, 4].includes(error.status)) throw error;
    }
    return file;
  };
  const runs = ['one', 'two'].map(name =>
    drive(name, 'run', '--rate=2k', '-d3s', '--slo=p99<2ms,errors<0.01%'));
  const sweep = drive('sweep', 'sweep', '--rates=500,1k,2k,4k', '--repeats=2', '-d300ms');
  const run = JSON.parse(readFileSync(runs[0]));
  const write = (name, document) => {
    const file = join(dir, `${name}.json`);
    writeFileSync(file, JSON.stringify(document));
    return file;
  };
  const labels = Array.from({length: 12}, (_, index) => `server ${index % 2 ? 'B' : 'A'}`);
  return {
    runs,
    sweep,
    comparison: write('comparison', comparison(run, ['epoll', 'io_uring'])),
    many: labels.map((label, index) => write(`many-${index}`, {...run, label})),
    hostile: [
      ...HOSTILE.slice(0, 3).map((text, index) => write(`hostile-${index}`, hostileRun(run, text))),
      write('hostile-comparison', comparison(run, HOSTILE)),
    ],
  };
}

function hostileRun(run, text) {
  const reason = {verdict: 'suspect', what: text, advice: text};
  return {
    ...run,
    label: text,
    args: [text],
    judgement: {verdict: 'suspect', reasons: [reason], notes: [text]},
    objectives: [{objective: text, observed: text, met: false, supported: true}],
    environment: {...run.environment, kernel: text, cpu_model: text},
  };
}

// Sides that differ only in cost; the last one differs in everything.
function comparison(run, labels) {
  const metrics = ['throughput', 'cpu-per-message', 'p50', 'p99', 'p99.9'];
  const base = {'throughput': 2000, 'cpu-per-message': 5200, 'p50': 51e3, 'p99': 240e3, 'p99.9': 1.9e6};
  const ratio = {'throughput': 1.001, 'cpu-per-message': 0.91, 'p50': 1.02, 'p99': 1.31, 'p99.9': 0.8};
  const spread = {'throughput': 0.002, 'cpu-per-message': 0.02, 'p50': 0.03, 'p99': 0.2, 'p99.9': 0.7};
  const verdict = {'throughput': 'no-difference', 'cpu-per-message': 'better', 'p50': 'no-difference',
    'p99': 'worse', 'p99.9': 'inconclusive'};
  const interval = (metric, value) => ({low: value / (1 + spread[metric]), high: value * (1 + spread[metric])});
  const values = (metric, scale) => ({
    by_run: Array.from({length: 8}, (_, index) =>
      base[metric] * scale * (1 + spread[metric] * ((index * 5) % 8 - 3.5) / 5)),
    median: base[metric] * scale,
    interval: interval(metric, base[metric] * scale),
  });
  const side = (label, index) => ({
    label, command: null, binary_sha256: null, runs: 8,
    values: Object.fromEntries(metrics.map(metric => [metric, values(metric, index ? ratio[metric] : 1)])),
  });
  const finding = metric => ({
    metric, runs: 8, baseline: base[metric], value: base[metric] * ratio[metric], ratio: ratio[metric],
    interval: interval(metric, ratio[metric]), p_value: 0.0078, adjusted_p_value: 0.012,
    margin: {'p99': 0.5, 'p99.9': 1}[metric] ?? 0.1, verdict: verdict[metric],
    outlook: verdict[metric] === 'inconclusive' ? {more: 14} : null,
  });
  return {
    format: 'ringback-loadtest-comparison', version: 1, design: 'paired',
    settings: {metrics, min_effect: 0.02, margin: null, level: 0.05, is_closed_loop: false, seed: 1},
    args: ['ab', ...labels], started_at: run.started_at, workload: 'open loop, 2,000/s',
    sides: labels.map(side), noise: null,
    contrasts: labels.slice(1).map(label => ({
      side: label, baseline: labels[0], findings: metrics.map(finding), verdict: 'mixed',
    })),
    warnings: ['1 of 16 runs is SUSPECT'], environment: run.environment,
  };
}

function freePort() {
  return new Promise((done, failed) => {
    const listener = createServer().on('error', failed);
    listener.listen(0, '127.0.0.1', () => {
      const {port} = listener.address();
      listener.close(() => done(port));
    });
  });
}
