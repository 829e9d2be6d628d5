// usage: node check.mjs SERVER OUTDIR, see run.sh
import assert from 'node:assert/strict';
import {mkdir, mkdtemp, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {chromium} from 'playwright-core';
import {startServer} from './server.mjs';

const WAIT_MS = 15_000;
const RUN_MS = 180_000;
const DESKTOP = {width: 1280, height: 800};
const PHONE = {width: 375, height: 812};
const [target, outdir] = process.argv.slice(2);
const ownServer = !/^https?:/.test(target);

const servers = [];
async function serve(...args) {
  const server = await startServer(target, ...args);
  servers.push(server);
  return server;
}

let browser;
let profile;
let step = 'starting';
let passed = 0;
const watchdog = setTimeout(() => finish(new Error(`not done after ${RUN_MS / 1000} s`)), RUN_MS);

try {
  await mkdir(outdir, {recursive: true});
  await runAll();
  await finish();
} catch (error) {
  await finish(error);
}

async function runAll() {
  profile = await mkdtemp(join(tmpdir(), 'ringback-browser-'));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    viewport: DESKTOP,
    colorScheme: 'light',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  browser.setDefaultTimeout(WAIT_MS);

  const server = ownServer ? await serve('--listen', '127.0.0.1:0') : {url: target};
  const page = await openPage();
  const noise = listenForTrouble(page);

  await check('the page loads and connects', async () => {
    await page.goto(server.url);
    await page.locator('#state[data-state=open]').waitFor();
    assert.equal(await page.locator('#url').textContent(), server.url.replace(/^http/, 'ws'));
  });

  await check('the empty page fits a phone and a desktop', async () => {
    await shoot(page, 'empty');
  });

  await check('a message of 300 KiB comes back, and the log shows its start', async () => {
    const long = 'ringback '.repeat(34_134);
    await page.locator('#message').fill(long);
    await page.locator('#send').click();
    const entry = await echoed(page, long.slice(0, 20));
    assert.ok((await entry.locator('.text').last().textContent()).length < 1000, 'the log holds the whole of it');
  });

  await check('an empty message comes back', async () => {
    const before = await page.locator('#log [data-check=same]').count();
    await page.locator('#message').fill('');
    await page.keyboard.press('Enter');
    await until(async () => await page.locator('#log [data-check=same]').count() === before + 1, 'its entry');
  });

  await check('unicode, emoji, a byte order mark and line breaks come back as sent', async () => {
    await sendAndExpect(page, 'Grüße, κόσμε, 世界 שלום');
    await sendAndExpect(page, '👩‍🚀🏳️‍🌈🎉 e\u0301 \u{1F1EA}\u{1F1FA}');
    await sendAndExpect(page, '\uFEFFtwo\nlines');
    await sendAndExpect(page, '<img src=x onerror="alert(1)"> & <b>no markup</b>');
    assert.equal(await page.locator('#log img, #log b').count(), 0, 'a message became markup');
  });

  await check('a message comes back, with its round-trip time', async () => {
    await sendAndExpect(page, 'Hello, ringback.');
  });

  await check('pinging draws the chart and checks every echo', async () => {
    const before = await chartPixels(page);
    await page.locator('#interval').selectOption('10');
    await page.locator('#run').click();
    await until(async () => await number(page, 'count') >= 150, '150 echoes');
    assert.notEqual(await chartPixels(page), before, 'the chart did not change');
    await page.locator('#payload').selectOption('65536');
    await page.locator('#interval').selectOption('0');
    const was = await number(page, 'count');
    await until(async () => await number(page, 'count') >= was + 100, '100 echoes back to back');
    await page.locator('#payload').selectOption('1024');
    await page.locator('#interval').selectOption('100');
    assert.match(await page.locator('#tally').textContent(), /all bytes match$/);
    const [p50, p99, max] = await Promise.all(['p50', 'p99', 'max'].map(id => number(page, id)));
    assert.ok(p50 <= p99 && p99 <= max && max > 0, `p50 ${p50}, p99 ${p99}, max ${max}`);
  });

  await check('light, dark and phone width look right', async () => {
    await page.locator('#chart').hover();
    await until(async () => /^Echo [\d,]+: [\d.]+ ms/.test(await page.locator('#readout').textContent()), 'the readout');
    await page.mouse.move(0, 0);
    await shoot(page, 'busy');
  });

  await check('pinging stops, and the keyboard reaches every control', async () => {
    await page.locator('#run').click();
    await page.waitForTimeout(300);
    const still = await number(page, 'count');
    await page.waitForTimeout(400);
    assert.equal(await number(page, 'count'), still, 'echoes after the stop');
    assert.deepEqual(await tabOrder(page), ['message', 'send', 'clear', 'log', 'reset', 'chart', 'run', 'interval', 'payload']);
  });

  await check('disconnect and reconnect', async () => {
    await page.locator('#link').click();
    await page.locator('#state[data-state=closed]').waitFor();
    await page.locator('#log .event', {hasText: 'Closed 1000'}).first().waitFor();
    assert.ok(await page.locator('#send').isDisabled(), 'Send works without a connection');
    await page.locator('#link').click();
    await page.locator('#state[data-state=open]').waitFor();
    await sendAndExpect(page, 'back again');
  });

  await check('the log is bounded, and clears', async () => {
    const start = await number(page, 'count');
    for (let i = 1; i <= 110; i++) {
      await page.keyboard.press('Enter');
      if (i % 10 === 0) await until(async () => await number(page, 'count') >= start + i, 'the echoes');
    }
    assert.equal(await page.locator('#log li').count(), 100);
    await page.locator('#clear').click();
    assert.equal(await page.locator('#log li:not(.none)').count(), 0);
  });

  await check('an echo that differs is marked as different', async () => {
    const liar = await openPage();
    await liar.routeWebSocket(/./, ws => ws.onMessage(m =>
      ws.send(typeof m === 'string' ? m.toUpperCase() : Buffer.concat([m.subarray(0, -1), Buffer.of(m.at(-1) ^ 1)]))));
    await liar.goto(server.url);
    await liar.locator('#state[data-state=open]').waitFor();
    await liar.locator('#message').fill('quiet');
    await liar.keyboard.press('Enter');
    await liar.locator('#log [data-check=differs]', {hasText: 'differs'}).waitFor();
    await liar.locator('#run').click();
    await liar.locator('#tally.bad', {hasText: 'differ from what was sent'}).waitFor();
    await liar.screenshot({path: join(outdir, 'differs.png')});
    await liar.close();
  });

  await check('a message without an echo is shown as awaited, then as lost', async () => {
    const mute = await openPage();
    await mute.routeWebSocket(/./, ws => ws.onMessage(m => {
      if (m === 'close') ws.close({code: 1009, reason: 'too long for me'});
    }));
    await mute.goto(server.url);
    await mute.locator('#state[data-state=open]').waitFor();
    await mute.locator('#message').fill('anyone?');
    await mute.keyboard.press('Enter');
    await mute.locator('#log [data-check=waiting]', {hasText: 'anyone?'}).waitFor();
    await mute.locator('#message').fill('close');
    await mute.keyboard.press('Enter');
    await mute.locator('#log .event', {hasText: 'Closed 1009, message too big: “too long for me”'}).waitFor();
    await mute.locator('#log [data-check=lost]', {hasText: 'anyone?'}).waitFor();
    await mute.close();
  });

  await check('the console has no message', async () => assert.deepEqual(noise, []));

  if (!ownServer) return;

  await check('a drain shows Close 1001, and the server exits 0', async () => {
    await server.drain();
    await page.locator('#log .event', {hasText: 'Closed 1001'}).first().waitFor();
    await page.locator('#state[data-state=closed]', {hasText: 'retry in'}).waitFor();
    await page.screenshot({path: join(outdir, 'drained.png')});
  });

  await check('the page comes back when the server does', async () => {
    const again = await serve('--listen', `127.0.0.1:${server.port}`);
    await page.locator('#state[data-state=open]').waitFor({timeout: 2 * WAIT_MS});
    await sendAndExpect(page, 'after the restart');
    await page.close();
    await again.drain();
  });

  await check('the page uses the path that the server upgrades on', async () => {
    const server = await serve('--listen', '127.0.0.1:0', '--path', '/echo');
    const page = await openPage();
    await page.goto(server.url);
    await page.locator('#state[data-state=open]').waitFor();
    assert.match(await page.locator('#url').textContent(), /:\d+\/echo$/);
    await sendAndExpect(page, 'on a path');
    await page.close();
    await server.drain();
  });
}

// ---- steps -------------------------------------------------------------------

async function check(name, body) {
  step = name;
  const start = Date.now();
  await body();
  passed++;
  console.log(`ok  ${name} (${Date.now() - start} ms)`);
}

async function finish(error) {
  clearTimeout(watchdog);
  const clean = Promise.allSettled([browser?.close()]);
  await Promise.race([clean, new Promise(done => setTimeout(done, 5000))]);
  for (const server of servers) server.kill();
  if (profile) await rm(profile, {recursive: true, force: true, maxRetries: 3});
  if (error) {
    console.error(`browser check failed at "${step}": ${String(error.message).split('\n')[0]}`);
    process.exit(1);
  }
  console.log(`browser check: ${passed} checks passed, screenshots in ${outdir}`);
  process.exit(0);
}

// ---- the page, as a person uses it ---------------------------------------------

async function openPage() {
  const page = await browser.newPage();
  await page.emulateMedia({colorScheme: 'light'});
  return page;
}

function listenForTrouble(page) {
  const noise = [];
  page.on('console', message => noise.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', error => noise.push(`uncaught: ${error.message}`));
  page.on('requestfailed', request => noise.push(`request failed: ${request.url()}`));
  page.on('response', response => {
    if (response.status() >= 400) noise.push(`${response.status()} for ${response.url()}`);
  });
  return noise;
}

async function sendAndExpect(page, text) {
  await page.locator('#message').fill(text);
  await page.locator('#message').press('Enter');
  const entry = await echoed(page, text);
  assert.deepEqual(await entry.locator('.text').allTextContents(), [text, text]);
}

// The newest entry, once its echo has come and is found the same.
async function echoed(page, start) {
  const entry = page.locator('#log li').first();
  await until(async () => ['same', 'differs'].includes(await entry.getAttribute('data-check'))
    && (await entry.locator('.text').first().textContent()).startsWith(start), `the echo of ${JSON.stringify(start)}`);
  assert.equal(await entry.getAttribute('data-check'), 'same');
  assert.match(await entry.locator('.rtt').textContent(), /^\d+(\.\d+)? ms$/);
  return entry;
}

async function number(page, id) {
  return Number((await page.locator(`#${id}`).textContent()).replaceAll(',', ''));
}

async function chartPixels(page) {
  return page.locator('#chart').evaluate(canvas => canvas.toDataURL());
}

async function tabOrder(page) {
  await page.locator('#message').focus();
  const seen = [];
  for (;;) {
    const id = await page.evaluate(() => document.activeElement.id);
    if (!id || seen.includes(id) || id === 'link') return seen;
    seen.push(id);
    await page.keyboard.press('Tab');
  }
}

async function shoot(page, name) {
  for (const [suffix, colorScheme, viewport] of [
    ['light', 'light', DESKTOP], ['dark', 'dark', DESKTOP],
    ['phone', 'light', PHONE], ['phone-dark', 'dark', PHONE],
  ]) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({colorScheme});
    await page.waitForTimeout(250); // the chart redraws on the next frame
    const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(content <= window, `${suffix}: ${content} px wide in a window of ${window} px`);
    await page.screenshot({path: join(outdir, `${name}-${suffix}.png`), fullPage: true});
  }
  await page.setViewportSize(DESKTOP);
  await page.emulateMedia({colorScheme: 'light'});
}

async function until(condition, what) {
  const end = Date.now() + WAIT_MS;
  while (!await condition()) {
    if (Date.now() > end) throw new Error(`waited ${WAIT_MS / 1000} s for ${what}`);
    await new Promise(done => setTimeout(done, 25));
  }
}
