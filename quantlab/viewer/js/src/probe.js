// The probed pair of points: found under the pointer or by pixel, told in numbers, shown on both sides. It changes nothing else.
import { decode } from "./frame.js";
import { distance, readable } from "./dom.js";
import { paneAt } from "./layout.js";
import { pick } from "./pick.js";
import { HIDDEN } from "./points.js";

const NOTHING = { index: -1 };

export class Probe {
  #pinned = null; // {index, side, place}: clicked, or set by key
  #hovered = null; // the same, as long as the pointer rests there

  constructor(viewer) {
    this.viewer = viewer;
    this.data = null;
  }

  get isSet() {
    return this.#pinned !== null;
  }

  /** The probed pixel: {frame, row, column}, or null. */
  get place() {
    return this.#pinned?.place ?? null;
  }

  /** New values of the same scene keep the probed pair: the person sees where it went. */
  setData(data, { isNewScene }) {
    this.data = data;
    this.#hovered = null;
    const cloud = this.#pinned?.side === 0 ? data?.left : data?.right;
    if (isNewScene || (this.#pinned?.index ?? 0) >= (cloud?.count ?? 0)) this.#pinned = null;
  }

  /** Probes at CSS pixels of the canvas, from the top left -> what is there ({index: -1}: nothing). */
  at(x, y, panes) {
    this.#hovered = null;
    this.#pinned = this.#find(x, y, panes);
    this.show(panes);
    return this.describe();
  }

  hoverAt(x, y, panes) {
    this.#hovered = this.#find(x, y, panes);
    this.show(panes);
  }

  /** Probes a pixel -> what is there; where its point is not packed, its nearest neighbour that is. */
  atPixel(place, panes) {
    this.#hovered = null;
    this.#pinned = this.#ofPixel(place);
    this.show(panes);
    return this.describe();
  }

  /** place: {frame, row, column}, or null where the pointer left. */
  hoverPixel(place, panes) {
    this.#hovered = place && this.#ofPixel(place);
    this.show(panes);
  }

  clear() {
    this.#pinned = this.#hovered = null;
    this.show([]);
  }

  #find(x, y, panes) {
    const { stage, overlay } = this.viewer;
    const height = overlay.element.clientHeight;
    const pane = paneAt(panes, x, y, height);
    const cloud = pane && [this.data.left, this.data.right][pane.side];
    if (!cloud) return null;
    const { view } = pane;
    const where = { x: x - view.x, y: y - (height - view.y - view.height), width: view.width, height: view.height };
    const passes = this.viewer.filter();
    const index = pick(cloud, stage.pickMatrix(view), { ...where, visible: (i) => passes(cloud, i) });
    return index < 0 ? null : { index, side: pane.side, place: this.data.grid?.place(index) ?? null };
  }

  #ofPixel(place) {
    return { index: this.data.grid.indexOf(place), side: 0, place };
  }

  show(panes) {
    const now = this.data && (this.#hovered ?? this.#pinned);
    this.viewer.strip.showProbe(now?.place ?? null);
    if (!now) return this.viewer.overlay.showProbe([], "", "");
    const point = this.describe(now);
    const height = this.viewer.overlay.element.clientHeight;
    const project = (world, { view }) => world && this.viewer.stage.project(world, view, height);
    const marks = panes.map((pane) => ({ ...pane, height, ends: [project(point.left, pane), project(point.right, pane)] }));
    const apart = this.#apart(point);
    this.viewer.overlay.showProbe(marks, this.#where(now, point) + (apart && `, ${apart}`), this.#short(point));
  }

  #where({ place, index }, { frame }) {
    if (!place) return `frame ${frame + 1}`;
    const text = `frame ${place.frame + 1}, row ${place.row + 1}, column ${place.column + 1}`;
    return index < 0 ? `${text}: its point is not in this sample` : text;
  }

  #short({ displacement }) {
    return displacement === null ? "" : distance(this.data.meta, displacement).join(" ").replace(" of the scene", "");
  }

  #apart({ index, displacement, left, right }) {
    const { meta } = this.data;
    if (displacement !== null) {
      const units = meta.size ? ` (${readable(displacement)} ${meta.unit})` : "";
      return `${distance(meta, displacement).join(" ")} apart${units}`;
    }
    if (index < 0 || !meta.paired) return "";
    return left && right ? "" : "one of its points lies far outside";
  }

  /** What the event says of a probed point: its pixel, both places in the world, and how far they lie apart. */
  describe(now = this.#pinned) {
    if (!now || now.index < 0) return { ...NOTHING, ...(now?.place ?? {}) };
    const { meta, left, right } = this.data;
    const { index, side } = now;
    const at = (cloud, own) => {
      const isKnown = cloud && (meta.paired || own === side);
      return isKnown && cloud.position[3 * index] !== HIDDEN ? decode(meta, cloud.position, index) : null;
    };
    const ends = [at(left, 0), at(right, 1)];
    const displacement = meta.paired && ends[0] && ends[1] ? Math.hypot(...ends[0].map((value, c) => ends[1][c] - value)) : null;
    const code = meta.paired ? right?.error?.[index] : undefined;
    const error = code === undefined ? null : (code / 255) * meta.error.max;
    const share = displacement === null || !meta.size ? null : displacement / meta.size;
    const place = now.place ?? { frame: (side === 0 ? left : right).frame?.[index] ?? 0 };
    return { index, side, ...place, left: ends[0], right: ends[1], error, displacement, unit: meta.unit, share };
  }
}
