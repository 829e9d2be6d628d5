// A ringback process under test: started on a port, known by the line it prints.
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {createInterface} from 'node:readline';

const START_MS = 10_000;
const DRAIN_MS = 20_000;

export async function startServer(binary, ...args) {
  const child = spawn(binary, args, {stdio: ['ignore', 'pipe', 'inherit']});
  const exited = once(child, 'exit');
  exited.catch(() => {}); // reported where it is awaited
  const line = await within(START_MS, `${binary} to say where it listens`, Promise.race([
    once(createInterface(child.stdout), 'line').then(([text]) => text),
    exited.then(([code, signal]) => { throw new Error(`${binary} ended at once: ${code ?? signal}`); }),
  ]));
  const port = /^listening ws:\/\/[^ ]*:(\d+)/.exec(line)?.[1];
  if (!port) {
    child.kill('SIGKILL');
    throw new Error(`${binary} printed no "listening ws://HOST:PORT" line but: ${line}`);
  }
  return {
    url: `http://127.0.0.1:${port}/`,
    port,
    // Ends the server as an operator does, and holds it to its exit status.
    async drain() {
      child.kill('SIGTERM');
      const [code, signal] = await within(DRAIN_MS, `${binary} to drain`, exited);
      if (code !== 0) throw new Error(`${binary} ended with ${code ?? signal} after SIGTERM, not 0`);
    },
    kill() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    },
  };
}

async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`waited ${ms / 1000} s for ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
