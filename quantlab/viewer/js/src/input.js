// Keys, clicks and a lost device: what each does to the viewer. Dragging is the rig's; the toolbar and the divider have their own.
import { MODES } from "./layout.js";

const TURN = (6 * Math.PI) / 180;
const CLICK_PIXELS = 4;

/** Listens until the function it returns is called. */
export function bindInput(viewer) {
  const end = new AbortController();
  const options = { signal: end.signal };
  viewer.root.addEventListener("keydown", (event) => onKey(viewer, event), options);
  let down = null;
  viewer.canvas.addEventListener("pointerdown", (event) => {
    down = event.isPrimary && event.button === 0 ? [event.clientX, event.clientY] : null;
  }, options);
  viewer.canvas.addEventListener("pointerup", (event) => {
    if (!down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > CLICK_PIXELS) return;
    const box = viewer.canvas.getBoundingClientRect();
    viewer.probe(event.clientX - box.left, event.clientY - box.top);
  }, options);
  viewer.canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    viewer.setMessage("The graphics device was lost; the view returns when it does.");
  }, options);
  viewer.canvas.addEventListener("webglcontextrestored", () => viewer.setMessage(""), options);
  return () => end.abort();
}

function onKey(viewer, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.composedPath()[0];
  if (target.matches?.("input") || (event.key === " " && target.matches?.("button"))) return;
  const action = target.matches?.(".divider") ? dividerAction(viewer, event) : keyAction(viewer, event);
  if (!action) return;
  action();
  event.preventDefault();
  event.stopPropagation();
}

function dividerAction(viewer, { key, shiftKey }) {
  const step = shiftKey ? 0.1 : 0.02;
  if (key === "ArrowLeft") return () => viewer.setDivider(viewer.state.divider - step);
  if (key === "ArrowRight") return () => viewer.setDivider(viewer.state.divider + step);
  return keyAction(viewer, { key, shiftKey });
}

function keyAction(viewer, { key, shiftKey }) {
  const { rig, toolbar } = viewer;
  const step = (x, y) => () => (shiftKey ? rig.pan(0.05 * x, 0.05 * y) : rig.turn(TURN * x, -TURN * y));
  const actions = {
    ArrowLeft: step(-1, 0),
    ArrowRight: step(1, 0),
    ArrowUp: step(0, 1),
    ArrowDown: step(0, -1),
    "+": () => rig.zoom(0.9),
    "=": () => rig.zoom(0.9),
    "-": () => rig.zoom(1 / 0.9),
    a: () => viewer.flip(0),
    b: () => viewer.flip(1),
    " ": () => viewer.flip(),
    c: () => toolbar.act.cameras(),
    r: () => toolbar.act.reset(),
    Home: () => toolbar.act.reset(),
    Escape: () => viewer.clearProbe(),
  };
  MODES.forEach((mode, i) => (actions[String(i + 1)] = () => toolbar.act.mode(mode)));
  return actions[key.length === 1 ? key.toLowerCase() : key];
}
