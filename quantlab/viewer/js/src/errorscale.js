// The legend of the error map: scale, histogram of what is shown, and a brush that keeps a range of errors.
import { distance, grouped, make, readable, setText } from "./dom.js";
import { errorPalette } from "./theme.js";

const BARS = 64; // four codes each
const [WIDTH, HEIGHT] = [216, 40];

export class ErrorScale {
  #codes = [0, 255];
  #meta = null;

  /** report: called with two codes of the scale, or null for all errors. */
  constructor(report) {
    this.report = report;
    this.title = make("div", { class: "title" });
    this.bars = make("canvas", { width: 2 * WIDTH, height: 2 * HEIGHT, class: "bars", "aria-hidden": "true" });
    this.kept = make("div", { class: "kept" });
    this.handles = ["smallest", "largest"].map((which, end) => this.#handle(which, end));
    const help = "Drag to keep a range of errors, double click for all. The height of a bar is the square root of its count; the first and the last may be cut.";
    this.plot = make("div", { class: "plot", title: help }, this.bars, this.kept, ...this.handles);
    this.ticks = make("div", { class: "ticks" });
    this.units = make("div", { class: "ticks units" });
    this.count = make("span", { role: "status" });
    this.all = make("button", { type: "button", title: "Show all points again", onclick: () => report(null) }, "all");
    this.element = make("div", { class: "legend" }, this.title, this.plot, this.ticks, this.units, make("div", { class: "note-row" }, this.count, this.all));
    this.#listen();
  }

  #handle(which, end) {
    const label = `The ${which} distance shown`;
    const options = { class: "handle", role: "slider", tabindex: 0, "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 255 };
    const item = make("div", { ...options, "data-end": end });
    item.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -16, PageUp: 16, Home: -255, End: 255 }[event.key];
      if (!by) return;
      const codes = [...this.#codes];
      codes[end] += by * (event.shiftKey ? 8 : 1);
      this.#tell(end === 0 ? [Math.min(codes[0], codes[1]), codes[1]] : [codes[0], Math.max(codes[0], codes[1])]);
      event.preventDefault();
      event.stopPropagation();
    });
    return item;
  }

  #tell([low, high]) {
    const codes = [Math.max(0, Math.round(low)), Math.min(255, Math.round(high))];
    this.report(codes[0] === 0 && codes[1] === 255 ? null : codes);
  }

  #listen() {
    let start = null;
    const code = (event) => {
      const box = this.plot.getBoundingClientRect();
      return Math.min(255, Math.max(0, Math.round((256 * (event.clientX - box.left)) / box.width - 0.5)));
    };
    this.plot.addEventListener("pointerdown", (event) => {
      const end = event.target.dataset.end;
      start = end === undefined ? code(event) : this.#codes[1 - end];
      this.handles[end ?? 1].focus({ focusVisible: false });
      event.preventDefault();
      this.plot.setPointerCapture(event.pointerId);
    });
    this.plot.addEventListener("pointermove", (event) => {
      if (start === null || !event.buttons) return;
      const now = code(event);
      if (now !== start) this.#tell([Math.min(start, now), Math.max(start, now)]);
    });
    for (const kind of ["pointerup", "pointercancel"]) this.plot.addEventListener(kind, () => (start = null));
    this.plot.addEventListener("dblclick", () => this.report(null));
  }

  /** codes: those kept, or null; histogram: {counts: 256 numbers of points without the brush}. */
  show(meta, scale, codes, counts) {
    this.#meta = meta;
    this.#codes = codes ?? [0, 255];
    const { error, labels, size, unit } = meta;
    const kind = error.name ? `${error.name} ` : "";
    const [top, main] = distance(meta, error.max);
    setText(this.title, `${kind}distance to ${labels[0]}, ${main}`);
    fill(this.ticks, ["0", distance(meta, error.max / 2)[0], `\u2265 ${top}`]);
    this.units.hidden = !size;
    fill(this.units, ["0", readable(error.max / 2), `\u2265 ${readable(error.max)} ${unit}`]);
    const left = (code) => `${(100 * code) / 256}%`;
    [this.kept.style.left, this.kept.style.right] = [left(this.#codes[0]), left(255 - this.#codes[1])];
    this.handles[0].style.left = left(this.#codes[0]);
    this.handles[1].style.left = left(this.#codes[1] + 1);
    this.handles.forEach((handle, end) => {
      handle.setAttribute("aria-valuenow", String(this.#codes[end]));
      handle.setAttribute("aria-valuetext", this.#value(this.#codes[end]));
    });
    this.element.classList.toggle("brushed", Boolean(codes));
    this.all.hidden = !codes;
    this.#draw(scale, counts);
    this.#showCount(codes, counts);
  }

  #value(code) {
    const bound = code === 255 ? "at least " : "";
    return bound + distance(this.#meta, (code / 255) * this.#meta.error.max).join(" ");
  }

  #showCount(codes, counts) {
    const sum = (list) => list.reduce((total, value) => total + value, 0);
    const all = sum(counts);
    const kept = codes ? sum(counts.slice(codes[0], codes[1] + 1)) : all;
    setText(this.count, codes ? `${grouped(kept)} of ${grouped(all)} points shown` : `${grouped(all)} points`);
  }

  #draw(scale, counts) {
    const pen = this.bars.getContext("2d");
    const { width, height } = this.bars;
    const palette = errorPalette(scale);
    const sums = Array.from({ length: BARS }, (_, bar) => counts.slice(4 * bar, 4 * bar + 4).reduce((a, b) => a + b, 0));
    const most = Math.sqrt(Math.max(1, ...sums.slice(1, -1))); // points without an error, or beyond the scale, would flatten the rest
    pen.clearRect(0, 0, width, height);
    for (let column = 0; column < width; column++) {
      const code = Math.floor((256 * column) / width);
      const tall = Math.min(1, Math.sqrt(sums[code >> 2]) / most) * (height - 14);
      pen.globalAlpha = code >= this.#codes[0] && code <= this.#codes[1] ? 1 : 0.25;
      pen.fillStyle = `rgb(${palette.slice(4 * code, 4 * code + 3).join(" ")})`;
      pen.fillRect(column, height - 12 - tall, 1, tall);
      pen.fillRect(column, height - 10, 1, 10);
    }
    pen.globalAlpha = 1;
  }
}

/** How many shown points have each code; passes: the filter without the brush. */
export function countErrors(cloud, passes) {
  const counts = new Uint32Array(256);
  for (let i = 0; i < cloud.count; i++) {
    if (cloud.position[3 * i] !== -32768 && passes(cloud, i)) counts[cloud.error[i]] += 1;
  }
  return [...counts];
}

function fill(row, texts) {
  row.replaceChildren(...texts.map((text) => make("span", {}, text)));
}
