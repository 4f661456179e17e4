// The viewer itself: holds the state, draws only when something changed, and tells listeners what a person did.
import { makeActions } from "./actions.js";
import { Cadence } from "./cadence.js";
import { make } from "./dom.js";
import { countErrors, ErrorScale } from "./errorscale.js";
import { errorCodes, errorRange, makeFilter } from "./filter.js";
import { Help } from "./help.js";
import { bindInput } from "./input.js";
import { Lasso } from "./lasso.js";
import { panes } from "./layout.js";
import { applyLook, colourSides, regionColour } from "./look.js";
import { DEFAULTS, describeScene, keptFrames } from "./options.js";
import { Overlay } from "./overlay.js";
import { DRAG_POINTS } from "./points.js";
import { Probe } from "./probe.js";
import { Region } from "./region.js";
import { Rig } from "./rig.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";
import { CSS } from "./styles.js";
import { Toolbar } from "./toolbar.js";
import { unpack } from "./unpack.js";
import { clamp, firstView, surveyScene } from "./view.js";

const TALL = 400; // CSS pixels: from here on there is room for pictures below the clouds
const STRIP = [72, 144]; // their height: about a sixth of the view, in these bounds

export class Viewer extends Settings {
  #message = "";
  #scene = null;
  #isFirstView = false;

  constructor(element, options = {}) {
    super();
    this.element = element;
    this.state = { ...DEFAULTS, ...options };
    this.data = null;
    this.region = new Region();
    this.cadence = new Cadence(() => this.#draw());
    const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    this.#build();
    root.replaceChildren(this.root);
    try {
      this.stage = new Stage(this.canvas);
    } catch {
      this.#message = "This browser gives no WebGL 2, which the 3D comparison needs. Everything else works.";
    }
    this.setTheme(this.state.theme);
    if (this.stage) this.#wire();
  }

  #build() {
    this.actions = makeActions(this);
    this.canvas = make("canvas", {
      tabindex: 0,
      role: "application",
      "aria-label": "Point clouds. Arrow keys turn, shift and arrow keys move, plus and minus zoom, question mark shows all keys.",
    });
    this.scale = new ErrorScale((codes) => this.actions.errors(errorRange(codes, this.data.meta)));
    this.lasso = new Lasso(this);
    this.overlay = new Overlay(this.canvas, this.actions, this.scale.element, this.lasso);
    this.toolbar = new Toolbar(this.actions);
    this.strip = new Strip(this);
    this.help = new Help();
    this.prober = new Probe(this);
    const controls = this.state.toolbar ? [this.toolbar.element, this.toolbar.menu.element] : [];
    this.root = make("div", { class: "root" }, ...controls, this.overlay.element, this.strip.element, this.help.element);
  }

  #wire() {
    this.rig = new Rig(this.stage.camera, this.canvas, {
      moved: () => {
        this.#isFirstView = false;
        this.cadence.moved();
      },
      emit: () => this.emit("camera", { camera: this.getCamera() }),
    });
    this.unbind = bindInput(this);
    this.sizes = new ResizeObserver(() => this.#resize());
    this.sizes.observe(this.overlay.element);
    this.sizes.observe(this.root);
    this.cadence.start(this.element);
    this.#resize();
  }

  apply(change) {
    Object.assign(this.state, change);
    if ("background" in change || "theme" in change) this.#colour();
    if (this.stage) {
      if ("frames" in change) this.stage.frames.set(this.state.frames);
      if ("cameras" in change) colourSides(this, this.scaleName);
    }
    this.showOverlay();
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

  /** {left, right, meta, ...} as unpack gives them; the camera stays unless the scene is another one. */
  setClouds(data) {
    const isNewScene = this.#scene !== data.meta.scene;
    this.#scene = data.meta.scene;
    this.data = data;
    this.#message = "";
    if (!this.stage) return this.showOverlay();
    this.stage.setClouds(data);
    if (isNewScene) {
      this.stage.setSurvey(surveyScene(data));
      this.state.frames = keptFrames(this.state.frames, data.meta.frames);
      this.state.errorRange = null;
      this.stage.frames.set(this.state.frames);
    }
    this.region.setGrid(data.grid, { isNewScene });
    this.prober.setData(data, { isNewScene });
    this.strip.setData(data);
    this.#colour();
    this.#fit(); // the pictures take their room before the first drawing, which is expensive
    if (isNewScene) {
      this.resetCamera();
      if (this.state.camera) this.setCamera(this.state.camera);
      delete this.state.camera;
    }
    this.#showRegion();
    this.cadence.moved(); // a coarse picture at once, the full one after it
  }

  clear() {
    this.data = null;
    if (this.lasso.isActive) this.lasso.stop();
    this.region.setGrid(null, { isNewScene: true });
    this.prober.setData(null, { isNewScene: true });
    this.strip.setData(null);
    this.stage?.setClouds(null);
    colourSides(this, this.scaleName);
    this.showOverlay();
    this.invalidate();
  }

  /** Marks pixels without telling anyone: base64 as in the event, 0/1 values for every pixel, or null for none. */
  setRegion(mask) {
    this.region.set(mask);
    this.#showRegion();
  }

  /** A person marked pixels; how: "replace", "add" or "subtract". */
  marked(pixels, how) {
    this.region.mark(pixels, how);
    this.#showRegion();
    this.emit("region", this.region.describe());
  }

  #showRegion() {
    const { data, region, stage, strip } = this;
    if (data?.marks) region.write(data.marks);
    stage?.marksChanged();
    strip.showRegion(region, regionColour(this.state));
    this.showOverlay();
    this.invalidate();
  }

