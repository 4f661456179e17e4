// The row of controls above the canvas; it shows a state and reports what a person does, and holds no state itself.
import { make, setText } from "./dom.js";
import { MODES } from "./layout.js";

const TITLES = {
  split: "Side by side (1)",
  swipe: "One view, a divider to drag (2)",
  flip: "One view, A and B switch (3)",
  error: "Distance between paired points (4)",
};
const MOST_FRAME_BUTTONS = 24;

export class Toolbar {
  #frameCount = -1;

  /** act: functions mode, frame, confidence, size, cameras, reset. */
  constructor(act) {
    this.act = act;
    this.modes = MODES.map((mode) =>
      make("button", { type: "button", title: TITLES[mode], onclick: () => act.mode(mode) }, mode),
    );
    this.frames = make("div", { class: "group frames", role: "group", "aria-label": "Frames shown" });
    this.confidence = range("Hide the least confident points", 0, 95, 1, (value) => act.confidence(value));
    this.confidenceText = make("output", {});
    this.size = range("Point size", 0.4, 3, 0.1, (value) => act.size(value));
    this.cameras = make("button", { type: "button", title: "Show the cameras (C)", onclick: act.cameras }, "cameras");
    this.reset = make("button", { type: "button", title: "Back to the first view (R)", onclick: act.reset }, "reset view");
    this.element = make(
      "div",
      { class: "bar", role: "toolbar", "aria-label": "3D comparison" },
      make("div", { class: "group modes", role: "group", "aria-label": "Comparison" }, ...this.modes),
      this.frames,
      make("label", { class: "group", title: "Hide the least confident points" }, name("confidence", "narrow-hides"), this.confidence, this.confidenceText),
      make("label", { class: "group wide" }, name("size"), this.size),
      make("div", { class: "spring" }),
      make("div", { class: "group modes" }, this.cameras, this.reset),
    );
  }

  /** frameCount: 0 while there are no clouds, when there is nothing to control. */
  show(state, frameCount) {
    this.element.inert = frameCount === 0;
    this.modes.forEach((button, i) => button.setAttribute("aria-pressed", String(MODES[i] === state.mode)));
    this.cameras.setAttribute("aria-pressed", String(state.cameras));
    this.confidence.value = String(state.confidence);
    setText(this.confidenceText, state.confidence > 0 ? `top ${100 - state.confidence} %` : "all");
    this.size.value = String(state.pointSize);
    this.#showFrames(state.frames, frameCount);
  }

  #showFrames(shown, count) {
    if (count !== this.#frameCount) {
      this.#frameCount = count;
      const usable = count > 1 ? Math.min(count, MOST_FRAME_BUTTONS) : 0;
      this.frames.replaceChildren(...(usable ? [name("frames", "narrow-hides")] : []));
      for (let index = 0; index < usable; index++) this.frames.append(this.#frameButton(index));
    }
    this.frames.querySelectorAll("button").forEach((button, index) => {
      button.setAttribute("aria-pressed", String(!shown || shown.includes(index)));
    });
  }

  #frameButton(index) {
    const title = `Frame ${index + 1}; double click: this one alone`;
    return make(
      "button",
      {
        type: "button",
        title,
        "aria-label": `Frame ${index + 1}`,
        onclick: (event) => this.act.frame(index, event.altKey || event.detail === 2),
      },
      String(index + 1),
    );
  }
}

function name(text, extra = "") {
  return make("span", { class: `name ${extra}` }, text);
}

function range(label, min, max, step, report) {
  const attributes = { type: "range", "aria-label": label, min, max, step };
  return make("input", { ...attributes, oninput: (event) => report(Number(event.target.value)) });
}
