// The row of input pictures below the clouds: what is done to a pixel becomes a probe or a part of the region.
import { make } from "./dom.js";
import { Picture } from "./picture.js";

export class Strip {
  #data = null;
  #corner = null;

  constructor(viewer) {
    this.viewer = viewer;
    this.pictures = [];
    this.element = make("div", { class: "strip", role: "group", "aria-label": "Input pictures", hidden: true });
    this.sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) if (isIntersecting) this.pictures.find(({ element }) => element === target)?.load();
    });
  }

  get isMarking() {
    return this.#corner !== null;
  }

  /** New clouds of the same pictures keep what is drawn; data may be null. */
  setData(data) {
    const isSame = data?.grid && this.#data?.grid && sameBytes(data.pictures, this.#data.pictures) && this.#data.meta.scene === data.meta.scene;
    this.#data = data;
    if (isSame && data.pictures.length) return;
    this.#corner = null;
    const frames = data?.grid ? [...Array(data.grid.frames).keys()] : [];
    this.pictures = frames.map((frame) => new Picture(frame, data.grid, { source: data.pictures[frame], paint: (...where) => this.#paint(...where) }, this.#report()));
    this.sight.disconnect();
    this.element.replaceChildren(...this.pictures.map((picture) => picture.element));
    for (const { element } of this.pictures) this.sight.observe(element);
  }

  /** Without pictures, the colours of the points that are packed. */
  #paint(frame, pixels) {
    const { grid, left } = this.#data;
    const [area, { color }] = [grid.height * grid.width, left];
    for (let index = 0; index < grid.pixels.length; index++) {
      if (left.frame[index] !== frame) continue;
      const at = 4 * (grid.pixels[index] % area);
      for (let c = 0; c < 3; c++) pixels[at + c] = color[3 * index + c];
      pixels[at + 3] = 255;
    }
  }

  #report() {
    const { viewer } = this;
    return {
      hover: (place) => viewer.hoverPixel(place),
      leave: () => viewer.hoverPixel(null),
      pick: (place) => viewer.probePixel(place),
      step: (frame, by) => this.#step(frame, by),
      corner: (frame, how) => this.#setCorner(frame, how),
      mark: (frame, found, how) => this.#mark(frame, found, how),
    };
  }

  #step(frame, [down, right]) {
    const { height, width } = this.#data.grid;
    const now = this.viewer.prober.place;
    const from = now?.frame === frame ? now : { row: (height >> 1) - down, column: (width >> 1) - right };
    const inside = (value, size) => Math.min(size - 1, Math.max(0, value));
    this.viewer.probePixel({ frame, row: inside(from.row + down, height), column: inside(from.column + right, width) });
  }

  #setCorner(frame, how) {
    const now = this.viewer.prober.place;
    if (now?.frame !== frame) return this.#step(frame, [0, 0]);
    const first = this.#corner;
    this.#corner = first?.frame === frame ? null : now;
    this.pictures.forEach((picture) => picture.showCorner(this.#corner?.frame === picture.frame ? this.#corner : null));
    if (this.#corner) return;
    const [rows, columns] = [[first.row, now.row], [first.column, now.column]].map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);
    const found = [];
    for (let row = rows[0]; row <= rows[1]; row++) for (let column = columns[0]; column <= columns[1]; column++) found.push([row, column]);
    this.#mark(frame, found, how);
  }

  #mark(frame, found, how) {
    const { grid } = this.#data;
    if (this.viewer.lasso.isActive) this.viewer.lasso.stop();
    this.viewer.marked(found.map(([row, column]) => grid.pixelOf({ frame, row, column })), how);
  }

  cancel() {
    this.#corner = null;
    this.pictures.forEach((picture) => picture.showCorner(null));
  }

  /** frames: those shown, or null for all; place: the probed pixel, or null. */
  show(frames) {
    for (const { element, frame } of this.pictures) element.classList.toggle("off", Boolean(frames) && !frames.includes(frame));
  }

  showProbe(place) {
    for (const picture of this.pictures) picture.showProbe(place?.frame === picture.frame ? place : null);
  }

  /** Scrolls the picture of a probed point into sight. */
  reveal(frame) {
    const { element } = this.pictures[frame] ?? {};
    if (!element) return;
    const { offsetLeft, offsetWidth } = element;
    const { scrollLeft, clientWidth } = this.element;
    if (offsetLeft < scrollLeft || offsetLeft + offsetWidth > scrollLeft + clientWidth) this.element.scrollLeft = offsetLeft - (clientWidth - offsetWidth) / 2;
  }

  showRegion(region, colour) {
    const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    for (const picture of this.pictures) picture.showRegion(region, channels);
  }
}

function sameBytes(a, b) {
  const isSame = (x, y) => x.length === y.length && x.every((value, i) => value === y[i]);
  return a.length === b.length && a.every((bytes, i) => isSame(bytes, b[i]));
}
