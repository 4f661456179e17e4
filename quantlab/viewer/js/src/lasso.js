// The tool that marks a region by a line drawn over the clouds. Pictures have their own line; both mark the same region.
import { make } from "./dom.js";
import { paneAt } from "./layout.js";
import { pointsInside } from "./polygon.js";

const STEP = 3; // CSS pixels between the corners of the line

/** "replace", "add" or "subtract", by the keys held. */
export function howOf(event) {
  if (event.ctrlKey || event.metaKey) return "subtract";
  return event.shiftKey ? "add" : "replace";
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export class Lasso {
  #path = null;
  #pane = null;

  constructor(viewer) {
    this.viewer = viewer;
    this.isActive = false;
    this.line = svg("polygon", { class: "lasso" });
    this.drawing = svg("svg", { class: "over drawing" }, this.line);
    this.hint = make("div", { class: "over hint", hidden: true }, "Draw around the region. Shift adds, ctrl takes away, alt also takes what lies behind.");
  }

  toggle() {
    if (this.isActive) this.stop();
    else if (this.viewer.data?.grid && this.viewer.stage) this.#set(true);
  }

  stop() {
    this.#path = null;
    this.#set(false);
  }

  #set(isActive) {
    this.isActive = isActive;
    this.viewer.rig.controls.enabled = !isActive;
    this.hint.hidden = !isActive;
    for (const { element } of [this.viewer.overlay, this.viewer.strip]) element.classList.toggle("marking", isActive);
    this.#show();
    this.viewer.showOverlay();
  }

  /** Pointer events of the canvas, at CSS pixels from its top left. */
  down(x, y) {
    const panes = this.viewer.panes();
    this.#pane = paneAt(panes, x, y, this.viewer.overlay.element.clientHeight);
    this.#path = this.#pane ? [[x, y]] : null;
  }

  move(x, y) {
    if (!this.#path) return;
    const [lastX, lastY] = this.#path.at(-1);
    if (Math.hypot(x - lastX, y - lastY) < STEP) return;
    this.#path.push([x, y]);
    this.#show();
  }

  up(event) {
    const path = this.#path;
    if (!path) return;
    this.#path = null;
    this.#show();
    if (path.length < 3) return;
    this.viewer.marked(this.#pixels(path, event.altKey), howOf(event));
    if (!event.shiftKey) this.stop();
  }

  #pixels(path, through) {
    const { data, stage, overlay } = this.viewer;
    const { side, view } = this.#pane;
    const cloud = [data.left, data.right][side];
    if (!cloud) return [];
    const top = overlay.element.clientHeight - view.y - view.height;
    const inPane = path.map(([x, y]) => [x - view.x, y - top]);
    const passes = this.viewer.filter();
    const where = { width: view.width, height: view.height, visible: (i) => passes(cloud, i), through };
    return pointsInside(cloud, stage.pickMatrix(view), inPane, where).map((index) => data.grid.pixels[index]);
  }

  #show() {
    this.line.setAttribute("points", (this.#path ?? []).map((point) => point.join(",")).join(" "));
  }
}
