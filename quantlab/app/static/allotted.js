// One point of the front: what it costs beside the recipe in force, and the bits it gives to every layer. It chooses none.
import { make, setText } from "./dom.js";

const MEGA = 1e6;
const [LABEL, CELL] = [84, 17]; // pixels: of a row's name, and of a cell with two digits
const FACTS = [
  { label: "size", help: "Megabytes of the whole network, packed", of: ({ bytes }) => `${(bytes / MEGA).toFixed(2)}\u00a0MB` },
  { label: "drift", help: "Mean distance of points from those of full precision, in percent of the scene's size, as run on calibration scenes", of: ({ measured }) => measured || "not run" },
  { label: "predicted", help: "The drift that layers measured one by one add up to", of: ({ predicted }) => predicted },
  { label: "forward", help: "Milliseconds of a forward pass on this machine, from what single layers take", of: ({ ms }) => (ms === null ? "" : milliseconds(ms)) },
];

/** A time in milliseconds, never as a power of ten. */
export function milliseconds(value) {
  return `${value < 100 ? value.toPrecision(3) : Math.round(value)}\u00a0ms`;
}

/** The section below the front; show(value, place) fills it with a point, `select(layer)` is told which cell was clicked. */
export function mountAllotted(select) {
  const facts = make("table", { class: "ql-chosen" });
  const told = make("p", { class: "ql-quiet" });
  const grid = make("table", { class: "ql-bits", "aria-label": "Bits of every layer" });
  const frame = make("div", { class: "ql-bits-frame" }, grid);
  const element = make(
    "section",
    { class: "ql-allotted", tabindex: "0", "aria-label": "The point below the slider", "data-testid": "allotted" },
    make("div", { class: "ql-chosen-frame" }, facts, told),
    frame,
  );
  return {
    element,
    show({ allotted, points, now }, place) {
      element.hidden = !allotted || place < 0;
      if (element.hidden) return;
      const bits = allotted.points[place];
      const other = bits.filter((value, at) => value !== allotted.force[at]).length;
      facts.replaceChildren(...compared(points[place], points[now]));
      setText(told, `Bits of each layer's weights; ${other ? `${other} of ${bits.length} are not as in force (framed)` : "as in force"}.`);
      frame.style.minWidth = `${LABEL + CELL * allotted.rows[0].cells.length}px`; // where that is too wide it goes below
      grid.replaceChildren(...allotted.rows.map((row) => line(row, bits, allotted, select)));
    },
  };
}

function compared(point, current) {
  const shown = FACTS.filter(({ of }) => of(point));
  const head = make("tr", {}, make("th", {}), make("th", { scope: "col" }, "this point"), make("th", { scope: "col" }, "in force"));
  const rows = shown.map(({ label, help, of }) =>
    make("tr", { title: help }, make("th", { scope: "row" }, label), make("td", {}, of(point)), make("td", { class: "ql-quiet" }, current ? of(current) : "–")),
  );
  return [make("thead", {}, head), make("tbody", {}, ...rows)];
}

function line({ label, cells }, bits, { layers, ids, force }, select) {
  const filled = cells.map((at) => {
    if (at < 0) return make("td", {});
    const was = force[at] === bits[at] ? "" : `, in force ${force[at]}`;
    return make(
      "td",
      { "data-bits": bits[at], class: was ? "ql-other" : null, title: `${layers[at]}: ${bits[at]} bits${was}. Click to open it.`, onclick: () => select(ids[at]) },
      String(bits[at]),
    );
  });
  return make("tr", {}, make("th", { scope: "row", title: label }, label), ...filled);
}
