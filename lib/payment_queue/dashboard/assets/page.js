"use strict";

const meta = (name) => document.querySelector(`meta[name=${name}]`).content;
const byId = (id) => document.getElementById(id);
const set = (id, text) => { const element = byId(id); if (element.textContent !== text) element.textContent = text; };

const TOKEN = meta("csrf-token");
const HOST_TOKEN = meta("host-token");
const INTERVAL_S = Number(meta("interval")) / 1000;
const BASE = location.pathname.replace(/\/+$/, "");
// A page that nobody sees asks for nothing; but going to another tab for a moment leaves no gap.
const HIDDEN_MS = 60_000;
const RETRY_MS = 3_000;

let source = null;
let shown = null;
let state = null;
let hiddenTimer = null;

const change = (event) => event.queue.change;
const charts = [
  new Chart({ title: "Waiting and in flight", series: ["Waiting", "In flight"], show: format.count, least: 5, read: ({ queue }) => [queue.info.queue_size, queue.info.in_flight] }),
  new Chart({ title: "Items per second", series: ["Accepted", "Done"], show: format.rate, least: 5, read: (event) => [change(event)?.enqueued, change(event)?.settled] }),
  new Chart({ title: "Waiting time", series: ["Median", "90 %", "99 %"], show: format.duration, least: 100, read: (event) => percentiles(change(event)?.wait_us) }),
  new Chart({ title: "Handler time", series: ["Median", "90 %", "99 %"], show: format.duration, least: 100, read: (event) => percentiles(change(event)?.handler_us) }),
];

function percentiles(times) {
  return times ? [times.p50, times.p90, times.p99] : [null, null, null];
}

// --- the stream ----------------------------------------------------------------------------------------------------

function connect(queue) {
  source?.close();
  // A browser asks for a stream with a header that a Phoenix pipeline for pages refuses; this it believes instead.
  const query = new URLSearchParams({ _format: "html", ...(queue && { queue }) });
  const mine = (source = new EventSource(`${BASE}/events?${query}`));
  mine.onmessage = ({ data }) => { if (mine === source) receive(JSON.parse(data)); };
  mine.onerror = () => {
    if (mine !== source) return;
    live("lost", "Connection lost, trying again");
    // The browser tries again by itself, except after an answer that was no stream.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => { if (mine === source) connect(queue); }, RETRY_MS);
  };
}

function live(kind, text) {
  const element = byId("live");
  if (element.dataset.state === kind) return;
  if (kind === "lost" || element.dataset.state === "lost") announce(text);
  element.dataset.state = kind;
  set("live-text", text);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (!document.hidden) { if (!source) connect(wanted()); return; }
  hiddenTimer = setTimeout(() => { source?.close(); source = null; }, HIDDEN_MS);
});

// --- showing -------------------------------------------------------------------------------------------------------

function receive(event) {
  live("live", "Live");
  set("node", event.node);
  showQueues(event);
  const none = !event.queue;
  byId("empty").hidden = !none;
  const wasHidden = byId("detail").hidden;
  byId("detail").hidden = none;
  if (none) return;
  if (shown !== event.queue.id) { shown = event.queue.id; state = null; charts.forEach((chart) => chart.clear()); }
  if (wasHidden) charts.forEach((chart) => chart.draw());
  showQueue(event.queue);
  charts.forEach((chart) => chart.add(event));
  if (event.dead) showDead(event.dead);
}

function showQueues({ queues, queue }) {
  byId("queues").hidden = queues.length < 2;
  set("queues-count", String(queues.length));
  const list = byId("queue-list");
  const names = queues.map(({ id }) => id).join("\n");
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...queues.map(queueButton));
  }
  queues.forEach((each, i) => {
    const button = list.children[i].firstElementChild;
    button.setAttribute("aria-current", String(each.id === queue?.id));
    const [, depth, note] = button.children;
    depth.textContent = format.count(each.queue_size);
    note.textContent = each.state === "running" ? `${format.count(each.in_flight)} in flight` : `${each.state}, ${format.count(each.in_flight)} in flight`;
  });
}

function queueButton({ id, label }) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  for (const [className, text] of [["name", label], ["depth", ""], ["small", ""]]) {
    const span = document.createElement("span");
    span.className = className;
    span.textContent = text;
    button.append(span);
  }
  button.addEventListener("click", () => { location.hash = encodeURIComponent(id); });
  item.append(button);
  return item;
}

