// Everything drawn over the canvas that is not a point: labels, divider, legend, notes, the probe's rings.
import { distance, grouped, make, setText } from "./dom.js";
import { errorGradient } from "./theme.js";

export class Overlay {
  /** onDivider: called with the fraction of the width while the divider is dragged or moved by key. */
  constructor(canvas, onDivider) {
    this.canvas = canvas;
    this.labels = [0, 1].map((side) => make("div", { class: `over label side-${side}` }));
    this.rule = make("div", { class: "over rule" });
    this.divider = make("div", {
      class: "divider",
      role: "slider",
      tabindex: 0,
      "aria-label": "Divider between the two clouds",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    });
    this.status = make("div", { class: "over status" });
    this.probe = make("div", { class: "over probe", role: "status" });
    this.rings = [0, 1].map((side) => make("div", { class: `over ring side-${side}`, hidden: true }));
    this.ramp = make("div", { class: "ramp" });
    this.ticks = make("div", { class: "ticks" });
    this.legendTitle = make("div", {});
    this.legend = make("div", { class: "over legend" }, this.legendTitle, this.ramp, this.ticks);
    this.notes = [0, 1, 2].map(() => make("div", { class: "over note", hidden: true }, make("span", {})));
    this.busy = make("div", { class: "over busy", hidden: true });
    const parts = [this.rule, ...this.notes, ...this.rings, ...this.labels, this.status, this.probe, this.legend];
    this.element = make("div", { class: "stage" }, canvas, ...parts, this.divider, this.busy);
    this.#listen(onDivider);
  }

  #listen(report) {
    const move = (event) => {
      const box = this.element.getBoundingClientRect();
      report((event.clientX - box.left) / box.width);
    };
    this.divider.addEventListener("pointerdown", (event) => {
      this.divider.setPointerCapture(event.pointerId);
      this.divider.addEventListener("pointermove", move);
    });
    const stop = () => this.divider.removeEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) this.divider.addEventListener(kind, stop);
  }

  show(state, meta, { notes, outside, points }) {
    const { mode, divider, shown, theme } = state;
    const names = meta?.labels ?? ["full precision", "quantized"];
    this.labels.forEach((label, side) => {
      label.hidden = !meta || (mode === "flip" && side !== shown);
      const heat = mode === "error" && side === 1 ? ", error" : "";
      setLabel(label, names[side] + heat, mode === "flip" ? (side === 0 ? "A" : "B") : "");
      const right = mode === "swipe" && side === 1;
      label.style.left = right ? "auto" : side === 1 && mode !== "flip" ? "calc(50% + 8px)" : "8px";
      label.style.right = right ? "8px" : "auto";
    });
    this.rule.hidden = Boolean(notes[0]) || !(mode === "split" || mode === "error");
    this.rule.style.left = "50%";
    this.divider.hidden = !meta || mode !== "swipe";
    this.divider.style.left = `${divider * 100}%`;
    this.divider.setAttribute("aria-valuenow", String(Math.round(divider * 100)));
    this.#showNotes(notes, mode);
    this.#showLegend(mode === "error" && meta?.error ? meta : null, theme);
    const hidden = outside > 0 ? `, ${grouped(outside)} far outside not drawn` : "";
    setText(this.status, meta ? `${grouped(points)} points a cloud${hidden}` : "");
    this.status.hidden = !meta;
  }

  /** notes: text over the whole, the left and the right half; "" for none. */
  #showNotes(notes, mode) {
    this.notes.forEach((note, i) => {
      note.hidden = !notes[i];
      setText(note.firstChild, notes[i]);
      const half = mode === "split" || mode === "error";
      note.style.left = i === 2 && half ? "50%" : "0";
      note.style.right = i === 1 && half ? "50%" : "0";
    });
  }

  #showLegend(meta, theme) {
    this.legend.hidden = !meta;
    if (!meta) return;
    const [top, unit] = distance(meta, meta.error.max);
    setText(this.legendTitle, `distance to ${meta.labels[0]}, ${unit}`);
    this.ramp.style.background = errorGradient(theme);
    const texts = ["0", distance(meta, meta.error.max / 2)[0], `\u2265 ${top}`];
    this.ticks.replaceChildren(...texts.map((text) => make("span", {}, text)));
  }

  /** places: pixel positions of the probed point, one list a side; text: what is known of it. */
  showProbe(places, text) {
    this.rings.forEach((ring, side) => {
      ring.hidden = !places[side];
      if (places[side]) ring.style.transform = `translate(${places[side][0]}px, ${places[side][1]}px)`;
    });
    setText(this.probe, text);
    this.probe.hidden = !text;
  }
}

function setLabel(label, text, key) {
  const wanted = key ? `${text} ${key}` : text;
  if (label.textContent === wanted) return;
  label.replaceChildren(text, ...(key ? [" ", make("kbd", {}, key)] : []));
}
