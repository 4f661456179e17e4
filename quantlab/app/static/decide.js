// What fewer bits cost, and where: a budget over the front of a search, layers by sensitivity, two recipes compared.
import { milliseconds, mountAllotted } from "./allotted.js";
import { Choice, make, Segments, setText } from "./dom.js";
import { Plot } from "./plot.js";
import { mountUndecided } from "./undecided.js";

const VIEWS = [
  { id: "front", label: "Front", help: "Size against drift: what the search found for every size" },
  { id: "layers", label: "Layers", help: "Each layer quantized alone, the most sensitive at the top" },
  { id: "differences", label: "Differences", help: "Two recipes layer by layer" },
];
const STEP = 1000; // bytes
const SUMS = "Single layers are measured, and their errors added up for every recipe. Rank correlation and measured / predicted are 1 where that sum is exact.";
const UNITS = {
  MB: {
    name: "MB",
    step: 1e6,
    of: (point) => point.bytes,
    label: "Budget in megabytes",
    title: "Bytes of the whole network that the result may have. Arrow keys move it.",
    words: (value, { fixed, eight }) => `${(value / 1e6).toFixed(2)} MB, ${Math.round((100 * (value - fixed)) / Math.max(1, eight - fixed))} % of 8 bits`,
    help: ({ fixed }) => `${(fixed / 1e6).toFixed(2)} MB of it are not quantized; the share is of the rest.`,
  },
  ms: {
    name: "ms",
    step: 1,
    of: (point) => point.ms ?? Infinity,
    label: "Budget in milliseconds",
    title: "Milliseconds that a forward pass may take, as this machine executes it. Arrow keys move it.",
    words: (value) => `${milliseconds(value)} a forward pass`,
    help: () => "A search measures what each layer takes at 4 and 8 bits, and in the end what the result takes.",
  },
};

export function mountDecide(host, { config, send }) {
  const look = (name, value) => send({ do: "decide", name, value });
  const views = new Segments("What is shown", (value) => look("shows", value));
  const search = make("button", {
    type: "button",
    class: "ql-primary",
    title: "Find the bits of every layer that hurt least within the budget. The recipe in force stays.",
    onclick: () => send({ do: "search", budget: Number(range.value), unit: unit().name }),
  }, "Search");
  const header = make("header", {}, make("h2", {}, "Decide"), views.element, make("span", { class: "ql-spring" }), search);

  const range = make("input", {
    type: "range",
    step: STEP,
    "aria-label": "Budget in megabytes",
    title: "Bytes of the whole network that the result may have. Arrow keys move it.",
    oninput: () => moved(),
  });
  const read = make("output", { class: "ql-budget-read", "data-testid": "budget" });
  const megabytes = make("button", { type: "button", title: "The budget is a size.", onclick: () => choose("MB") }, "MB");
  const latency = make("button", { type: "button", onclick: () => choose("ms") }, "ms");
  const units = make("div", { class: "ql-segments", role: "group", "aria-label": "Unit of the budget" }, megabytes, latency);
  let counted = "MB";
  const unit = () => UNITS[counted];
  const choose = (name) => {
    counted = name;
    look("unit", name);
    fill();
  };
  const budget = make("div", { class: "ql-budget" }, make("span", { class: "ql-quiet" }, "budget"), range, read, units);

  const best = make("p", { class: "ql-best", "data-testid": "best", "aria-live": "polite" });
  const load = make("button", {
    type: "button",
    title: "Make this recipe the one in force; Undo takes it back.",
    onclick: () => take(load.dataset.place),
  }, "Load");
  const found = make("div", { class: "ql-found" }, best, load);

  const bits = new Segments("Bits of every layer by itself", (value) => look("bits", value));
  const ofBits = make("div", { class: "ql-bits-bar" }, make("span", { class: "ql-quiet" }, "each layer alone at"), bits.element, make("span", { class: "ql-quiet" }, "bits"));
  const canvas = make("div", { class: "ql-plot", "data-testid": "front" });
  const message = make("p", { class: "ql-note", "data-testid": "decide-message" });
  const waiting = make("div", { class: "ql-pool-waiting" }, message);
  const open = (layer) => send({ do: "select", layer });
  const undecided = mountUndecided((value, name) => {
    if (counted !== name) choose(name);
    range.value = value;
    moved();
  }, open);
  const allotted = mountAllotted(open);
  const frame = make("div", { class: "ql-plot-frame" }, canvas, waiting, undecided.element);
  const sides = comparison(look, send);
  const note = make("p", { class: "ql-quiet ql-pool-note", title: SUMS, "data-testid": "decide-note" });
  host.append(header, budget, found, ofBits, frame, allotted.element, sides.element, note);

  let shown = { points: [], slider: null, shows: "front" };
  let asked = null; // the server's budget, until a person moves the slider
  const plot = new Plot(canvas, config, {
    pick: (name) => (shown.shows === "layers" ? send({ do: "select", layer: name }) : take(name)),
    name: () => (shown.shows === "layers" ? "sensitivity of layers" : "size against drift"),
  });

  const take = (place) => {
    const point = shown.points[Number(place)];
    if (point) send({ do: "candidate", place: Number(place), bytes: point.bytes });
  };

  const moved = () => {
    const value = Number(range.value);
    const { points, now } = shown;
    setText(read, unit().words(value, shown.slider));
    read.title = unit().help(shown.slider);
    range.setAttribute("aria-valuetext", read.textContent);
    const fits = within(points, value, unit().of);
    const place = fits < 0 ? least(points, unit().of) : fits;
    found.hidden = place < 0;
    allotted.show(shown, place);
    if (place >= 0) {
      const point = points[place];
      load.dataset.place = place;
      load.disabled = place === now;
      const drift = point.measured ? `measured ${point.measured}` : `predicted ${point.predicted}, not run`;
      const time = point.ms === null ? "" : `, ${milliseconds(point.ms)}${point.timed ? ` (measured ${point.timed})` : ""}`;
      setText(best, `${fits < 0 ? "Nothing found is within it; the least" : "Best found within it"}: ${(point.bytes / 1e6).toFixed(2)}\u00a0MB${time}, drift ${drift}; layers\u00a0×\u00a0bits: ${point.layers}`);
      best.title = `${point.words}; predicted ${point.predicted}`;
    }
    draw();
  };

  const draw = () => {
    const figure = shown.shows === "front" ? shown.front : shown.bars;
    if (!figure) return;
    const line = shown.shows === "front" ? figure.layout.shapes?.[0] : null;
    if (line && shown.by_time === (counted === "ms")) {
      const [low, high] = figure.layout.xaxis.range;
      line.x0 = line.x1 = Math.min(Math.max(Number(range.value) / unit().step, low), high);
    }
    plot.show({ ...figure, layout: { ...figure.layout } });
  };

  /** The slider in the unit that is chosen; where a person has moved it, it stays. */
  const fill = () => {
    const limits = counted === "ms" ? shown.clock : shown.slider;
    megabytes.setAttribute("aria-pressed", String(counted === "MB"));
    latency.setAttribute("aria-pressed", String(counted === "ms"));
    range.setAttribute("aria-label", unit().label);
    range.title = unit().title;
    range.step = counted === "ms" ? "any" : STEP; // a step would leave out what costs exactly the budget
    range.min = limits.low;
    range.max = limits.high;
    const key = JSON.stringify([counted, limits]);
    if (key !== asked) range.value = limits.value;
    asked = key;
    moved();
  };

  const allow = () => (search.disabled = !shown.slider || document.documentElement.dataset.qlBusy === "true");
  new MutationObserver(allow).observe(document.documentElement, { attributes: true, attributeFilter: ["data-ql-busy"] });

  return (value) => {
    shown = value;
    views.show(VIEWS, value.shows);
    allow();
    latency.title = value.latency;
    latency.disabled = !value.clock;
    counted = value.clock ? value.unit : "MB";
    budget.hidden = !value.slider;
    if (value.slider) fill();
    const comparing = value.shows === "differences";
    sides.element.hidden = !comparing;
    frame.hidden = comparing;
    ofBits.hidden = value.shows !== "layers" || !value.bars;
    if (value.options) bits.show(value.options, value.bits);
    setText(message, value.message);
    waiting.hidden = !value.message;
    undecided.show(value.undecided);
    canvas.style.visibility = value.front || value.bars ? "visible" : "hidden";
    setText(note, value.note);
    note.hidden = !value.note;
    if (comparing) sides.show(value);
    budget.hidden ||= value.shows !== "front";
    found.hidden ||= value.shows !== "front";
    allotted.element.hidden ||= value.shows !== "front" || !value.front;
  };
}

