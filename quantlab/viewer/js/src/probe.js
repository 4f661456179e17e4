// The probed pair of points: found under the pointer, told in numbers, ringed on both sides. It changes nothing else.
import { decode } from "./frame.js";
import { distance } from "./dom.js";
import { paneAt } from "./layout.js";
import { pick } from "./pick.js";
import { HIDDEN } from "./points.js";

export class Probe {
  #index = -1;
  #side = 0;

  constructor(viewer) {
    this.viewer = viewer;
    this.data = null;
  }

  /** New values of the same scene keep the probed pair: the person sees where it went. */
  setData(data, { isNewScene }) {
    this.data = data;
    const cloud = this.#side === 0 ? data?.left : data?.right;
    if (isNewScene || this.#index >= (cloud?.count ?? 0)) this.#index = -1;
  }

  /** Probes at CSS pixels of the canvas, from the top left -> what is there ({index: -1}: nothing). */
  at(x, y, panes) {
    const { stage, overlay } = this.viewer;
    const height = overlay.element.clientHeight;
    const pane = paneAt(panes, x, y, height);
    const cloud = pane && [this.data.left, this.data.right][pane.side];
    this.#index = -1;
    if (cloud) {
      const { view } = pane;
      const place = { x: x - view.x, y: y - (height - view.y - view.height), width: view.width, height: view.height };
      this.#index = pick(cloud, stage.pickMatrix(view), { ...place, visible: (i) => this.#visible(cloud, i) });
      this.#side = pane.side;
    }
    this.show(panes);
    return this.#index < 0 ? { index: -1 } : this.#describe();
  }

  clear() {
    this.#index = -1;
    this.viewer.overlay.showProbe([null, null], "");
  }

  show(panes) {
    if (this.#index < 0 || !this.data) return this.viewer.overlay.showProbe([null, null], "");
    const { stage, overlay } = this.viewer;
    const point = this.#describe();
    const places = [point.left, point.right].map((world, side) => {
      const pane = panes.find((entry) => entry.side === side);
      return world && pane ? stage.project(world, pane.view, overlay.element.clientHeight) : null;
    });
    overlay.showProbe(places, `frame ${point.frame + 1}${this.#distance(point)}`);
  }

  #distance({ index, error }) {
    if (error === null) return "";
    const bound = this.data.right.error[index] === 255 ? "at least " : "";
    return `, ${bound}${distance(this.data.meta, error).join(" ")} apart`;
  }

  #visible(cloud, i) {
    const isConfident = !cloud.confidence || cloud.confidence[i] >= this.viewer.state.confidence * 2.56;
    return isConfident && this.viewer.stage.frames.has(cloud.frame ? cloud.frame[i] : 0);
  }

  #describe() {
    const [index, { meta }] = [this.#index, this.data];
    const clouds = [this.data.left, this.data.right];
    const place = (side) => {
      const isKnown = clouds[side] && (meta.paired || side === this.#side);
      return isKnown && clouds[side].position[3 * index] !== HIDDEN ? decode(meta, clouds[side].position, index) : null;
    };
    const code = meta.paired ? clouds[1]?.error?.[index] : undefined;
    const error = code === undefined ? null : (code / 255) * meta.error.max;
    return { index, side: this.#side, frame: clouds[this.#side].frame?.[index] ?? 0, left: place(0), right: place(1), error };
  }
}
