// The dashboard as people meet it: with a mouse, with the keyboard alone, with a screen reader, in the dark, on a phone.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { browse, open, screenshot, serve } from "./browser.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const QUEUES = ["MyApp.Webhooks", "payments", "refunds"];

let browser;
let stopBrowser;
before(async () => ({ browser, stop: stopBrowser } = await browse()));
after(() => stopBrowser());

// By the devtools, because the page's own policy would refuse it.
async function violations(page) {
  await page.evaluate(AXE);
  const { violations, passes } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  assert.ok(passes.length > 10, "axe has looked at the page");
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`);
}

const text = (page, selector) => page.locator(selector).textContent();
const reaches = (page, selector, wanted) =>
  page.waitForFunction(([selector, wanted]) => document.querySelector(selector).textContent === wanted, [selector, wanted]);

describe("somebody who may operate the queues", () => {
  let server;
  let page;
  let faults;
  before(async () => (server = await serve()));
  after(() => server.stop());
  afterEach(async () => {
    await page?.close();
    assert.deepEqual(faults, [], "no error, nothing refused by the policy, nothing asked elsewhere");
  });

  const show = async (queue, options) => ({ page, faults } = await open(browser, `${server.url}/dashboard#${queue}`, options));

  const metric = async (name) => {
    const lines = (await (await fetch(`${server.url}/metrics`)).text()).split("\n");
    return Number(lines.find((line) => line.startsWith(`payment_queue_${name}`)).split(" ").at(-1));
  };

  test("sees all queues, and the one looked at live", async () => {
    await show("payments");
    assert.deepEqual(await page.locator("nav .name").allTextContents(), QUEUES);
    assert.equal(await page.locator("nav [aria-current=true] .name").textContent(), "payments");
    assert.equal(await text(page, "#name"), "payments");
    const done = await text(page, "#totals dd:nth-of-type(2)");
    await page.waitForFunction((done) => document.querySelectorAll("#totals dd")[1].textContent !== done, done);
    await page.waitForFunction(() => /\d ms$/.test(document.querySelector("#t-handler").textContent));
    assert.match(await page.locator(".plot").nth(3).getAttribute("aria-label"), /^Handler time, .* 99 %: now .* ms, highest .* ms/);
    // The blue of the first series: the chart is drawn.
    await page.waitForFunction(() => {
      const canvas = document.querySelector("canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.some((_, i) => i % 4 === 0 && data[i] === 0x1d && data[i + 1] === 0x5f && data[i + 2] === 0xd1);
    });
    await screenshot(page, "light");
  });

  test("sees dead letters with their reasons and without their payloads", async () => {
    await show("refunds");
    await page.locator("#dead tr").nth(19).waitFor();
    assert.equal(await text(page, "#t-dead"), "25");
    assert.equal(await page.locator("#dead tr").count(), 20);
    const reasons = new Set(await page.locator("#dead td:nth-child(2)").allTextContents());
    assert.deepEqual([...reasons].sort(), [":account_closed", ":unknown_iban", '{:declined, "no funds", 51}']);
    assert.ok(await page.locator("#payload-column").isHidden());
    await screenshot(page, "dead-letters");
    await page.setViewportSize({ width: 360, height: 740 });
    assert.equal(await page.locator("#dead-scroll").evaluate((box) => box.scrollWidth - box.clientWidth), 0, "whole on a phone");
    await screenshot(page, "dead-letters-phone");
  });

  test("pauses and resumes", async () => {
    await show("payments");
    await page.getByRole("button", { name: "Pause", exact: true }).click();
    await reaches(page, "#state", "paused");
    assert.equal(await text(page, "#result"), "payments is paused: it accepts items and hands none out");
    assert.equal(await metric('state{queue="payments",state="paused"}'), 1);
    await page.getByRole("button", { name: "Resume", exact: true }).click();
    await reaches(page, "#state", "running");
    assert.equal(await metric('state{queue="payments",state="paused"}'), 0);
  });

  test("changes the number of workers, and is told what is not a number of workers", async () => {
    await show("payments");
    await page.getByRole("spinbutton", { name: "Workers" }).fill("11");
    await page.getByRole("button", { name: "Set", exact: true }).click();
    await reaches(page, "#workers dd", "11");
    assert.equal(await text(page, "#announcer"), "payments has 11 workers now");
    const answer = await page.evaluate(() => operate("scale", "-1").then(() => document.querySelector("#result").textContent));
    assert.equal(answer, "the number of workers must be between 0 and 65535");
    faults.splice(0, 1, ...faults.filter((fault) => !fault.includes("422")));
  });

  test("does everything by keyboard", async () => {
    await show("payments");
    const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
    const tabTo = async (wanted) => {
      for (let i = 0; i < 20; i++) {
        await page.keyboard.press("Tab");
        if ((await focused()).startsWith(wanted)) return;
      }
      assert.fail(`Tab never comes to ${wanted}`);
    };
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Skip to the queue");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, "solid", "the focus is seen");
    await tabTo("refunds");
    await page.keyboard.press("Enter");
    await reaches(page, "#name", "refunds");
    await page.locator("#requeue").waitFor();
    await tabTo("Pause");
    await page.keyboard.press("Space");
    await reaches(page, "#state", "paused");
    assert.equal(await focused(), "Resume", "the focus stays");
    await tabTo("workers-wanted");
    await page.keyboard.press("Control+a");
    await page.keyboard.type("3");
    await page.keyboard.press("Enter");
    await reaches(page, "#workers dd", "3");

    await tabTo("Put all back");
    await page.keyboard.press("Enter");
    assert.equal(await focused(), "Cancel", "the harmless answer is the first");
    assert.deepEqual(await violations(page), []);
    await page.keyboard.press("Escape");
    assert.equal(await text(page, "#t-dead"), "25");
    assert.equal(await focused(), "Put all back");
    await page.keyboard.press("Enter");
    await tabTo("Put back");
    await page.keyboard.press("Enter");
    // Paused, so they stay where they were put.
    await reaches(page, "#t-dead", "0");
    assert.equal(await text(page, "#announcer"), "25 dead letters put back into refunds");
    await reaches(page, "#t-waiting", "25");
    assert.equal(await metric('dead_letters{queue="refunds"}'), 0);
  });

  for (const dark of [false, true]) {
    test(`has nothing for axe to complain about, ${dark ? "dark" : "light"}`, async () => {
      for (const queue of QUEUES) {
        await show(queue === "MyApp.Webhooks" ? "Elixir.MyApp.Webhooks" : queue, { dark });
        await reaches(page, "#name", queue);
        for (const summary of await page.locator("summary").all()) await summary.click();
        assert.deepEqual(await violations(page), []);
        if (queue !== QUEUES.at(-1)) await page.close();
      }
    });
  }

  test("follows the colour scheme, also while it is open", async () => {
    await show("payments", { dark: true });
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const night = await ground();
    await screenshot(page, "dark");
    await page.emulateMedia({ colorScheme: "light" });
    assert.notEqual(await ground(), night);
  });

  test("reads it on a phone", async () => {
    await show("payments", { width: 360, height: 740 });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0, "no scrolling sideways");
    await screenshot(page, "phone");
  });

  test("shows a queue whatever stands in the address", async () => {
    await show("%");
    assert.equal(await text(page, "#name"), QUEUES[0]);
  });

  test("is refused without the page's token, or with another browser's", async () => {
    await show("payments");
    const post = (token) =>
      page.evaluate((token) => {
        const headers = token ? { "x-csrf-token": token } : {};
        const body = new URLSearchParams({ queue: "payments", operation: "pause" });
        return fetch("/dashboard/operations", { method: "POST", headers, body }).then((answer) => answer.status);
      }, token);
    const other = await (await fetch(`${server.url}/dashboard`)).text();
    const [, token] = other.match(/name="csrf-token" content="([^"]+)"/);
    assert.equal(await post(null), 403);
    assert.equal(await post(token), 403);
    assert.equal(await text(page, "#state"), "running");
    assert.equal(await post(await page.evaluate(() => TOKEN)), 200);
    await reaches(page, "#state", "paused");
    await page.getByRole("button", { name: "Resume", exact: true }).click();
    await reaches(page, "#state", "running");
    faults.splice(0, faults.length, ...faults.filter((fault) => !fault.includes("403")));
  });
});

