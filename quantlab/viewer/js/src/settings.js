// What a program may set on a viewer and ask of it, one method each. Unlike what a person does, none of it is an event.
import { MODES } from "./layout.js";
import { readStats } from "./stats.js";
import { BACKGROUNDS } from "./theme.js";
import { clamp } from "./view.js";
import { checkedViewpoints } from "./viewpoints.js";

export class Settings {
  #listeners = new Set();

  setMode(mode) {
    if (!MODES.includes(mode)) throw new RangeError(`unknown mode ${mode}; choose one of ${MODES.join(", ")}`);
    this.apply({ mode });
  }

  /** "light", "dark" or "auto". */
  setTheme(theme) {
    this.apply({ theme });
  }

  /** "theme", "light", "grey" or "dark": the ground behind the clouds. */
  setBackground(background) {
    if (BACKGROUNDS.includes(background)) this.apply({ background });
  }

  /** 1 closes the gaps of a surface seen from its camera. */
  setPointSize(pointSize) {
    this.apply({ pointSize: clamp(Number(pointSize) || 1, 0.1, 10) });
  }

  /** Indices of the frames shown; null for all. */
  setFrames(frames) {
    this.apply({ frames: frames == null ? null : [...frames] });
  }

  /** Hides this many percent of the points, the least confident ones. */
  setConfidence(percentile) {
    this.apply({ confidence: clamp(Number(percentile) || 0, 0, 99) });
  }

  setCameras(visible) {
    this.apply({ cameras: Boolean(visible) });
  }

  /** Whether the input pictures are shown; null: where there is room. */
  setPictures(visible) {
    this.apply({ pictures: visible == null ? null : Boolean(visible) });
  }

  /** Hides points whose error lies outside [low, high], in units of the cloud; high null: no end; null: all are shown. */
  setErrorRange(range) {
    this.apply({ errorRange: range ? [...range] : null });
  }

  setViewpoints(viewpoints) {
    this.apply({ viewpoints: checkedViewpoints(viewpoints) });
  }

  setDivider(fraction) {
    this.apply({ divider: clamp(fraction, 0.02, 0.98) });
  }

  /** Flip mode: 0 shows the left cloud, 1 the right one. */
  setShown(side) {
    this.apply({ shown: side });
  }

  setBusy(busy) {
    this.overlay.busy.hidden = !busy;
  }

  /** Numbers for tests and benchmarks. */
  stats() {
    return readStats(this);
  }

  /** callback(event), event.type "camera", "pick", "region" or "state"; returns a function that ends it. */
  onEvent(callback) {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  emit(type, detail) {
    for (const listener of this.#listeners) listener({ type, ...detail });
  }

  /** What a person did: applied, and told to the listeners. */
  act(change) {
    this.apply(change);
    if (this.stage) this.cadence.moved(); // what is dragged (brush, sliders) is drawn as coarsely as a moving camera
    this.emit("state", { ...change });
  }

  forgetListeners() {
    this.#listeners.clear();
  }
}
