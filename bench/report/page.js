const colours = { native: "#2563eb", ets: "#f59e0b", genserver: "#9ca3af", floor: "#047857" };

function number(value) {
  const size = Math.abs(value);
  if (size >= 10000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

// A logarithmic axis says 1, 10, 100 and the like; the ticks between have no labels.
function tick(log) {
  return (value) => (log && !Number.isInteger(Number(Math.log10(value).toFixed(6))) ? "" : number(value));
}

// The scale starts below the smallest value, or its bar would have no length.
function smallest(chart) {
  const values = chart.series.flatMap((series) => series.values).filter((value) => value > 0);
  return Math.pow(10, Math.floor(Math.log10(Math.min(...values)) - 0.15));
}

function draw(id, chart) {
  const bar = chart.kind === "bar";
  const datasets = chart.series.map(({ name, values }) => ({
    label: name,
    data: chart.log ? values.map((value) => (value > 0 ? value : null)) : values,
    backgroundColor: colours[name],
    borderColor: colours[name],
    borderWidth: bar ? 0 : 2,
    borderDash: !bar && name === "floor" ? [5, 4] : [],
    pointRadius: 3,
    spanGaps: true,
  }));
  const values = {
    type: chart.log ? "logarithmic" : "linear",
    beginAtZero: true,
    title: { display: true, text: chart.unit },
    ticks: { callback: tick(chart.log), maxRotation: 0 },
    grid: { color: "#eef0f3" },
  };
  if (chart.log) values.min = smallest(chart);
  const labels = { grid: { display: false }, ticks: { autoSkip: false } };

  new Chart(document.getElementById(id), {
    type: chart.kind,
    data: { labels: chart.labels, datasets },
    options: {
      animation: false,
      maintainAspectRatio: false,
      indexAxis: bar ? "y" : "x",
      scales: bar ? { x: values, y: labels } : { x: labels, y: values },
      plugins: {
        legend: { position: "top", align: "start", labels: bar ? { boxWidth: 12, boxHeight: 12 } : { usePointStyle: true, pointStyle: "line", pointStyleWidth: 24 } },
        tooltip: {
          callbacks: { label: (item) => `${item.dataset.label}: ${number(item.parsed[bar ? "x" : "y"])} ${chart.unit}` },
        },
      },
    },
  });
}

Chart.defaults.font.family = "system-ui, sans-serif";
Chart.defaults.color = "#4b5563";
for (const [id, chart] of Object.entries(charts)) draw(id, chart);
