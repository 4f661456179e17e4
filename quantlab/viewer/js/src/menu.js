// The controls used rarely, behind one button; in a narrow view the toolbar's own ones move in here, too.
import { make } from "./dom.js";
import { BACKGROUNDS } from "./theme.js";
import { MOST_VIEWPOINTS, viewpointsOf } from "./viewpoints.js";

export class Menu {
  #shownPoints = "";

  constructor(act) {
    this.act = act;
    this.button = make(
      "button",
      { type: "button", title: "More controls (M)", "aria-expanded": "false", "aria-haspopup": "true", onclick: () => this.toggle() },
      "more",
    );
    this.folded = make("div", { class: "folded" });
    this.grounds = BACKGROUNDS.map((name) =>
      make("button", { type: "button", onclick: () => act.background(name) }, name),
    );
    this.points = make("div", { class: "set", role: "group", "aria-label": "Viewpoints" });
    this.size = make("input", {
      type: "range", min: 0.4, max: 3, step: 0.1, "aria-label": "Point size", title: "Point size (, and .)",
      oninput: (event) => act.size(Number(event.target.value)),
    });
    const item = (title, text, run) => make("button", { type: "button", title, onclick: run }, text);
    this.element = make(
      "div",
      { class: "menu", role: "group", "aria-label": "More controls", hidden: true },
      this.folded,
      row("point size", this.size),
      row("background", make("div", { class: "set", role: "group", "aria-label": "Background" }, ...this.grounds)),
      row("viewpoints", this.points),
      make("div", { class: "ends" }, item("Save the view as a PNG file (S)", "screenshot", () => act.screenshot()), item("All keys (?)", "keys", () => act.help())),
    );
  }

  get isOpen() {
    return !this.element.hidden;
  }

  toggle() {
    this.element.hidden = this.isOpen;
    this.button.setAttribute("aria-expanded", String(this.isOpen));
    if (this.isOpen) this.element.querySelector("input, button").focus();
    else if (this.element.contains(this.element.getRootNode().activeElement)) this.button.focus();
  }

  show(state, scene) {
    this.size.value = String(state.pointSize);
    this.grounds.forEach((button, i) => button.setAttribute("aria-pressed", String(BACKGROUNDS[i] === state.background)));
    this.#showPoints(viewpointsOf(state.viewpoints, scene).length);
  }

  #showPoints(count) {
    if (this.#shownPoints === count) return;
    this.#shownPoints = count;
    const buttons = [...Array(count).keys()].map((index) =>
      make(
        "span",
        { class: "viewpoint" },
        make("button", { type: "button", title: `Go there (shift ${index + 1})`, "aria-label": `Viewpoint ${index + 1}`, onclick: () => this.act.viewpoint(index) }, String(index + 1)),
        make("button", { type: "button", class: "drop", title: "Forget it", "aria-label": `Forget viewpoint ${index + 1}`, onclick: () => this.act.forgetViewpoint(index) }, "\u00d7"),
      ),
    );
    const title = `Keep this viewpoint (V)${count < MOST_VIEWPOINTS ? "" : "; the oldest goes"}`;
    const keep = make("button", { type: "button", title, onclick: () => this.act.saveViewpoint() }, "keep this");
    const had = this.points.contains(this.points.getRootNode().activeElement);
    this.points.replaceChildren(...buttons, keep);
    if (had) keep.focus();
  }
}

function row(name, ...controls) {
  return make("div", { class: "row" }, make("span", { class: "name" }, name), ...controls);
}