/** The place of the point of smallest drift that costs no more; one of a network that broke down has none. */
function within(points, most, cost) {
  let best = -1;
  points.forEach((point, place) => {
    if (cost(point) <= most && point.drift !== null && (best < 0 || better(point, points[best]))) best = place;
  });
  return best;
}

/** The place of the point that costs least, -1 where none is known. */
function least(points, cost) {
  const known = points.filter((point) => point.drift !== null && cost(point) < Infinity);
  const first = known.sort((one, other) => cost(one) - cost(other) || one.drift - other.drift)[0];
  return first ? points.indexOf(first) : -1;
}

/** What was run goes before what was only predicted, where their drifts are within the error of the prediction. */
function better(one, other) {
  const doubt = (point) => (point.measured ? 1 : 1.1);
  return one.drift * doubt(one) < other.drift * doubt(other);
}

function comparison(look, send) {
  const left = new Choice("Recipe on the left", (value) => look("left", value), "ql-wide");
  const right = new Choice("Recipe on the right", (value) => look("right", value), "ql-wide");
  const summary = make("p", { class: "ql-differ-summary", "data-testid": "differences" });
  const body = make("tbody", {});
  const head = make("tr", {}, ...["layer", "left", "right", "kB"].map((text) => make("th", { scope: "col" }, text)));
  const table = make("table", { class: "ql-differ" }, make("thead", {}, head), body);
  const lines = make("ol", { class: "ql-differ-lines" });
  const rest = make("details", {}, make("summary", {}, "as rules"), lines);
  const element = make(
    "section",
    { class: "ql-differ-frame", tabindex: "0", "aria-label": "Differences of two recipes" },
    make("div", { class: "ql-differ-sides" }, left.element, make("span", { class: "ql-quiet" }, "→"), right.element),
    summary,
    table,
    rest,
  );
  return {
    element,
    show(value) {
      left.show(value.choices, value.left);
      right.show(value.choices, value.right);
      setText(summary, value.differences.summary);
      table.hidden = value.differences.rows.length === 0;
      rest.hidden = value.differences.lines.length === 0;
      body.replaceChildren(...value.differences.rows.map((row) => layerRow(row, send)));
      lines.replaceChildren(...value.differences.lines.map((line) => make("li", {}, line)));
    },
  };
}

function layerRow(row, send) {
  const open = make("button", { type: "button", title: `Open ${row.layer}`, onclick: () => send({ do: "select", layer: row.layer }) }, row.name);
  const change = `${row.bytes > 0 ? "+" : row.bytes < 0 ? "−" : "±"}${(Math.abs(row.bytes) / 1e3).toFixed(1)}`;
  return make("tr", {}, make("td", {}, open), make("td", {}, row.left), make("td", {}, row.right), make("td", {}, change));
}