function showQueue(queue) {
  const { info, settings, taken, workers, change } = queue;
  set("name", queue.label);
  document.title = `${queue.label}: ${format.count(info.queue_size)} waiting`;
  showState(queue.label, info.state);

  set("t-waiting", format.count(info.queue_size));
  const meter = byId("t-meter");
  Object.assign(meter, { max: settings.capacity, high: settings.capacity * 0.9, low: settings.capacity * 0.7, optimum: 0, value: taken ?? 0 });
  set("t-capacity", `room for ${format.count(settings.capacity)}`);
  set("t-in-flight", format.count(info.in_flight));
  set("t-scheduled", `${format.count(info.scheduled)} scheduled`);
  set("t-done", format.rate(change?.settled));
  set("t-accepted", `${format.rate(change?.enqueued)} accepted`);
  set("t-refused", format.rate(change?.rejected_full));
  set("t-refused-total", `${format.count(info.rejected_full)} in all`);
  set("t-wait", format.duration(change?.wait_us?.p99));
  set("t-wait-median", `median ${format.duration(change?.wait_us?.p50)}`);
  set("t-handler", format.duration(change?.handler_us?.p99));
  set("t-handler-median", `median ${format.duration(change?.handler_us?.p50)}`);
  set("t-oldest", info.oldest_ms ? format.duration(info.oldest_ms * 1000) : "–");
  set("t-dead", format.count(info.dead));
  set("t-dropped", `${format.count(info.dead_dropped)} dropped`);
  byId("t-dead-tile").className = info.dead ? "alarm" : "";

  facts("workers", [
    ...(workers ? [["Wanted", format.count(workers.target)], ["Running", format.count(workers.running)]] : [["Workers here", "none"]]),
    ["Consumers known to the queue", format.count(info.consumers)],
    ["Parked, waiting for an item", format.count(info.parked)],
  ]);
  facts("totals", [
    ["Accepted", format.count(info.enqueued)], ["Done", format.count(info.settled)],
    ["Came back", format.count(info.redelivered)], ["Refused, full", format.count(info.rejected_full)],
    ["Purged", format.count(info.purged)],
    ["Longest wait", format.duration(info.wait_us?.max || null)], ["Longest in a handler", format.duration(info.handler_us?.max || null)],
  ]);
  facts("settings", [
    ["Memory of the queue", format.bytes(info.memory)], ["Payload waiting", format.bytes(info.bytes)],
    ["Room for payload", format.bytes(settings.max_bytes)], ["Largest payload", format.bytes(settings.max_payload_bytes)],
    ["Attempts per item", format.count(settings.max_attempts)], ["Dead letters kept", `at most ${format.count(settings.max_dead)}`],
  ]);

  set("dead-note", info.dead === null ? "Not known: the servers do not answer." : info.dead === 0 ? "None." : info.dead > 20 ? `${format.count(info.dead)}; the oldest 20 are shown` : "");
  byId("dead-scroll").hidden = !info.dead;
  if (TOKEN) showOperations(info, workers);
}

function showState(label, now) {
  if (state === now) return;
  if (state !== null) announce(`${label} is ${now}`);
  state = now;
  set("state", now);
  byId("state").dataset.state = now;
}

function showOperations(info, workers) {
  byId("operations").hidden = info.state === "offline";
  set("pause", info.state === "running" ? "Pause" : info.state === "closed" ? "Open" : "Resume");
  byId("scale").hidden = !workers;
  const input = byId("workers-wanted");
  // Not while somebody is typing, or has typed and not yet sent.
  if (workers && input.dataset.target !== `${shown} ${workers.target}`) {
    input.dataset.target = `${shown} ${workers.target}`;
    input.value = workers.target;
  }
  byId("requeue").hidden = !info.dead;
}

function facts(id, pairs) {
  const list = byId(id);
  if (list.children.length !== pairs.length * 2) {
    list.replaceChildren(...pairs.flatMap(() => [document.createElement("dt"), document.createElement("dd")]));
  }
  pairs.flat().forEach((text, i) => { if (list.children[i].textContent !== text) list.children[i].textContent = text; });
}

function showDead(letters) {
  const payloads = letters.some(({ payload }) => payload !== null);
  byId("payload-column").hidden = !payloads;
  byId("dead").replaceChildren(...letters.map((letter) => {
    const tr = document.createElement("tr");
    const cell = (className, content) => { const td = document.createElement("td"); td.className = className; td.append(content); tr.append(td); };
    const code = (text) => { const element = document.createElement("code"); element.textContent = text; return element; };
    cell("nowrap", format.date(letter.died_at));
    cell("", code(letter.reason));
    cell("number", String(letter.attempts));
    if (payloads) cell("", code(letter.payload ?? ""));
    return tr;
  }));
}

// --- operating -----------------------------------------------------------------------------------------------------

async function operate(operation, value = "") {
  const buttons = [byId("pause"), byId("requeue"), ...byId("operations").querySelectorAll("button")];
  buttons.forEach((button) => button.setAttribute("aria-disabled", "true"));
  try {
    const answer = await fetch(`${BASE}/operations`, {
      method: "POST",
      headers: { "x-csrf-token": TOKEN },
      body: new URLSearchParams({ queue: shown, operation, value, ...(HOST_TOKEN && { _csrf_token: HOST_TOKEN }) }),
    });
    const { message } = await answer.json().catch(() => ({ message: `the server answered ${answer.status}` }));
    result(message, answer.ok);
  } catch {
    result("the server did not answer", false);
  } finally {
    buttons.forEach((button) => button.removeAttribute("aria-disabled"));
  }
}

function result(message, good) {
  const element = byId("result");
  element.hidden = false;
  element.dataset.kind = good ? "good" : "bad";
  element.textContent = message;
  announce(message);
}

function announce(text) {
  byId("announcer").textContent = text;
}

byId("pause").addEventListener("click", () => operate(state === "running" ? "pause" : "resume"));
byId("operations").addEventListener("submit", (event) => { event.preventDefault(); operate("scale", byId("workers-wanted").value); });
byId("requeue").addEventListener("click", () => {
  set("confirm-text", `Put ${byId("t-dead").textContent} dead letters back into ${byId("name").textContent}? Their handlers run again.`);
  byId("confirm").showModal();
});
byId("confirm").addEventListener("close", () => { if (byId("confirm").returnValue === "yes") operate("requeue_dead"); byId("confirm").returnValue = ""; });

// --- start ---------------------------------------------------------------------------------------------------------

const wanted = () => {
  const name = location.hash.slice(1);
  // Somebody may have typed it.
  try { return decodeURIComponent(name) || null; } catch { return name; }
};
byId("charts").append(...charts.map((chart) => chart.figure));
byId("mode").hidden = TOKEN !== "";
window.addEventListener("hashchange", () => { byId("result").hidden = true; connect(wanted()); });
window.addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.draw()));
connect(wanted());
