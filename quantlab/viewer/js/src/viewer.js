// The viewer itself: holds the state, draws only when something changed, and tells listeners what a person did.
import { CSS } from "./styles.js";
import { decode } from "./frame.js";
import { bindInput } from "./input.js";
import { make, readable } from "./dom.js";
import { MODES, paneAt, panes } from "./layout.js";
import { Overlay } from "./overlay.js";
import { pick } from "./pick.js";
import { DRAG_POINTS } from "./points.js";
import { Rig } from "./rig.js";
import { Stage } from "./stage.js";
import { errorPalette, resolveTheme, THEMES } from "./theme.js";
import { Toolbar } from "./toolbar.js";
import { unpack } from "./unpack.js";
import { clamp, firstView, surveyScene } from "./view.js";

const DEFAULTS = {
  mode: "split",
  theme: "auto",
  pointSize: 1,
  confidence: 10,
  frames: null,
  cameras: true,
  divider: 0.5,
  shown: 1,
  toolbar: true,
  emptyText: "The two point clouds appear here, side by side, after the first comparison has run.",
};
const SETTLE_MILLISECONDS = 160;

export class Viewer {
  #listeners = new Set();
  #scheduled = 0;
  #settle = 0;
  #moving = false;
  #message = "";
  #probed = -1;
  #onScreen = true;

  constructor(element, options = {}) {
    this.element = element;
    this.state = { ...DEFAULTS, ...options };
    this.data = null;
    const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    this.canvas = make("canvas", {
      tabindex: 0,
      role: "application",
      "aria-label": "Point clouds. Arrow keys turn, shift and arrow keys move, plus and minus zoom, R returns, 1 to 4 change the comparison.",
    });
    this.overlay = new Overlay(this.canvas, (at) => this.#act({ divider: clamp(at, 0.02, 0.98) }));
    this.toolbar = new Toolbar(this.#actions());
    this.root = make("div", { class: "root" }, ...(this.state.toolbar ? [this.toolbar.element] : []), this.overlay.element);
    root.replaceChildren(this.root);
    try {
      this.stage = new Stage(this.canvas);
    } catch {
      this.#message = "This browser gives no WebGL 2, which the 3D comparison needs. Everything else works.";
    }
    if (this.stage) this.#wire();
    this.setTheme(this.state.theme);
    this.#showOverlay();
  }

  #wire() {
    this.rig = new Rig(this.stage.camera, this.canvas, {
      moved: () => this.#moved(),
      emit: () => this.#emit("camera", { camera: this.getCamera() }),
    });
    this.unbind = bindInput(this);
    this.sizes = new ResizeObserver(() => this.#resize());
    this.sizes.observe(this.overlay.element);
    this.sight = new IntersectionObserver((entries) => {
      this.#onScreen = entries.at(-1).isIntersecting;
      if (this.#onScreen) this.invalidate();
    });
    this.sight.observe(this.element);
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.setMessage("The graphics device was lost; the view returns when it does.");
    });
    this.canvas.addEventListener("webglcontextrestored", () => this.setMessage(""));
    this.#resize();
  }

  #actions() {
    return {
      mode: (mode) => this.#act({ mode }),
      frame: (index, alone) => this.#act({ frames: this.#toggledFrames(index, alone) }),
      confidence: (confidence) => this.#act({ confidence }),
      size: (pointSize) => this.#act({ pointSize }),
      cameras: () => this.#act({ cameras: !this.state.cameras }),
      reset: () => this.resetCamera(),
    };
  }

