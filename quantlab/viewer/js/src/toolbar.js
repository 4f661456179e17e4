// The row of controls above the canvas; it shows a state and reports what a person does, and holds no state itself.
import { make, setText } from "./dom.js";
import { MODES } from "./layout.js";
import { Menu } from "./menu.js";

const TITLES = {
  split: "Side by side (1)",
  swipe: "One view, a divider to drag (2)",
  flip: "One view, A and B switch (3)",
  error: "Distance between the points of the two sides, and its histogram (4)",
};
const MOST_FRAME_BUTTONS = 24;
const FOLDED = [
  [760, ["views"]],
  [500, ["sure"]],
]; // below so many CSS pixels, what is used less moves into the menu
const NO_GRID = "These points are not pixels of pictures, so there is no";

export class Toolbar {
  #frameCount = -1;
  #folded = null;

  /** act: of actions.js. */
  constructor(act) {
    this.act = act;
    this.modes = MODES.map((mode) => button(mode, TITLES[mode], () => act.mode(mode)));
    this.frames = make("div", { class: "group frames", role: "group", "aria-label": "Frames shown" });
    this.confidence = make("input", {
      type: "range", min: 0, max: 95, step: 1, "aria-label": "Hide the least confident points",
      oninput: (event) => act.confidence(Number(event.target.value)),
    });
    this.confidenceText = make("output", {});
    this.cameras = button("cameras", "Show the cameras (C)", () => act.cameras());
    this.reset = button("reset view", "Back to the first view (R)", () => act.reset());
    this.pictures = button("pictures", "", () => act.pictures());
    this.lasso = button("lasso", "", () => act.lasso());
    this.menu = new Menu(act);
    const title = "Hide the least confident points ([ and ])";
    this.sure = make("label", { class: "group", title }, name("confidence"), this.confidence, this.confidenceText);
    this.views = make("div", { class: "group modes" }, this.cameras, this.reset);
    this.tools = make("div", { class: "group modes" }, this.pictures, this.lasso, this.menu.button);
    this.spring = make("div", { class: "spring" });
    this.element = make(
      "div",
      { class: "bar", role: "toolbar", "aria-label": "3D comparison" },
      make("div", { class: "group modes", role: "group", "aria-label": "Comparison" }, ...this.modes),
      this.frames,
    );
    this.arrange(Infinity);
  }

  /** Puts the controls where a view of this width has room for them. */
  arrange(width) {
    const folded = FOLDED.flatMap(([most, names]) => (width < most ? names : []));
    if (String(folded) === this.#folded) return;
    this.#folded = String(folded);
    const place = (name) => (folded.includes(name) ? [] : [this[name]]);
    this.menu.folded.append(...folded.toReversed().map((name) => this[name]));
    this.element.append(...place("sure"), this.spring, ...place("views"), this.tools);
  }

  /** data: what is shown, or null, when there is nothing to control; seen: {pictures, lasso} are on. */
  show(state, data, seen) {
    const frameCount = data?.meta.frames ?? 0;
    this.element.inert = frameCount === 0;
    this.modes.forEach((item, i) => press(item, MODES[i] === state.mode));
    press(this.cameras, state.cameras);
    press(this.pictures, seen.pictures);
    press(this.lasso, seen.lasso);
    this.pictures.disabled = this.lasso.disabled = !data?.grid;
    this.pictures.title = data?.grid ? "Input pictures, to probe their pixels (I)" : `${NO_GRID} picture to probe`;
    this.lasso.title = data?.grid ? "Draw a region by hand; shift adds to it (L)" : `${NO_GRID} region of them`;
    this.confidence.value = String(state.confidence);
    setText(this.confidenceText, state.confidence > 0 ? `surest ${100 - state.confidence} %` : "all");
    this.#showFrames(state.frames, frameCount);
    this.menu.show(state, data?.meta.scene);
  }

  #showFrames(shown, count) {
    if (count !== this.#frameCount) {
      this.#frameCount = count;
      const usable = count > 1 ? Math.min(count, MOST_FRAME_BUTTONS) : 0;
      this.frames.replaceChildren(...(usable ? [name("frames", "narrow-hides")] : []));
      for (let index = 0; index < usable; index++) this.frames.append(this.#frameButton(index));
    }
    this.frames.querySelectorAll("button").forEach((item, index) => press(item, !shown || shown.includes(index)));
  }

  #frameButton(index) {
    const title = `Frame ${index + 1}; double click: this one alone`;
    const item = button(String(index + 1), title, (event) => this.act.frame(index, event.altKey || event.detail === 2));
    item.setAttribute("aria-label", `Frame ${index + 1}`);
    return item;
  }
}

function button(text, title, onclick) {
  return make("button", { type: "button", title, onclick }, text);
}

function press(item, isOn) {
  item.setAttribute("aria-pressed", String(Boolean(isOn)));
}

function name(text, extra = "") {
  return make("span", { class: `name ${extra}` }, text);
}
