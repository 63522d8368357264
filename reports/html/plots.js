// Boxplots with a point for each vertebra. A point is described on hover and opens its case on a click or with Enter.
const SVG = "http://www.w3.org/2000/svg";

function element(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function ticks(low, high) {
  const rough = (high - low) / 6;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9; i++) found.push(Number((i * step).toPrecision(6)));
  return found;
}

// The horizontal offset of a point, the same on every page; it has no meaning.
const spread = (i) => (((i * 7919) % 101) / 100 - 0.5) * 0.3;

function plot(parent, panel, read, open) {
  // Letters stay small with few rows, and the bottom margin holds the longest label.
  const step = Math.max(46, 520 / panel.boxes.length), left = 52, top = 36, height = 300;
  const bottom = 34 + 5.8 * Math.max(...panel.boxes.map((box) => box.label.length));
  const width = left + step * panel.boxes.length + 10;
  const figure = document.createElement("figure");
  parent.append(figure);
  const svg = element(figure, "svg", {
    viewBox: `0 0 ${width} ${top + height + bottom}`, tabindex: 0, role: "application",
    "aria-label": `${panel.title}: boxplots, ${panel.boxes.length} rows. Arrow keys move, Enter opens the case.`,
  });
  const y = (value) => top + height * (1 - (value - panel.low) / (panel.high - panel.low));
  element(svg, "text", { class: "title", x: left, y: 20 }, panel.title);
  for (const tick of ticks(panel.low, panel.high)) {
    element(svg, "line", { class: "grid", x1: left, x2: width - 6, y1: y(tick), y2: y(tick) });
    element(svg, "text", { x: left - 6, y: y(tick) + 5, "text-anchor": "end" }, String(tick));
  }
  const points = panel.boxes.map((box, b) => drawBox(svg, box, left + step * (b + 0.5), Math.min(step, 60), y, top + height));
  const ring = element(svg, "circle", { class: "ring", r: 7, visibility: "hidden" });
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.append(tip);

  const describe = (p) => `${p.box.label}, ${p.case}, ${p.vertebra}: ${panel.title.replace(/ [↑↓]$/, "")} ${p.value}`;
  let current = null;
  function choose(point) {
    current = point;
    ring.setAttribute("visibility", point ? "visible" : "hidden");
    tip.hidden = !point;
    if (!point) return;
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    tip.textContent = describe(point);
    read.textContent = describe(point);
    const scale = svg.getBoundingClientRect().width / width;
    const available = width * scale - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(available, point.x * scale - tip.offsetWidth / 2))}px`;
    tip.style.top = `${Math.max(0, point.y * scale - 34)}px`;
  }
  const every = points.flat();
  function nearest(event) {
    const box = svg.getBoundingClientRect();
    const [px, py] = [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * width) / box.width];
    let best = null, distance = 14;
    for (const point of every) {
      const d = Math.hypot(point.x - px, point.y - py);
      if (d < distance) [best, distance] = [point, d];
    }
    return best;
  }
  svg.addEventListener("pointermove", (event) => choose(nearest(event)));
  svg.addEventListener("pointerleave", () => choose(null));
  svg.addEventListener("click", (event) => {
    const point = nearest(event);
    if (point) open(point.case, point.box.row);
  });
  svg.addEventListener("blur", () => choose(null));
  svg.addEventListener("keydown", (event) => {
    const filled = points.filter((p) => p.length);
    if (!filled.length) return;
    const column = current ? filled.findIndex((p) => p.includes(current)) : 0;
    const line = current ? filled[column].indexOf(current) : -1;
    const at = (c, l) => choose(filled[c][Math.max(0, Math.min(filled[c].length - 1, l))]);
    if (event.key === "Enter" && current) open(current.case, current.box.row);
    else if (event.key === "ArrowUp") at(column, line + 1);
    else if (event.key === "ArrowDown") at(column, line - 1);
    else if (event.key === "ArrowRight") at(Math.min(filled.length - 1, column + 1), Math.max(line, 0));
    else if (event.key === "ArrowLeft") at(Math.max(0, column - 1), Math.max(line, 0));
    else if (event.key === "Escape") choose(null);
    else return;
    event.preventDefault();
  });
}

// Draws a box with its points and returns the points, lowest value first.
function drawBox(svg, box, centre, step, y, floor) {
  const group = element(svg, "g", {});
  group.style.setProperty("--colour", box.colour);
  const at = centre - step * 0.16, half = step * 0.2;
  if (box.quartiles.length) {
    const [low, middle, high] = box.quartiles.map(y);
    const [below, above] = box.whiskers.map(y);
    element(group, "line", { class: "whisker", x1: at, x2: at, y1: below, y2: low });
    element(group, "line", { class: "whisker", x1: at, x2: at, y1: high, y2: above });
    const hatched = box.row === "initial" ? " hatched" : "";
    element(group, "rect", { class: `box${hatched}`, x: at - half, width: 2 * half, y: high, height: Math.max(1, low - high) });
    element(group, "line", { class: "median", x1: at - half, x2: at + half, y1: middle, y2: middle });
  } else {
    element(group, "text", { transform: `translate(${centre + 4} ${floor - 8}) rotate(-90)` }, "no result");
  }
  element(group, "text", { transform: `translate(${centre + 4} ${floor + 14}) rotate(-45)`, "text-anchor": "end" }, box.label);
  const points = box.points.map(([name, vertebra, value], i) => ({
    box, case: name, vertebra, value, x: centre + step * (0.24 + spread(i) * 0.8), y: y(value),
  }));
  for (const p of points) element(group, "circle", { class: "point", cx: p.x, cy: p.y, r: 2.2 });
  return points.sort((a, b) => a.value - b.value);
}
