// The keyboard: one table that both answers keys and is shown to the person who asks with "?".
import { MODES } from "./layout.js";

const TURN = (6 * Math.PI) / 180;
const arrow = (x, y) => (viewer, event) =>
  event.shiftKey ? viewer.rig.pan(0.05 * x, 0.05 * y) : viewer.rig.turn(TURN * x, -TURN * y);
const zoom = (factor) => (viewer) => viewer.rig.zoom(factor);
const action = (name, ...given) => (viewer) => viewer.actions[name](...given);
const step = (name, state, by) => (viewer) => viewer.actions[name](viewer.state[state] + by);

const MODE_TEXTS = {
  split: "side by side",
  swipe: "one view, a divider to drag",
  flip: "one view, A and B switch",
  error: "colours by error, with their histogram",
};

/** Groups of [keys as shown, what they do, {key: function(viewer, event)}]; letters are lower case. */
export const KEYS = [
  ["Comparison", [
    ...MODES.map((mode, i) => [`${i + 1}`, MODE_TEXTS[mode], { [i + 1]: action("mode", mode) }]),
    ["A  B", "show the left, the right cloud", { a: action("flip", 0), b: action("flip", 1) }],
    ["space", "flip between them", { " ": action("flip") }],
  ]],
  ["Camera", [
    ["arrows", "turn; with shift, move", { ArrowLeft: arrow(-1, 0), ArrowRight: arrow(1, 0), ArrowUp: arrow(0, 1), ArrowDown: arrow(0, -1) }],
    ["+  \u2212", "nearer, farther", { "+": zoom(0.9), "=": zoom(0.9), "-": zoom(1 / 0.9) }],
    ["R", "back to the first view", { r: action("reset"), Home: action("reset") }],
    ["V", "keep this viewpoint", { v: action("saveViewpoint") }],
    ["shift 1\u20139", "go to a kept viewpoint", {}],
  ]],
  ["Shown", [
    ["C", "cameras", { c: action("cameras") }],
    ["I", "input pictures", { i: action("pictures") }],
    ["[  ]", "more, fewer uncertain points", { "[": step("confidence", "confidence", -5), "]": step("confidence", "confidence", 5) }],
    [",  .", "smaller, larger points", { ",": step("size", "pointSize", -0.2), ".": step("size", "pointSize", 0.2) }],
    ["G", "next background", { g: action("nextBackground") }],
  ]],
  ["Probe and region", [
    ["click", "probe a point or a pixel", {}],
    ["arrows", "in a picture: move the probe; with shift, ten pixels", {}],
    ["enter", "in a picture: first and second corner of a region", {}],
    ["L", "draw a region by hand; shift adds, ctrl takes away, alt goes through", { l: action("lasso") }],
    ["escape", "take back: tool, probe, region, error range", { Escape: action("escape") }],
  ]],
  ["Other", [
    ["S", "save the view as PNG", { s: action("screenshot") }],
    ["M", "more controls", { m: action("menu") }],
    ["?", "these keys", { "?": action("help") }],
  ]],
];

const BY_KEY = Object.assign({}, ...KEYS.flatMap(([, rows]) => rows.map(([, , keys]) => keys)));

/** The function of a key, or undefined. */
export function keyFunction({ key, code, shiftKey }) {
  const digit = shiftKey && /^Digit([1-9])$/.exec(code);
  if (digit) return action("viewpoint", Number(digit[1]) - 1);
  return BY_KEY[key.length === 1 ? key.toLowerCase() : key];
}
