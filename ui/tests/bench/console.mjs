// Frames per second and key-to-pixel time of the console in Chromium, against crates/console/examples/rfb_source.
//   node tests/bench/console.mjs RFB_SOURCE_BINARY [SECONDS]
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { build } from 'vite';

const [binary, seconds = '5'] = process.argv.slice(2);
const root = fileURLToPath(new URL('.', import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'console-bench-'));
const port = 4191;
await build({
  root,
  configFile: false,
  logLevel: 'error',
  resolve: { alias: { '@': fileURLToPath(new URL('../../src', import.meta.url)) } },
  build: { outDir: out, emptyOutDir: true, rollupOptions: { input: join(root, 'console.html') } },
});
const source = spawn(binary, [String(port), out], { stdio: ['ignore', 'pipe', 'inherit'] });
await new Promise((resolve) => source.stdout.once('data', resolve));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox'],
});
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(`http://127.0.0.1:${port}/console.html`);
  const address = (pattern, size) => `ws://127.0.0.1:${port}/console/${pattern}-${size}`;
  for (const size of ['1280x800', '1920x1080']) {
    for (const pattern of ['video', 'scroll']) {
      const { fps, megabytes, busy } = await page.evaluate(
        ([a, s]) => window.bench.frames(a, s),
        [address(pattern, size), Number(seconds)],
      );
      console.log(
        `${size} ${pattern}: ${fps.toFixed(1)} fps, ${megabytes.toFixed(2)} MB a frame, page ${(busy * 100).toFixed(0)} % busy`,
      );
    }
    const [width, height] = size.split('x').map(Number);
    const fps = await page.evaluate(
      (all) => window.bench.plain(...all),
      [`ws://127.0.0.1:${port}/plain/${size}`, width, height, Number(seconds)],
    );
    console.log(`${size} plain frames, four bytes a pixel, no display: ${fps.toFixed(1)} fps`);
    const times = await page.evaluate((a) => window.bench.keys(a, 200), address('idle', size));
    const at = (share) => times[Math.floor(times.length * share)].toFixed(1);
    console.log(`${size} key to canvas: p50 ${at(0.5)} ms, p95 ${at(0.95)} ms`);
  }
} finally {
  await browser.close();
  source.kill();
  rmSync(out, { recursive: true });
}