describe("somebody who may only look", () => {
  test("has nothing to operate with, and is told when the server goes", async () => {
    const server = await serve("--view-only");
    const { page, faults } = await open(browser, `${server.url}/dashboard#refunds`);
    await page.locator("#dead tr").nth(19).waitFor();
    assert.ok(await page.getByText("View only").isVisible());
    assert.equal(await page.locator("main button:visible").count(), 0);
    const forged = await page.evaluate(() =>
      fetch("/dashboard/operations", { method: "POST", body: new URLSearchParams({ queue: "refunds", operation: "pause" }) }).then(({ status }) => status),
    );
    assert.equal(forged, 403);
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults.filter((fault) => !fault.includes("403")), []);
    await screenshot(page, "view-only");
    await server.stop();
    await page.locator("#live[data-state=lost]").waitFor();
    assert.equal(await text(page, "#announcer"), "Connection lost, trying again");
    await page.close();
  });
});

test("the vendored chart library is the published one", () => {
  const published = createRequire(import.meta.url).resolve("uplot/package.json").replace(/package\.json$/, "");
  const vendored = join(process.env.PAYMENTS_API, "../../lib/payment_queue/dashboard/vendor/uPlot");
  for (const [file, folder] of [["uPlot.iife.min.js", "dist"], ["uPlot.min.css", "dist"], ["LICENSE", "."]]) {
    assert.ok(readFileSync(join(vendored, file)).equals(readFileSync(join(published, folder, file))), file);
  }
});
