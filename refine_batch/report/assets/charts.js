// Histograms, categories and loss curves, drawn by Observable Plot as SVG in the page's own colours.
"use strict";
(() => {
  const { plot, rectY, ruleX, ruleY, line, dot, pointer, tip } = libraries;
  const data = report.data;
  const style = { background: "none", fontSize: "12px", color: "inherit" };

  function histogram(name, width) {
    const { edges, counts } = data.histograms[name];
    if (!counts.length) return null;
    const bins = counts.map((count, i) => ({ low: edges[i], high: edges[i + 1], count })).filter((bin) => bin.count);
    const marks = [
      ["var(--worse)", bins.filter((bin) => bin.high <= 1e-12)],
      ["var(--better)", bins.filter((bin) => bin.high > 1e-12)],
    ].map(([fill, some]) => rectY(some, { x1: "low", x2: "high", y: "count", fill, insetLeft: 0.5, insetRight: 0.5 }));
    return plot({
      width, height: 180, marginTop: 22, marginLeft: 44, marginBottom: 34, style,
      ariaLabel: `Histogram of the gain in ${name}`,
      x: { label: "gain →", domain: [edges[0], edges[edges.length - 1]], ticks: 6 },
      y: { label: "instances", grid: true, ticks: 4, tickFormat: (n) => (Number.isInteger(n) ? n.toLocaleString("en") : "") },
      marks: [ruleY([0]), ...marks, ruleX([0], { strokeDasharray: "3,3" })],
    });
  }

  function categories(name, width) {
    const rows = data.categories
      .filter((category) => category.figures[name])
      .map((category) => ({ name: category.name, before: category.figures[name][0], after: category.figures[name][1] }));
    if (!rows.length) return null;
    const longest = Math.max(...rows.map((row) => row.name.length));
    return plot({
      width, height: 46 + 24 * rows.length, marginTop: 8, marginBottom: 34, style,
      marginLeft: Math.min(Math.max(50, 7 * longest + 12), width / 2.5),
      ariaLabel: `${name} before and after by category`,
      x: { label: null, grid: true, nice: true },
      y: { label: null, domain: rows.map((row) => row.name), tickFormat: (text) => (text.length > 24 ? `${text.slice(0, 23)}…` : text) },
      marks: [
        ruleY(rows, { y: "name", x1: "before", x2: "after", strokeWidth: 2, strokeOpacity: 0.4 }),
        dot(rows, { y: "name", x: "before", r: 4.5, fill: "var(--coarse)" }),
        dot(rows, { y: "name", x: "after", r: 4.5, fill: "var(--better)" }),
      ],
    });
  }

  function curves(width) {
    const points = data.curves.flatMap((curve, number) => {
      const start = curve.loss[0];
      const last = Math.max(curve.loss.length - 1, 1);
      return curve.loss
        .map((loss, i) => ({ number, id: curve.id, step: ((curve.steps ?? last) * i) / last, loss: loss / start }))
        .filter((point) => point.loss > 0 && Number.isFinite(point.loss));
    });
    if (!points.length) return null;
    return plot({
      width, height: 300, marginLeft: 52, marginBottom: 36, style, ariaLabel: "Loss over the steps",
      x: { label: "step →" },
      y: { type: "log", label: "loss, relative to its start", grid: true, tickFormat: "~g", ticks: 5 },
      marks: [
        line(points, { x: "step", y: "loss", z: "number", stroke: "var(--better)", strokeOpacity: 0.45, strokeWidth: 1.3 }),
        dot(points, pointer({ x: "step", y: "loss", r: 4, fill: "var(--worse)" })),
        tip(points, pointer({ x: "step", y: "loss", title: (p) => `${p.id}\nstep ${Math.round(p.step)}: ${p.loss.toPrecision(3)}`, fill: "var(--surface)" })),
      ],
    });
  }

  const empty = "Nothing to draw: no instance has it.";
  function draw(place, make) {
    let drawn = 0;
    const redraw = () => {
      const width = Math.floor(place.clientWidth);
      if (!width || width === drawn) return;
      drawn = width;
      place.replaceChildren(make(width) ?? empty);
    };
    new ResizeObserver(redraw).observe(place);
    redraw();
  }

  for (const place of document.querySelectorAll("[data-histogram]")) draw(place, (width) => histogram(place.dataset.histogram, width));
  for (const place of document.querySelectorAll("[data-categories]")) draw(place, (width) => categories(place.dataset.categories, width));
  for (const place of document.querySelectorAll("[data-curves]")) draw(place, curves);
})();
