// A server of our own and a browser, each started for a test and stopped with it.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const PROJECT = process.env.PAYMENTS_API;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.SCREENSHOTS;

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export async function serve(...args) {
  const server = spawn("mix", ["run", "test/browser/serve.exs", ...args], {
    cwd: PROJECT,
    env: { ...process.env, MIX_ENV: "test" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const exited = new Promise((resolve) => server.once("exit", resolve));
  const port = await new Promise((resolve, reject) => {
    createInterface({ input: server.stdout }).on("line", (line) => line.startsWith("port ") && resolve(line.slice(5)));
    exited.then((code) => reject(new Error(`the server ended with ${code}`)));
  });
  const stop = async () => {
    // It ends with its standard input.
    server.stdin.end();
    await exited;
  };
  return { url: `http://127.0.0.1:${port}`, stop };
}

export async function browse() {
  const profile = mkdtempSync(join(tmpdir(), "payment-queue-browser-"));
  const browser = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, args: FLAGS, headless: true });
  const stop = async () => {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { browser, stop };
}

// A page, and whatever went wrong in it: errors, what the content security policy refused, requests to elsewhere.
export async function open(browser, url, { dark = false, width = 1360, height = 1100 } = {}) {
  const page = await browser.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("request", (request) => request.url().startsWith(new URL(url).origin) || faults.push(`asks ${request.url()}`));
  await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
  await page.setViewportSize({ width, height });
  await page.goto(url);
  await page.locator("#live[data-state=live]").waitFor();
  return { page, faults };
}

export async function screenshot(page, name) {
  if (!SCREENSHOTS) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
}
