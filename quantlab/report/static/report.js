// The report's own script: shows the clouds, the numbers of a layer, and saves what a reader wants to keep.
const page = JSON.parse(document.getElementById("ql-data").textContent);
const layers = page.tables.layers;
const LAYER = Object.fromEntries(layers.columns.map((name, index) => [name, index]));

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function tell(text) {
  const told = document.getElementById("told");
  told.textContent = text;
  told.classList.add("shown");
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => told.classList.remove("shown"), 1800);
}

// -- the clouds --------------------------------------------------------------------------------------------------
let viewer = null;

function showClouds() {
  const host = document.getElementById("ql-viewer");
  if (!host) return;
  document.getElementById("no-script").remove();
  viewer = mount(host, { theme: "auto" });
  viewer.setPayload(document.getElementById("ql-clouds").textContent);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => viewer.setTheme("auto"));
  // The wheel scrolls the page until somebody has clicked into the view: a reader is on the way down.
  host.addEventListener("wheel", (event) => document.activeElement === host || event.stopImmediatePropagation(), { capture: true });
  const poster = document.getElementById("poster");
  addEventListener("beforeprint", () => {
    viewer.setTheme("light"); // paper is
    poster.src = viewer.screenshot();
    viewer.setTheme("auto");
  });
}

// -- the map -----------------------------------------------------------------------------------------------------
let chosen = 0;

function short(value) {
  if (value === null || value === undefined) return "not measured";
  if (typeof value !== "number") return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-4 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(2).replace("e+", "e");
  return text.replaceAll("-", "−");
}

function bytes(count) {
  const [factor, unit] = count >= 1e6 ? [1e6, "MB"] : count >= 1e3 ? [1e3, "kB"] : [1, "B"];
  return `${short(count / factor)} ${unit}`;
}

function showLayer(index) {
  const row = layers.rows[index];
  if (!row) return;
  const get = (name) => row[LAYER[name]];
  const quantized = get("quantized");
  const pairs = [
    ["bits", quantized ? `weights ${get("weights bits")}, activations ${get("activations bits")}` : "full precision"],
    ["TRE", quantized ? short(get("TRE")) : "none: nothing is rounded"],
    ["kurtosis", short(get("kurtosis"))],
    ["max |x|", short(get("max |x|"))],
    ["max / p99.9", short(get("max / p99.9"))],
    ["size", `${bytes(get("bytes"))} of ${bytes(get("bytes in 16 bits"))}`],
    ...(quantized ? [] : [["why", get("reason")]]),
  ];
  const list = make("dl", { class: "facts" });
  for (const [name, told] of pairs) list.append(make("div", {}, make("dt", {}, name), make("dd", {}, told)));
  const parts = [make("h3", {}, get("called")), make("code", {}, get("layer")), list];
  if (get("drawn") !== null) parts.push(make("a", { href: `#layer-${get("drawn")}` }, "see it drawn below"));
  document.getElementById("layer-panel").replaceChildren(...parts);
}

function cells() {
  return [...document.querySelectorAll("#maps > :not([hidden]) .cell")];
}

function choose(index, { focus = false } = {}) {
  chosen = index;
  for (const cell of document.querySelectorAll(".cell")) {
    const own = Number(cell.dataset.layer) === index;
    cell.setAttribute("aria-pressed", String(own));
    cell.setAttribute("tabindex", own ? "0" : "-1");
  }
  if (focus) cells().find((cell) => Number(cell.dataset.layer) === index)?.focus();
  showLayer(index);
}

/** The nearest cell in the direction of an arrow key; distance to the side counts more than distance ahead. */
function neighbour(cell, key) {
  const [ahead, side, sign] = { ArrowRight: ["x", "y", 1], ArrowLeft: ["x", "y", -1], ArrowDown: ["y", "x", 1], ArrowUp: ["y", "x", -1] }[key];
  const place = (one, name) => Number(one.getAttribute(name));
  const way = (one) => sign * (place(one, ahead) - place(cell, ahead));
  const cost = (one) => way(one) + 4 * Math.abs(place(one, side) - place(cell, side));
  return cells().filter((one) => way(one) > 0).sort((a, b) => cost(a) - cost(b))[0];
}

