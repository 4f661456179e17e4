// Everything drawn over the canvas that is not a point: labels, divider, legend, notes, the probe, the region's count.
import { grouped, make, setText } from "./dom.js";
import { svg } from "./lasso.js";

export class Overlay {
  /** act: of actions.js; legend: the error scale; lasso: its line and hint. */
  constructor(canvas, act, legend, lasso) {
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
    this.status = make("div", { class: "status" });
    this.probe = make("div", { class: "probe", role: "status" });
    this.regionText = make("span", {});
    const clear = make("button", { type: "button", title: "Forget the region (escape)", "aria-label": "Clear the region", onclick: () => act.clearRegion() }, "clear");
    this.region = make("div", { class: "region", hidden: true }, this.regionText, clear);
    this.rings = [0, 1].map((side) => make("div", { class: `over ring side-${side}`, hidden: true }));
    this.links = [0, 1].map(() => {
      const parts = { line: svg("line", {}), end: svg("circle", { r: 3.5 }) };
      return { ...parts, frame: svg("svg", { class: "over link" }, parts.line, parts.end) };
    });
    this.apart = make("div", { class: "over apart", hidden: true });
    this.foot = make("div", { class: "over foot" }, make("div", { class: "facts" }, this.region, this.probe, this.status), legend);
    this.notes = [0, 1, 2].map(() => make("div", { class: "over note", hidden: true }, make("span", {})));
    this.busy = make("div", { class: "over busy", hidden: true });
    const marks = [...this.links.map((link) => link.frame), ...this.rings, this.apart];
    const parts = [this.rule, ...this.notes, ...marks, lasso.drawing, lasso.hint, ...this.labels, this.foot];
    this.element = make("div", { class: "stage" }, canvas, ...parts, this.divider, this.busy);
    this.#listen(act.divider);
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

  /** seen: {notes, outside, points, region}: the texts of describeScene and how many pixels are marked. */
  show({ mode, divider, shown }, meta, { notes, outside, points, region }) {
    const names = meta?.labels ?? ["full precision", "quantized"];
    this.labels.forEach((label, side) => {
      label.hidden = !meta || (mode === "flip" && side !== shown);
      const heat = mode === "error" && side === 1 ? ", error" : "";
      setLabel(label, names[side] + heat, mode === "flip" ? (side === 0 ? "A" : "B") : "");
      const right = mode === "swipe" && side === 1;
      label.style.left = right ? "auto" : side === 1 && mode !== "flip" ? "calc(50% + 8px)" : "10px";
      label.style.right = right ? "10px" : "auto";
      label.style.maxWidth = mode === "flip" ? "calc(100% - 16px)" : "calc(50% - 16px)";
    });
    this.rule.hidden = Boolean(notes[0]) || !(mode === "split" || mode === "error");
    this.rule.style.left = "50%";
    this.divider.hidden = !meta || mode !== "swipe";
    this.divider.style.left = `${divider * 100}%`;
    this.divider.setAttribute("aria-valuenow", String(Math.round(divider * 100)));
    this.#showNotes(notes, mode);
    const hidden = outside > 0 ? `, ${grouped(outside)} far outside not drawn` : "";
    setText(this.status, meta ? `${grouped(points)} points a cloud${hidden}` : "");
    this.status.hidden = !meta;
    this.region.hidden = !region;
    setText(this.regionText, `region of ${grouped(region)} pixel${region === 1 ? "" : "s"}`);
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

  /**
   * marks: panes with `ends`, where the left and the right point lie in them (null: nowhere); text: what is known of
   * the pair; apart: their distance in short, written where they are.
   */
  showProbe(marks, text, apart) {
    this.rings.forEach((ring, side) => {
      const place = marks.find((mark) => mark.side === side)?.ends[side];
      ring.hidden = !place;
      if (place) ring.style.transform = `translate(${place[0]}px, ${place[1]}px)`;
    });
    this.links.forEach((link, i) => this.#showLink(link, marks[i]));
    const last = marks.findLast(({ ends }) => ends[0] && ends[1]);
    this.apart.hidden = !last || !apart;
    if (last) {
      const [x, y] = last.ends[last.side];
      const { view, height } = last;
      const isRight = x > view.x + view.width - 90;
      this.apart.style.transform = `translate(${x}px, ${Math.min(y, height - 24)}px) translate(${isRight ? "calc(-100% - 12px)" : "12px"}, -50%)`;
    }
    setText(this.apart, apart);
    setText(this.probe, text);
    this.probe.hidden = !text;
  }

  /** In each pane, a line from its own point to where the other cloud has it. */
  #showLink({ frame, line, end }, mark) {
    const [from, to] = mark ? [mark.ends[mark.side], mark.ends[1 - mark.side]] : [];
    frame.style.display = from && to ? "block" : "none";
    if (!from || !to) return;
    const { clip, height, side } = mark;
    const top = height - clip.y - clip.height;
    Object.assign(frame.style, { left: `${clip.x}px`, top: `${top}px`, width: `${clip.width}px`, height: `${clip.height}px` });
    const own = (point) => [point[0] - clip.x, point[1] - top];
    const [[x1, y1], [x2, y2]] = [own(from), own(to)];
    for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) line.setAttribute(name, value);
    end.setAttribute("cx", x2);
    end.setAttribute("cy", y2);
    frame.setAttribute("class", `over link side-${1 - side}`);
  }
}

function setLabel(label, text, key) {
  const wanted = key ? `${text} ${key}` : text;
  if (label.textContent === wanted) return;
  label.title = text;
  label.replaceChildren(make("span", {}, text), ...(key ? [" ", make("kbd", {}, key)] : []));
}
