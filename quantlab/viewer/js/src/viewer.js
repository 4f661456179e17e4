// The viewer itself: holds the state, draws only when something changed, and tells listeners what a person did.
import { Cadence } from "./cadence.js";
import { bindInput } from "./input.js";
import { make } from "./dom.js";
import { MODES, panes } from "./layout.js";
import { DEFAULTS, describeScene, keptFrames, toggledFrames } from "./options.js";
import { Overlay } from "./overlay.js";
import { DRAG_POINTS } from "./points.js";
import { Probe } from "./probe.js";
import { Rig } from "./rig.js";
import { Stage } from "./stage.js";
import { readStats } from "./stats.js";
import { CSS } from "./styles.js";
import { errorPalette, resolveTheme, sideColours, THEMES } from "./theme.js";
import { Toolbar } from "./toolbar.js";
import { unpack } from "./unpack.js";
import { clamp, firstView, surveyScene } from "./view.js";

export class Viewer {
  #listeners = new Set();
  #message = "";
  #scene = null;
  #probe = null;
  #isFirstView = false;

  constructor(element, options = {}) {
    this.element = element;
    this.state = { ...DEFAULTS, ...options };
    this.data = null;
    this.cadence = new Cadence(() => this.#draw());
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
    this.#probe = new Probe(this);
    this.setTheme(this.state.theme);
    if (this.stage) this.#wire();
  }

  #wire() {
    this.rig = new Rig(this.stage.camera, this.canvas, {
      moved: () => {
        this.#isFirstView = false;
        this.cadence.moved();
      },
      emit: () => this.#emit("camera", { camera: this.getCamera() }),
    });
    this.unbind = bindInput(this);
    this.sizes = new ResizeObserver(() => this.#resize());
    this.sizes.observe(this.overlay.element);
    this.cadence.start(this.element);
    this.#resize();
  }

  #actions() {
    return {
      mode: (mode) => this.#act({ mode }),
      frame: (index, alone) => {
        this.#act({ frames: toggledFrames(this.state.frames, this.data?.meta.frames ?? 0, index, alone) });
      },
      confidence: (confidence) => this.#act({ confidence }),
      size: (pointSize) => this.#act({ pointSize }),
      cameras: () => this.#act({ cameras: !this.state.cameras }),
      reset: () => {
        this.resetCamera();
        this.#emit("camera", { camera: this.getCamera() });
      },
    };
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
      if ("cameras" in change) this.#colourSides();
    }
    this.#showOverlay();
    this.invalidate();
  }

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
    const isNewScene = this.#scene !== data.meta.scene;
    this.#scene = data.meta.scene;
    this.data = data;
    this.#message = "";
    if (!this.stage) return this.#showOverlay();
    this.stage.setClouds(data);
    if (isNewScene) {
      this.stage.setSurvey(surveyScene(data));
      this.state.frames = keptFrames(this.state.frames, data.meta.frames);
      this.stage.frames.set(this.state.frames);
      this.resetCamera();
      if (this.state.camera) this.setCamera(this.state.camera);
      delete this.state.camera;
    }
    this.#probe.setData(data, { isNewScene });
    this.#colourSides();
    this.#showOverlay();
    this.invalidate();
  }

  clear() {
    this.data = null;
    this.#probe.setData(null, { isNewScene: true });
    this.stage?.setClouds(null);
    this.#colourSides();
    this.#showOverlay();
    this.invalidate();
  }

  setMode(mode) {
    if (!MODES.includes(mode)) throw new RangeError(`unknown mode ${mode}; choose one of ${MODES.join(", ")}`);
    this.#apply({ mode });
  }

  setTheme(theme) {
    this.state.theme = theme;
    const name = resolveTheme(theme);
    for (const [role, colour] of Object.entries(THEMES[name])) this.root.style.setProperty(`--${role}`, colour);
    this.root.style.colorScheme = name;
    this.stage?.setBackground(THEMES[name].canvas);
    this.stage?.palette.set(errorPalette(name));
    this.#colourSides();
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

  /** {position, target, up, fov} in world coordinates and degrees, or null before there is a scene. */
  getCamera() {
    return this.stage?.survey ? { ...this.rig.get(this.stage.survey.rotation), fov: this.stage.fov } : null;
  }

  setCamera(camera) {
    if (!this.stage?.survey || !camera?.position) return;
    this.rig.set(camera, this.stage.survey);
    this.stage.fov = camera.fov ?? this.stage.fov;
    this.#isFirstView = false;
    this.invalidate();
  }

  /** The first view of the scene; it fits the size of the view until somebody moves the camera. */
  resetCamera() {
    if (!this.stage?.survey) return;
    const { width, height } = this.#panes()[0].view;
    this.setCamera(firstView(this.stage.survey, width / height));
    this.#isFirstView = true;
  }

  invalidate() {
    if (this.stage) this.cadence.invalidate();
  }

  #panes() {
    const { clientWidth, clientHeight } = this.overlay.element;
    return panes(this.state.mode, clientWidth, clientHeight, this.state);
  }

  #draw() {
    this.stage.render(this.#panes(), {
      threshold: this.state.confidence * 2.56,
      pointSize: this.state.pointSize,
      most: this.cadence.isMoving ? DRAG_POINTS : Infinity,
    });
    this.#probe.show(this.#panes());
  }

  #resize() {
    const { clientWidth, clientHeight } = this.overlay.element;
    if (!clientWidth || !clientHeight) return;
    this.stage.resize(clientWidth, clientHeight, Math.min(2, globalThis.devicePixelRatio || 1));
    if (this.#isFirstView) this.resetCamera();
    this.#draw();
  }

  #colourSides() {
    const [left, right] = sideColours(resolveTheme(this.state.theme), this.data?.meta.labels);
    this.root.style.setProperty("--left", left);
    this.root.style.setProperty("--right", right);
    this.stage?.setFrusta([left, right], this.state.cameras && Boolean(this.data));
  }

  #showOverlay() {
    const { data, state } = this;
    this.overlay.show({ ...state, theme: resolveTheme(state.theme) }, data?.meta ?? null, describeScene(data, state, this.#message));
    this.toolbar.show(state, data?.meta.frames ?? 0);
  }

  /** Probes at CSS pixels of the canvas, from the top left: both points of the pair light up. */
  probe(x, y) {
    if (this.data && this.stage) this.#emit("pick", this.#probe.at(x, y, this.#panes()));
  }

  clearProbe() {
    this.#probe.clear();
  }

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
    this.cadence.rest();
    this.#draw();
    return this.canvas.toDataURL("image/png");
  }

  /** Numbers for tests and benchmarks. */
  stats() {
    return readStats(this);
  }

  dispose() {
    this.cadence.dispose();
    this.#listeners.clear();
    this.sizes?.disconnect();
    this.unbind?.();
    this.rig?.dispose();
    this.stage?.dispose();
    this.stage = null;
    this.element.shadowRoot.replaceChildren();
    delete this.element.__quantlabViewer;
  }
}
