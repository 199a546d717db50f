"use strict";
// Numbers for people.

const format = (() => {
  const whole = new Intl.NumberFormat("en");
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const digits = (n) => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2)).replace(/\.0+$/, "");

  const scaled = (units, step) => (n) => {
    let unit = 0;
    while (unit < units.length - 1 && n >= step(unit)) n /= step(unit++);
    return `${unit === 0 ? whole.format(n) : digits(n)} ${units[unit]}`;
  };

  const steps = [1000, 1000, 60, 60, 24];
  const known = (show) => (n) => (n === null || n === undefined ? "–" : show(n));

  return {
    count: known((n) => (n < 1e6 ? whole.format(Math.round(n)) : compact.format(n))),
    rate: known((n) => `${n < 10 ? whole.format(Math.round(n * 10) / 10) : n < 1e5 ? whole.format(Math.round(n)) : compact.format(n)}/s`),
    duration: known(scaled(["µs", "ms", "s", "min", "h", "d"], (unit) => steps[unit])),
    bytes: known(scaled(["B", "KiB", "MiB", "GiB"], () => 1024)),
    time: (ms) => new Date(ms).toLocaleTimeString(),
    date: (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" }),
  };
})();