  #toggledFrames(index, alone) {
    const all = [...Array(this.data?.meta.frames ?? 0).keys()];
    const now = this.state.frames ?? all;
    if (alone) return now.length === 1 && now[0] === index ? null : [index];
    const next = all.filter((i) => now.includes(i) !== (i === index));
    return next.length === all.length ? null : next;
  }

  /** What a person did: applied, and told to the listeners. */
  #act(change) {
    this.#apply(change);
    this.#emit("state", { ...change });
  }

  #apply(change) {
    Object.assign(this.state, change);
    if (this.stage) {
      if ("frames" in change) this.stage.frames.set(this.state.frames);
      if ("cameras" in change) this.#rebuildFrusta();
    }
    if ("mode" in change || "shown" in change) this.#probed = this.data ? this.#probed : -1;
    this.#showOverlay();
    this.invalidate();
  }

  // ---- data -------------------------------------------------------------------------------------------------

  /** The payload of pack.py: ArrayBuffer, DataView, typed array, data URL or base64. A damaged one is told, not thrown. */
  setPayload(payload) {
    if (!payload || payload.byteLength === 0) return this.clear();
    try {
      this.setClouds(unpack(payload));
    } catch (error) {
      this.setMessage(`The clouds could not be read: ${error.message}.`);
    }
  }

  /** {left, right, meta} as unpack gives them; the camera stays unless the scene is another one. */
  setClouds(data) {
    const isNewScene = !this.data || this.data.meta.scene !== data.meta.scene;
    this.data = data;
    this.#message = "";
    if (!this.stage) return this.#showOverlay();
    this.stage.setClouds(data);
    if (isNewScene) {
      this.#probed = -1;
      this.stage.setSurvey(surveyScene(data));
      this.stage.frames.set(this.state.frames);
      this.resetCamera();
      if (this.state.camera) this.setCamera(this.state.camera);
      delete this.state.camera;
    }
    if (this.#probed >= data.left.count) this.#probed = -1;
    this.#rebuildFrusta();
    this.#showOverlay();
    this.invalidate();
  }

  clear() {
    this.data = null;
    this.#probed = -1;
    this.stage?.setClouds({ left: null, right: null, meta: null });
    if (this.stage) this.stage.data = null;
    this.#rebuildFrusta();
    this.#showOverlay();
    this.invalidate();
  }

  // ---- settings ---------------------------------------------------------------------------------------------

  setMode(mode) {
    if (!MODES.includes(mode)) throw new RangeError(`unknown mode ${mode}; choose one of ${MODES.join(", ")}`);
    this.#apply({ mode });
  }

  setTheme(theme) {
    this.state.theme = theme;
    this.colours = THEMES[resolveTheme(theme)];
    for (const [name, colour] of Object.entries(this.colours)) this.root.style.setProperty(`--${name}`, colour);
    this.root.style.colorScheme = resolveTheme(theme);
    this.stage?.setBackground(this.colours.canvas);
    this.stage?.palette.set(errorPalette(resolveTheme(theme)));
    this.#rebuildFrusta();
    this.#showOverlay();
    this.invalidate();
  }

  /** 1 closes the gaps of a surface seen from its camera. */
  setPointSize(pointSize) {
    this.#apply({ pointSize: clamp(Number(pointSize) || 1, 0.1, 10) });
  }

  /** Indices of the frames shown; null for all. */
  setFrames(frames) {
    this.#apply({ frames: frames == null ? null : [...frames] });
  }

  /** Hides this many percent of the points, the least confident ones. */
  setConfidence(percentile) {
    this.#apply({ confidence: clamp(Number(percentile) || 0, 0, 99) });
  }

  setCameras(visible) {
    this.#apply({ cameras: Boolean(visible) });
  }

  setDivider(fraction) {
    this.#apply({ divider: clamp(fraction, 0.02, 0.98) });
  }

  /** Flip mode: 0 shows the left cloud, 1 the right one. */
  setShown(side) {
    this.#apply({ shown: side });
  }

  /** A sentence over the view instead of the clouds; "" takes it away. */
  setMessage(text) {
    this.#message = text ?? "";
    this.#showOverlay();
    this.invalidate();
  }

  setBusy(busy) {
    this.overlay.busy.hidden = !busy;
  }

  flip(side) {
    this.#act({ mode: "flip", shown: side ?? 1 - this.state.shown });
  }

  // ---- camera -----------------------------------------------------------------------------------------------

  /** {position, target, up, fov} in world coordinates and degrees, or null before there is a scene. */
  getCamera() {
    return this.stage?.survey ? { ...this.rig.get(this.stage.survey.rotation), fov: this.stage.fov } : null;
  }

  setCamera(camera) {
    if (!this.stage?.survey || !camera) return;
    this.rig.set(camera, this.stage.survey);
    this.stage.fov = camera.fov ?? this.stage.fov;
    this.invalidate();
  }

  resetCamera() {
    if (this.stage?.survey) this.setCamera(firstView(this.stage.survey));
  }

  // ---- drawing ----------------------------------------------------------------------------------------------

  invalidate() {
    if (this.#scheduled || !this.stage || !this.#onScreen) return;
    this.#scheduled = requestAnimationFrame(() => {
      this.#scheduled = 0;
      this.#draw();
    });
  }

  #moved() {
    this.#moving = true;
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => {
      this.#moving = false;
      this.invalidate();
    }, SETTLE_MILLISECONDS);
    this.invalidate();
  }

  #panes() {
    const { clientWidth, clientHeight } = this.overlay.element;
    return panes(this.state.mode, clientWidth, clientHeight, this.state);
  }

  #draw() {
    this.stage.render(this.#panes(), {
      threshold: this.state.confidence * 2.56,
      pointSize: this.state.pointSize,
      most: this.#moving ? DRAG_POINTS : Infinity,
    });
    this.#showProbe();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.overlay.element;
    if (!clientWidth || !clientHeight) return;
    this.stage.resize(clientWidth, clientHeight, Math.min(2, globalThis.devicePixelRatio || 1));
    this.#draw();
  }

  #rebuildFrusta() {
    this.stage?.setFrusta([this.colours.left, this.colours.right], this.state.cameras && Boolean(this.data));
  }

  #showOverlay() {
    if (!this.overlay || !this.colours) return;
    const { data, state } = this;
    const outside = data ? data.left.outside + (data.right?.outside ?? 0) : 0;
    const whole = this.#message || (data ? "" : state.emptyText);
    const right = whole || !data || data.right ? "" : `No ${data.meta.labels[1]} cloud yet.`;
    const unpaired = state.mode === "error" && data?.right && !data.meta.error;
    const notes = [whole, "", unpaired ? "These clouds are not of the same pixels, so there is no paired distance." : right];
    const drawn = data ? Math.max(data.left.count, data.right?.count ?? 0) : 0;
    this.overlay.show({ ...state, theme: resolveTheme(state.theme) }, data?.meta ?? null, { notes, outside, drawn });
    this.toolbar.show(state, data?.meta.frames ?? 0);
  }

  // ---- probing ----------------------------------------------------------------------------------------------

  /** Probes at CSS pixels of the canvas, from the top left: both points of the pair light up. */
  probe(x, y) {
    if (!this.data) return;
    const height = this.overlay.element.clientHeight;
    const pane = paneAt(this.#panes(), x, y, height);
    const cloud = pane && (pane.side === 0 ? this.data.left : this.data.right);
    if (!cloud) return;
    const { view } = pane;
    const place = { x: x - view.x, y: y - (height - view.y - view.height), width: view.width, height: view.height };
    const index = pick(cloud, this.stage.pickMatrix(view), { ...place, visible: (i) => this.#visible(cloud, i) });
    this.#probed = index;
    this.probedSide = pane.side;
    this.#showProbe();
    this.#emit("pick", index < 0 ? { index: -1 } : { side: pane.side, ...this.#describe(index) });
  }

  #visible(cloud, i) {
    const isConfident = !cloud.confidence || cloud.confidence[i] >= this.state.confidence * 2.56;
    return isConfident && this.stage.frames.has(cloud.frame ? cloud.frame[i] : 0);
  }

  #describe(index) {
    const { meta } = this.data;
    const clouds = [this.data.left, this.data.right];
    const owner = clouds[this.probedSide];
    const known = clouds.map((cloud, side) => cloud && (meta.paired || side === this.probedSide));
    const at = (side) =>
      known[side] && clouds[side].position[3 * index] !== -32768 ? decode(meta, clouds[side].position, index) : null;
    const error = meta.error && this.data.right?.error ? (this.data.right.error[index] / 255) * meta.error.max : null;
    return { index, frame: owner.frame ? owner.frame[index] : 0, left: at(0), right: at(1), error };
  }

  #showProbe() {
    if (this.#probed < 0 || !this.data) return this.overlay.showProbe([null, null], "");
    const point = this.#describe(this.#probed);
    const list = this.#panes();
    const height = this.overlay.element.clientHeight;
    const places = [point.left, point.right].map((world, side) => {
      const pane = list.find((entry) => entry.side === side);
      return world && pane ? this.stage.project(world, pane.view, height) : null;
    });
    const isTop = point.error !== null && this.data.right.error[point.index] === 255;
    const distance = point.error === null ? "" : `, ${isTop ? "at least " : ""}${readable(point.error)} ${this.data.meta.unit} apart`;
    this.overlay.showProbe(places, `frame ${point.frame + 1}${distance}`);
  }

  clearProbe() {
    this.#probed = -1;
    this.#showProbe();
  }

  // ---- talking to others ------------------------------------------------------------------------------------

  /** callback(event) with event.type "camera", "pick" or "state"; returns a function that ends it. */
  onEvent(callback) {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  #emit(type, detail) {
    for (const listener of this.#listeners) listener({ type, ...detail });
  }

  /** The canvas as a PNG data URL, drawn in full. */
  screenshot() {
    this.#moving = false;
    this.#draw();
    return this.canvas.toDataURL("image/png");
  }

  stats() {
    return {
      points: [this.data?.left.count ?? 0, this.data?.right?.count ?? 0],
      drawn: this.stage?.drawn ?? [0, 0],
      renders: this.stage?.renders ?? 0,
      milliseconds: this.stage?.lastMilliseconds ?? 0,
      camera: this.stage ? [...this.stage.camera.matrixWorld.elements] : [],
      contexts: Stage.contexts,
      mode: this.state.mode,
      shown: this.state.shown,
    };
  }

  dispose() {
    cancelAnimationFrame(this.#scheduled);
    clearTimeout(this.#settle);
    this.#listeners.clear();
    this.sizes?.disconnect();
    this.sight?.disconnect();
    this.unbind?.();
    this.rig?.dispose();
    this.stage?.dispose();
    this.stage = null;
    this.element.shadowRoot.replaceChildren();
    delete this.element.__quantlabViewer;
  }
}