function wireMap() {
  const maps = document.getElementById("maps");
  const of = (event) => event.target.closest?.(".cell");
  maps.addEventListener("pointerover", (event) => of(event) && showLayer(Number(of(event).dataset.layer)));
  maps.addEventListener("pointerleave", () => showLayer(chosen));
  maps.addEventListener("click", (event) => of(event) && choose(Number(of(event).dataset.layer)));
  maps.addEventListener("keydown", (event) => {
    const cell = of(event);
    if (!cell || !(event.key.startsWith("Arrow") || event.key === "Enter" || event.key === " ")) return;
    event.preventDefault();
    const next = event.key.startsWith("Arrow") ? neighbour(cell, event.key) : cell;
    if (next) choose(Number(next.dataset.layer), { focus: true });
  });
  document.getElementById("color-by").addEventListener("change", (event) => {
    for (const shown of document.querySelectorAll("#maps > *, #map-help > *")) shown.hidden = shown.dataset.quantity !== event.target.value;
    choose(chosen);
  });
  const worst = layers.rows.findIndex((row) => row[LAYER.drawn] === 0);
  choose(Math.max(worst, 0));
}

// -- copies and files ----------------------------------------------------------------------------------------------
async function copy(target) {
  try {
    await navigator.clipboard.writeText(target.textContent);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(target);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    if (!document.execCommand("copy")) return tell("Selected: press Ctrl+C");
  }
  tell("Copied");
}

function save(blob, ending, name) {
  const link = make("a", { download: `${page.stem}-${name}.${ending}`, href: URL.createObjectURL(blob) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  tell(`Saved ${link.download}`);
}

/** A cell of CSV; a text that a spreadsheet would take for a formula is marked as text. */
function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(String(value)) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function rowsOf(table) {
  if (table.rows) return [table.columns, ...table.rows];
  const rows = [["step", "from", "to", "count"]];
  for (const [step, { first, counts }] of Object.entries(table.steps)) {
    counts.forEach((count, index) => count && rows.push([step, page.edges[first + index], page.edges[first + index + 1], count]));
  }
  return rows;
}

const NEVER_DRAWN = -32768;

/** Both points of every pair in the units of the scene; one that the clouds leave out has no coordinates. */
function cloudRows() {
  const { left, right, meta } = viewer.data;
  const place = (side, index) => [0, 1, 2].map((axis) => {
    const code = side.position[3 * index + axis];
    return code === NEVER_DRAWN ? null : Number((code * meta.scale[axis] + meta.offset[axis]).toPrecision(6));
  });
  const rows = [["frame", ...["full", "quantized"].flatMap((side) => ["x", "y", "z"].map((axis) => `${side} ${axis}`))]];
  for (let index = 0; index < left.count; index++) rows.push([left.frame?.[index] ?? 0, ...place(left, index), ...place(right, index)]);
  return rows;
}

function csv(name) {
  const text = (name === "clouds" ? cloudRows() : rowsOf(page.tables[name])).map((row) => row.map(field).join(",")).join("\r\n");
  return new Blob([`\ufeff${text}\r\n`], { type: "text/csv" });
}

const PAINTED = ["fill", "stroke", "font-family"];

/** A picture that stands alone: the colours of the page are written into it. */
async function png(svg) {
  const alone = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")];
  [alone, ...alone.querySelectorAll("*")].forEach((element, index) => {
    const style = getComputedStyle(originals[index]);
    for (const name of PAINTED) element.setAttribute(name, style.getPropertyValue(name));
  });
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  alone.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const image = new Image();
  const source = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(alone)], { type: "image/svg+xml" }));
  image.src = source;
  await image.decode();
  URL.revokeObjectURL(source);
  const canvas = make("canvas", { width: 2 * width, height: 2 * height });
  const brush = canvas.getContext("2d");
  brush.fillStyle = getComputedStyle(document.body).backgroundColor;
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function screenshot() {
  const raw = atob(viewer.screenshot().split(",")[1]);
  return new Blob([Uint8Array.from(raw, (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

async function exportFigure(button) {
  const { export: kind, name } = button.dataset;
  if (kind === "csv") return save(csv(name), kind, name);
  const svg = [...button.closest("figure").querySelectorAll("svg")].find((one) => !one.closest("[hidden]"));
  save(svg ? await png(svg) : screenshot(), kind, name);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[data-export], button[data-copy]");
  if (!button) return;
  if (button.dataset.copy) copy(document.getElementById(button.dataset.copy));
  else exportFigure(button).catch((error) => tell(`It could not be saved: ${error.message}`));
});

showClouds();
wireMap();
