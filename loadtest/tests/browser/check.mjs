// usage: node check.mjs LOADTEST SERVER OUTDIR, see run.sh
import assert from 'node:assert/strict';
import {execFileSync} from 'node:child_process';
import {readFileSync, statSync} from 'node:fs';
import {mkdir, mkdtemp, rm} from 'node:fs/promises';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {join, resolve} from 'node:path';
import {pathToFileURL} from 'node:url';
import {HOSTILE, makeInputs} from './inputs.mjs';

const require = createRequire(new URL('../../../tests/browser/package.json', import.meta.url));
const {chromium} = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const RUN_MS = 480_000;
const WIDTHS = [320, 375, 768, 1280];
const SHOWN_WIDTHS = [320, 1280];
const PAGE_BYTES_MAX = 2 << 20;
// The contrast that WCAG 1.4.11 requires of graphics.
const CONTRAST_MIN = 3;
const [loadtest, server, outdir] = process.argv.slice(2).map(path => resolve(path));

let browser;
let profile;
let step = 'starting';
let passed = 0;
let failed = 0;
const watchdog = setTimeout(() => finish(new Error(`not done after ${RUN_MS / 1000} s`)), RUN_MS);

try {
  await mkdir(outdir, {recursive: true});
  await runAll();
  await finish();
} catch (error) {
  await finish(error);
}

