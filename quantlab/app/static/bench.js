// Where Gradio's components meet our panels: each panel is told its value now and at every change.
import { read } from "./dom.js";
import { asking, hear } from "./hearing.js";
import { mountCalibration } from "./calibration.js";
import { mountCompare } from "./compare.js";
import { mountDecide } from "./decide.js";
import { mountLayer } from "./layer.js";
import { mountMap } from "./map.js";
import { mountMemory } from "./memory.js";
import { mountMethods } from "./methods.js";
import { mountNumbers } from "./numbers.js";
import { mountRecipe } from "./recipe.js";
import { mountSettings } from "./settings.js";
import { mountHead, mountStatus } from "./top.js";

const PANELS = {
  head: mountHead,
  status: mountStatus,
  map: mountMap,
  layer: mountLayer,
  settings: mountSettings,
  numbers: mountNumbers,
  compare: mountCompare,
  recipe: mountRecipe,
  methods: mountMethods,
  calibration: mountCalibration,
  memory: mountMemory,
  decide: mountDecide,
};

let config = {}; // Gradio forgets it for a panel whose tab is opened late: that of the first panel serves all

/** Draws one panel into `host`; `gradio` is {props, watch, send} of its component. */
export function mount(kind, host, gradio) {
  host.classList.add("ql-unfilled"); // its controls keep their place, unseen, until they have something to show
  config = gradio.props.config ?? config;
  const draw = PANELS[kind](host, { ...gradio, send: asking(gradio.send), config });
  let newest = 0;
  const update = () => {
    const { number, value } = gradio.props.value || { number: 0 };
    if (number <= newest) return; // nothing yet, or what another handler has replaced since
    newest = number;
    hear();
    host.querySelector(":scope > .ql-waiting")?.remove();
    host.classList.remove("ql-unfilled");
    draw(read(value));
    host.dataset.number = number; // for tests: which state is on the screen
  };
  gradio.watch("value", update);
  update();
}
