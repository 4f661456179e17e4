// Walking over the map by keyboard: arrow keys move a frame from layer to layer, Enter opens. It draws no cell.
import { make, setText } from "./dom.js";

export class MapCursor {
  #cells = [];
  #at = null;
  #told = new Map();

  /** canvas: the plotly element. host: where the frame goes, around the canvas. select(name) opens a layer. */
  constructor(canvas, host, select) {
    this.canvas = canvas;
    this.select = select;
    this.frame = make("div", { class: "ql-map-cursor", hidden: true });
    this.voice = make("div", { class: "ql-told", role: "status", "data-testid": "map-cursor" });
    host.append(this.frame, this.voice);
    for (const [name, value] of Object.entries({ tabindex: "0", role: "application", "aria-label": "Map of the layers. Arrow keys move, Enter opens a layer." })) {
      canvas.setAttribute(name, value);
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("focus", () => this.place());
    canvas.addEventListener("blur", () => (this.frame.hidden = true));
  }

  /** What is on the map now, or of it what was found; the cursor starts at the layer that is open. */
  show(figure, layers, selected, found = null) {
    const names = found && new Set(found);
    const cells = figure.data.find((trace) => trace.customdata)?.customdata ?? [];
    this.#cells = cells.map((line) => line.map((name) => (!names || names.has(name) ? name : "")));
    this.#told = new Map(layers.map(([name, short, , text]) => [name, `${short}: ${text || "not measured"}`]));
    const former = this.#at && this.#name(this.#at);
    this.#at = (document.activeElement === this.canvas && former && this.#find(former)) || this.#find(selected) || this.#first();
    this.place();
  }

  /** Brings the cursor's cell into view, where the map is taller than its place. */
  reveal() {
    const axis = this.canvas._fullLayout?.yaxis;
    if (this.#at && axis) this.canvas.parentElement.scrollTop = axis._offset + axis.l2p(this.#at[0]) - this.canvas.parentElement.clientHeight / 2;
  }

  /** Puts the frame around its cell, after the map was drawn or resized. */
  place() {
    const axes = this.canvas._fullLayout;
    this.frame.hidden = document.activeElement !== this.canvas || !this.#at || !axes?.xaxis;
    if (this.frame.hidden) return;
    const [row, column] = this.#at;
    const x = [column - 0.5, column + 0.5].map((value) => axes.xaxis._offset + axes.xaxis.l2p(value));
    const y = [row - 0.5, row + 0.5].map((value) => axes.yaxis._offset + axes.yaxis.l2p(value));
    Object.assign(this.frame.style, { left: `${x[0]}px`, width: `${x[1] - x[0]}px`, top: `${y[0]}px`, height: `${y[1] - y[0]}px` });
    setText(this.voice, this.#told.get(this.#name(this.#at)));
    this.frame.title = this.voice.textContent;
    this.frame.dataset.name = this.#name(this.#at);
  }

  #key(event) {
    if (!this.#at || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const ends = { Home: 0, End: -1 }[event.key];
    if (event.key === "Enter" || event.key === " ") this.select(this.#name(this.#at));
    else if (step) this.#at = this.#next(...step) ?? this.#at;
    else if (ends !== undefined) this.#at = [this.#at[0], this.#columns(this.#at[0]).at(ends)];
    else return;
    event.preventDefault();
    this.place();
    this.frame.scrollIntoView({ block: "nearest" });
  }

  /** The nearest layer that way: along the row, or in the next row that has any, as near to this column as can be. */
  #next(down, right) {
    const [row, column] = this.#at;
    if (right) {
      const found = this.#columns(row).filter((other) => (other - column) * right > 0);
      return found.length ? [row, right > 0 ? found[0] : found.at(-1)] : null;
    }
    for (let other = row + down; other >= 0 && other < this.#cells.length; other += down) {
      const columns = this.#columns(other);
      if (columns.length) return [other, columns.reduce((best, next) => (Math.abs(next - column) < Math.abs(best - column) ? next : best))];
    }
    return null;
  }

  #columns(row) {
    return this.#cells[row].flatMap((name, column) => (name ? [column] : []));
  }

  #find(name) {
    const row = name ? this.#cells.findIndex((line) => line.includes(name)) : -1;
    return row < 0 ? null : [row, this.#cells[row].indexOf(name)];
  }

  #first() {
    const row = this.#cells.findIndex((line) => line.some(Boolean));
    return row < 0 ? null : [row, this.#columns(row)[0]];
  }

  #name([row, column]) {
    return this.#cells[row]?.[column] ?? "";
  }
}