async function runAll() {
  profile = await mkdtemp(join(tmpdir(), 'loadtest-browser-'));
  const inputs = await makeInputs(loadtest, server, profile);
  browser = await chromium.launchPersistentContext(join(profile, 'browser'), {
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const reports = {
    one: inputs.runs.slice(0, 1),
    all: [...inputs.runs, inputs.comparison, inputs.sweep],
    many: inputs.many,
    hostile: inputs.hostile,
  };
  for (const [name, files] of Object.entries(reports)) {
    const path = join(outdir, `${name}.html`);
    execFileSync(loadtest, ['report', ...files, '-o', path, '--title', name === 'hostile' ? HOSTILE[3] : `Report: ${name}`],
      {stdio: 'ignore'});
    await checkReport(name, path);
  }
}

async function checkReport(name, path) {
  const page = await browser.newPage();
  const noise = listenForTrouble(page, path);
  await page.goto(pathToFileURL(path).href);

  await check(`${name}: the page is of a bounded length`, async () => {
    assert.ok(statSync(path).size < PAGE_BYTES_MAX, `${statSync(path).size} bytes`);
  });
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({colorScheme});
    await check(`${name}: it fits and is readable, ${colorScheme}`, async () => {
      for (const width of WIDTHS) {
        await page.setViewportSize({width, height: 900});
        await assertFits(page, width);
        const path = join(outdir, `${name}-${colorScheme}-${width}.png`);
        if (SHOWN_WIDTHS.includes(width)) await page.screenshot({path, fullPage: true});
        assert.deepEqual(await page.evaluate(coveredWords), [], `${width} px`);
      }
    });
    await check(`${name}: the table of runs shows their verdicts, ${colorScheme}`, async () => {
      await page.setViewportSize({width: 1280, height: 900});
      assert.deepEqual(await page.evaluate(hiddenVerdicts), []);
    });
    await check(`${name}: colors contrast with the background, ${colorScheme}`, async () => {
      const weak = (await page.evaluate(contrasts)).filter(([, ratio]) => ratio < CONTRAST_MIN);
      assert.deepEqual(weak, []);
    });
    await check(`${name}: axe finds nothing, ${colorScheme}`, async () => {
      await page.locator('details').evaluateAll(all => all.forEach(details => { details.open = true; }));
      for (const width of [375, 1280]) {
        await page.setViewportSize({width, height: 900});
        assert.deepEqual(await violations(page), [], `${width} px`);
      }
      await assertFits(page, 1280);
      await page.locator('details').evaluateAll(all => all.forEach(details => { details.open = false; }));
    });
  }
  await check(`${name}: every drawing has a name and a description`, async () => {
    assert.deepEqual(await page.evaluate(namelessDrawings), []);
  });
  await check(`${name}: the keyboard reaches all that scrolls and opens`, async () => assertKeyboard(page));
  await check(`${name}: nothing in the files became markup`, async () => {
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.deepEqual(await page.evaluate(foreignMarkup), []);
  });
  if (name === 'hostile') {
    await check('hostile: labels are shown as they are', async () => {
      const text = await page.locator('body').innerText();
      for (const label of HOSTILE) assert.ok(text.includes(label), label);
    });
  }
  await check(`${name}: it prints`, async () => {
    await page.emulateMedia({media: 'print'});
    await page.setViewportSize({width: 720, height: 1000});
    await assertFits(page, 720);
    await page.screenshot({path: join(outdir, `${name}-print.png`), fullPage: true});
    await page.pdf({path: join(outdir, `${name}.pdf`), format: 'A4'});
  });
  await check(`${name}: nothing was fetched, and nothing printed on the console`, async () => assert.deepEqual(noise, []));
  await page.close();
}

// ---- steps -------------------------------------------------------------------

async function check(name, body) {
  step = name;
  const start = Date.now();
  try {
    await body();
    passed++;
    console.log(`ok  ${name} (${Date.now() - start} ms)`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}: ${error.message}`);
  }
}

async function finish(error) {
  clearTimeout(watchdog);
  const clean = Promise.allSettled([browser?.close()]);
  await Promise.race([clean, new Promise(done => setTimeout(done, 5000))]);
  if (profile) await rm(profile, {recursive: true, force: true, maxRetries: 3});
  if (error) {
    console.error(`report check ended at "${step}": ${error.message}`);
    process.exit(1);
  }
  if (failed > 0) {
    console.error(`report check: ${failed} of ${passed + failed} checks failed`);
    process.exit(1);
  }
  console.log(`report check: ${passed} checks passed, pages and screenshots in ${outdir}`);
  process.exit(0);
}

// ---- from outside the page -----------------------------------------------------

function listenForTrouble(page, path) {
  const noise = [];
  page.on('console', message => noise.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', error => noise.push(`uncaught: ${error.message}`));
  page.on('dialog', dialog => noise.push(`dialog: ${dialog.message()}`));
  page.on('request', request => {
    if (request.url() !== pathToFileURL(path).href) noise.push(`request: ${request.url()}`);
  });
  return noise;
}

async function assertFits(page, width) {
  const content = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(content <= width, `${content} px wide in a window of ${width} px`);
}

// The page's policy forbids scripts in it; this one comes from outside.
async function violations(page) {
  await page.evaluate(axe);
  const {violations} = await page.evaluate(() => axe.run());
  return violations.map(({id, nodes}) => `${id}: ${nodes.slice(0, 3).map(node => node.html.slice(0, 120)).join(' | ')}`);
}

async function assertKeyboard(page) {
  await page.setViewportSize({width: 375, height: 900});
  await page.locator('details').evaluateAll(all => all.forEach(details => { details.open = true; }));
  const waiting = await page.evaluate(() => {
    const all = [...document.querySelectorAll('.scroll, summary, nav a')];
    all.forEach((element, index) => { element.dataset.stop = index; });
    return all.length;
  });
  const reached = new Set();
  await page.evaluate(() => document.activeElement?.blur());
  for (let press = 0; press < waiting + 20 && reached.size < waiting; press++) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => document.activeElement?.dataset.stop);
    if (stop !== undefined) reached.add(stop);
  }
  assert.equal(reached.size, waiting);
  await page.locator('details').evaluateAll(all => all.forEach(details => { details.open = false; }));
  await page.locator('summary').first().focus();
  await page.keyboard.press('Enter');
  assert.ok(await page.locator('details').first().evaluate(details => details.open), 'Enter opens no details');
  await page.keyboard.press('Enter');
}

// ---- inside the page, each a function of its own -------------------------------

// Labels of a drawing that overlap or exceed it.
function coveredWords() {
  const SLACK = 1;
  const problems = [];
  for (const svg of document.querySelectorAll('svg.plot')) {
    const frame = svg.getBoundingClientRect();
    if (frame.width === 0) continue;
    const words = [...svg.querySelectorAll('text')].map(text => [text.firstChild.data, text.getBoundingClientRect()]);
    words.forEach(([word, box], index) => {
      if (box.left < frame.left - SLACK || box.right > frame.right + SLACK || box.bottom > frame.bottom + SLACK) {
        problems.push(`${svg.firstChild.textContent}: "${word}" leaves it`);
      }
      for (const [other, its] of words.slice(index + 1)) {
        const across = Math.min(box.right, its.right) - Math.max(box.left, its.left);
        const down = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
        if (across > SLACK && down > 4) problems.push(`${svg.firstChild.textContent}: "${word}" and "${other}"`);
      }
    });
  }
  return problems;
}

// Verdicts that are visible only after horizontal scrolling.
function hiddenVerdicts() {
  const badges = [...document.querySelectorAll('.runs tbody .badge')];
  return badges.filter(badge => {
    const frame = badge.closest('.scroll').getBoundingClientRect();
    const box = badge.getBoundingClientRect();
    return box.left < frame.left || box.right > frame.right;
  }).map(badge => badge.closest('tr').innerText);
}

function contrasts() {
  const style = getComputedStyle(document.documentElement);
  const luminance = name => {
    const hex = style.getPropertyValue(name).trim().slice(1);
    const [r, g, b] = [0, 2, 4].map(at => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = luminance('--paper');
  const names = ['--ink', '--quiet', '--good', '--bad', ...Array.from({length: 8}, (_, index) => `--s${index}`)];
  return names.map(name => {
    const [dark, light] = [luminance(name), paper].sort((a, b) => a - b);
    return [name, (light + 0.05) / (dark + 0.05)];
  });
}

function namelessDrawings() {
  const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
  const twice = ids.filter((id, index) => ids.indexOf(id) !== index);
  const nameless = [...document.querySelectorAll('svg:not([aria-hidden=true])')].filter(svg => {
    const named = svg.getAttribute('aria-labelledby')?.split(' ') ?? [];
    return svg.getAttribute('role') !== 'img' || named.length !== 2
      || named.some(id => !document.getElementById(id)?.textContent.trim());
  });
  return [...twice, ...nameless.map(svg => svg.outerHTML.slice(0, 80))];
}

function foreignMarkup() {
  const foreign = [...document.querySelectorAll('script, img, iframe, object, embed, link, form, base, [src], [srcset]')];
  const handlers = [...document.querySelectorAll('*')].filter(element =>
    element.getAttributeNames().some(name => name.startsWith('on') || name === 'style'));
  const links = [...document.querySelectorAll('a')].filter(link => !link.getAttribute('href').startsWith('#'));
  return [...foreign, ...handlers, ...links].map(element => element.outerHTML.slice(0, 80));
}