  /** A sentence over the view instead of the clouds; "" takes it away. */
  setMessage(text) {
    this.#message = text ?? "";
    this.showOverlay();
    this.invalidate();
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
    const { width, height } = this.panes()[0].view;
    this.setCamera(firstView(this.stage.survey, width / height));
    this.#isFirstView = true;
  }

  invalidate() {
    if (this.stage) this.cadence.invalidate();
  }

  panes() {
    const { clientWidth, clientHeight } = this.overlay.element;
    return panes(this.state.mode, clientWidth, clientHeight, this.state);
  }

  /** (cloud, i) -> whether that point is shown now. */
  filter() {
    return makeFilter(this.state, this.stage.frames, this.#codes());
  }

  #codes() {
    return errorCodes(this.state.errorRange, this.data?.meta);
  }

  #draw() {
    this.stage.render(this.panes(), {
      threshold: this.state.confidence * 2.56,
      range: this.#codes(),
      pointSize: this.state.pointSize,
      most: this.cadence.isMoving ? Math.round(DRAG_POINTS * this.cadence.detail) : Infinity,
    });
    this.prober.show(this.panes());
  }

  #resize() {
    if (!this.#fit()) return;
    if (this.#isFirstView) this.resetCamera();
    this.#draw();
  }

  /** Makes the canvas as large as its place; whether it changed. */
  #fit() {
    this.toolbar.arrange(this.root.clientWidth);
    this.#showStrip();
    const { clientWidth, clientHeight } = this.overlay.element;
    if (!clientWidth || !clientHeight) return false;
    return this.stage.resize(clientWidth, clientHeight, Math.min(2, globalThis.devicePixelRatio || 1));
  }

  get picturesShown() {
    return Boolean(this.data?.grid) && (this.state.pictures ?? this.root.clientHeight >= TALL);
  }

  #showStrip() {
    this.strip.element.hidden = !this.picturesShown;
    this.strip.element.style.height = `${Math.round(clamp(this.root.clientHeight / 6, ...STRIP))}px`;
  }

  #colour() {
    this.scaleName = applyLook(this);
    colourSides(this, this.scaleName);
  }

  showOverlay() {
    const { data, state } = this;
    const texts = describeScene(data, state, this.#message);
    this.overlay.show(state, data?.meta ?? null, { ...texts, region: this.region.size });
    this.toolbar.show(state, data, { pictures: this.picturesShown, lasso: this.lasso.isActive });
    this.strip.show(state.frames);
    this.#showStrip();
    this.#showScale();
  }

  /** The legend stays while a range of errors hides points, whatever the mode. */
  #showScale() {
    const { data, state, scale } = this;
    const isShown = Boolean(data?.meta.error && data.meta.paired && this.stage && (state.mode === "error" || state.errorRange));
    scale.element.hidden = !isShown;
    if (!isShown) return;
    const counts = countErrors(data.right, makeFilter(state, this.stage.frames, null));
    scale.show(data.meta, this.scaleName, this.#codes(), counts);
  }

  /** Probes at CSS pixels of the canvas, from the top left: both points of the pair light up. */
  probe(x, y) {
    if (!this.data || !this.stage) return;
    const found = this.prober.at(x, y, this.panes());
    if (found.index >= 0) this.strip.reveal(found.frame);
    this.emit("pick", found);
  }

  /** Probes a pixel {frame, row, column} of the pictures. */
  probePixel(place) {
    if (this.data?.grid && this.stage) this.emit("pick", this.prober.atPixel(place, this.panes()));
  }

  /** The pointer rests at CSS pixels of the canvas, or left it (null). */
  hover(place) {
    if (!this.data || !this.stage) return;
    if (place) this.prober.hoverAt(...place, this.panes());
    else this.prober.hoverPixel(null, this.panes());
  }

  hoverPixel(place) {
    if (this.data?.grid && this.stage) this.prober.hoverPixel(place, this.panes());
  }

  clearProbe() {
    this.prober.clear();
  }

  drawInFull() {
    this.cadence.rest();
    this.#draw();
  }

  /** The canvas as a PNG data URL, drawn in full. */
  screenshot() {
    this.drawInFull();
    return this.canvas.toDataURL("image/png");
  }

  dispose() {
    this.cadence.dispose();
    this.forgetListeners();
    this.sizes?.disconnect();
    this.strip.sight.disconnect();
    this.unbind?.();
    this.rig?.dispose();
    this.stage?.dispose();
    this.stage = null;
    this.element.shadowRoot.replaceChildren();
    delete this.element.__quantlabViewer;
  }
}
