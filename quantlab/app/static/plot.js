// One plot on an element that stays: new figures go in by Plotly.react, so zoom and hidden traces are kept.
import { reach } from "./dom.js";
import { exportable } from "../figures/plot_export.js";

let loading = null;

function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    if (globalThis.Plotly) return resolve(globalThis.Plotly);
    const script = document.createElement("script");
    script.src = reach("/quantlab/plotly/plotly.min.js");
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => reject(new Error("the plotting script could not be loaded"));
    document.head.append(script);
  });
  return loading;
}

export class Plot {
  #figure = null;
  #listening = false;
  #drawing = Promise.resolve();

  /** config is figures.CONFIG of the server; pick(customdata) is called on a click; name() is that of its files. */
  constructor(element, config, { pick = null, name = () => "plot", drawn = () => {} } = {}) {
    this.element = element;
    this.config = config;
    Object.assign(this, { pick, name, drawn });
    new ResizeObserver(() => this.#resize().catch(console.error)).observe(element);
    onTheme(() => this.#figure && this.show(this.#figure));
  }

  /** Draws a figure as figures/ makes it; colours are named and taken from the page. */
  show(figure) {
    this.#figure = figure;
    this.#drawing = this.#drawing.then(() => this.#draw(figure)).catch((error) => console.error(error));
    return this.#drawing;
  }

  async #draw(figure) {
    if (figure !== this.#figure) return;
    const Plotly = await loadPlotly();
    const colours = getComputedStyle(document.body);
    const { data, layout } = painted(figure, colours);
    await Plotly.react(this.element, data, layout, this.config);
    // Tools for the mouse; a keyboard should not have to walk past a dozen of them.
    for (const tool of this.element.querySelectorAll(".modebar-btn")) tool.tabIndex = -1;
    exportable(this.element, this.name);
    this.drawn();
    if (this.pick && !this.#listening) {
      this.#listening = true;
      this.element.on("plotly_click", (event) => {
        const name = event.points[0]?.customdata;
        if (name) this.pick(name);
      });
    }
  }

  /** Plotly moves a legend that needs fewer rows into the plot; drawn once more it stands above it again. */
  async #resize() {
    if (!this.element.data || this.element.clientWidth === 0) return;
    await globalThis.Plotly.Plots.resize(this.element);
    if (this.#figure) await this.show(this.#figure);
  }
}

/** "@ink" becomes the page's --ql-ink, everywhere in a figure. */
function painted(value, colours) {
  if (typeof value === "string" && value.startsWith("@")) {
    return colours.getPropertyValue(`--ql-${value.slice(1)}`).trim();
  }
  if (Array.isArray(value)) return value.map((item) => painted(item, colours));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, painted(item, colours)]));
  }
  return value;
}

const themeListeners = new Set();

/** Calls back when the page turns dark or light. */
export function onTheme(callback) {
  if (themeListeners.size === 0) {
    const watcher = new MutationObserver(() => themeListeners.forEach((listener) => listener()));
    watcher.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }
  themeListeners.add(callback);
}
