"use strict";
// Line charts over the last minutes: drawn by uPlot, described in words, and as a table for whoever asks for one.

const WINDOW_S = 300;
const SHORTEST_S = 60;
const TABLE_ROWS = 15;

class Chart {
  // series: names; read(event): one value, or null, for each of them; least: the height of the scale while all is quiet.
  constructor({ title, series, show, read, least }) {
    Object.assign(this, { title, series, show, read, least });
    const figure = document.getElementById("chart").content.firstElementChild.cloneNode(true);
    const find = (selector) => figure.querySelector(selector);
    find("h3").textContent = title;
    this.plotBox = find(".plot");
    this.values = series.map((name, i) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.dataset.series = i;
      const value = document.createElement("b");
      item.append(swatch, `${name} `, value);
      find(".legend").append(item);
      return value;
    });
    this.details = find("details");
    this.details.querySelector(".scroll").setAttribute("aria-label", `${title}, as a table`);
    this.details.addEventListener("toggle", () => this.fillTable());
    find("thead").append(row("th", ["Time", ...series]));
    this.tbody = find("tbody");
    this.figure = figure;
    this.clear();
  }

  clear() {
    this.data = [[], ...this.series.map(() => [])];
    this.refresh();
  }

  add(event) {
    const at = event.at_ms / 1000;
    const [times] = this.data;
    // After a pause, a gap rather than a straight line.
    if (times.length && at - times[times.length - 1] > 3 * INTERVAL_S + 2) this.push(at - INTERVAL_S, this.series.map(() => null));
    this.push(at, this.read(event));
    while (times[0] < at - WINDOW_S) this.data.forEach((column) => column.shift());
    this.refresh();
  }

  push(at, values) {
    [at, ...values].forEach((value, i) => this.data[i].push(value ?? null));
  }

  refresh() {
    this.legendAt(this.data[0].length - 1);
    this.describe();
    if (this.details.open) this.fillTable();
    if (this.plot) this.plot.setData(this.data);
  }

  legendAt(index) {
    this.values.forEach((element, i) => (element.textContent = this.show(this.data[i + 1][index])));
  }

  // Not read out by itself each second: it is there when somebody looks at the picture.
  describe() {
    const parts = this.series.map((name, i) => {
      const known = this.data[i + 1].filter((value) => value !== null);
      if (!known.length) return `${name}: nothing yet`;
      return `${name}: now ${this.show(this.data[i + 1].at(-1))}, highest ${this.show(Math.max(...known))}`;
    });
    this.plotBox.setAttribute("aria-label", `${this.title}, last 5 minutes. ${parts.join("; ")}.`);
  }

  fillTable() {
    if (!this.details.open) return;
    const rows = this.data[0].map((_, i) => i).slice(-TABLE_ROWS).reverse();
    this.tbody.replaceChildren(
      ...rows.map((i) => row("td", [format.time(this.data[0][i] * 1000), ...this.series.map((_, s) => this.show(this.data[s + 1][i]))])),
    );
  }

  // Grows with what there is to show.
  span() {
    const [times] = this.data;
    const end = times.at(-1) ?? Date.now() / 1000;
    return [end - Math.min(Math.max(end - (times[0] ?? end), SHORTEST_S), WINDOW_S), end];
  }

  // Anew when the colours change.
  draw() {
    if (this.plot) this.plot.destroy();
    const css = getComputedStyle(document.documentElement);
    const color = (name) => css.getPropertyValue(`--${name}`).trim();
    const dashes = [[], [6, 3], [2, 3]];
    const axis = { stroke: color("quiet"), grid: { stroke: color("grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };

    this.plot = new uPlot(
      {
        width: this.plotBox.clientWidth,
        height: this.plotBox.clientHeight,
        legend: { show: false },
        cursor: { y: false, sync: { key: "charts" }, points: { size: 6 }, drag: { x: false, y: false } },
        scales: { x: { range: () => this.span() }, y: { range: (_, __, max) => [0, Math.max(max * 1.1, this.least)] } },
        axes: [
          { ...axis, size: 30, space: 70, values: [[60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
          { ...axis, size: 64, space: 36, values: (_, ticks) => ticks.map((tick) => this.show(tick)) },
        ],
        series: [
          {},
          ...this.series.map((name, i) => ({ label: name, stroke: color(`series-${i + 1}`), width: 2, dash: dashes[i], fill: i === 0 ? color("fill-1") : undefined, points: { show: false }, spanGaps: false })),
        ],
        hooks: { setCursor: [(plot) => this.legendAt(plot.cursor.idx ?? this.data[0].length - 1)] },
      },
      this.data,
      this.plotBox,
    );
  }

  resize() {
    this.plot?.setSize({ width: this.plotBox.clientWidth, height: this.plotBox.clientHeight });
  }
}

function row(tag, cells) {
  const tr = document.createElement("tr");
  cells.forEach((text, i) => {
    const cell = document.createElement(tag);
    if (tag === "th") cell.scope = "col";
    if (i > 0) cell.className = "number";
    cell.textContent = text;
    tr.append(cell);
  });
  return tr;
}
