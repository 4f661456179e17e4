// The same viewer in its two live hosts: an anywidget model and a Gradio HTML component. The report calls mount itself.
import { mount } from "./index.js";
import { rememberChoices } from "./memory.js";

const SETTERS = {
  mode: (viewer, value) => viewer.setMode(value),
  theme: (viewer, value) => viewer.setTheme(value),
  point_size: (viewer, value) => viewer.setPointSize(value),
  confidence: (viewer, value) => viewer.setConfidence(value),
  frames: (viewer, value) => viewer.setFrames(value?.length ? value : null),
  camera: (viewer, value) => viewer.setCamera(value?.position ? value : null),
  background: (viewer, value) => viewer.setBackground(value),
  pictures: (viewer, value) => viewer.setPictures(value),
  error_range: (viewer, value) => viewer.setErrorRange(value?.length ? value : null),
  viewpoints: (viewer, value) => viewer.setViewpoints(value),
  message: (viewer, value) => viewer.setMessage(value),
  busy: (viewer, value) => viewer.setBusy(value),
};
const STATE_NAMES = {
  mode: "mode",
  pointSize: "point_size",
  confidence: "confidence",
  frames: "frames",
  background: "background",
  pictures: "pictures",
  errorRange: "error_range",
  viewpoints: "viewpoints",
};

/**
 * anywidget: traits payload (bytes), mode, theme, point_size, confidence, frames (empty: all), camera, background,
 * pictures, error_range (empty: all), viewpoints, region, message, height (pixels); `pick`, `camera`, `region` and what
 * the controls change are written back. Any of them may be missing on the Python side.
 */
export function render({ model, el }) {
  const host = document.createElement("div");
  host.style.height = `${model.get("height") ?? 420}px`;
  el.append(host);
  const viewer = mount(host, { theme: model.get("theme") ?? "auto", camera: model.get("camera") });
  const ends = [];
  const follow = (name, apply) => {
    const update = () => {
      const value = model.get(name);
      if (value !== undefined && value !== null) apply(value);
    };
    model.on(`change:${name}`, update);
    ends.push(() => model.off(`change:${name}`, update));
    if (name !== "camera") update();
  };
  follow("payload", (value) => viewer.setPayload(value)); // first: a region is of its pixels
  for (const [name, set] of Object.entries(SETTERS)) follow(name, (value) => set(viewer, value));
  follow("region", (value) => viewer.setRegion(value.mask ?? null));
  follow("height", (value) => (host.style.height = `${value}px`));
  const write = (name, value) => {
    if (model.get(name) === undefined) return;
    model.set(name, value);
    model.save_changes();
  };
  viewer.onEvent((event) => {
    if (event.type === "camera") write("camera", event.camera);
    else if (event.type === "pick" || event.type === "region") write(event.type, without(event, "type"));
    else for (const [key, name] of Object.entries(STATE_NAMES)) if (key in event) write(name, event[key] ?? []);
  });
  return () => {
    ends.forEach((end) => end());
    viewer.dispose();
    host.remove();
  };
}

/**
 * Gradio: `props.value` is {payload, ...settings}; payload is a URL, a data URL or base64. Called from js_on_load;
 * `watch` and `trigger` are Gradio's. A key that is missing keeps what is there. Look and
 * viewpoints are remembered by the browser.
 */
export function attachGradio(element, { props, watch, trigger }) {
  const host = element.querySelector(".quantlab-viewer");
  const viewer = mount(host, { theme: pageTheme() });
  rememberChoices(viewer);
  let shown = null;
  let asked = 0;
  const update = async () => {
    const value = props.value ?? {};
    for (const [name, set] of Object.entries(SETTERS)) if (name in value) set(viewer, value[name]);
    if ("payload" in value && value.payload !== shown) await load(value.payload);
    if ("region" in value && viewer.data) viewer.setRegion(value.region); // of the clouds that are there now
  };
  const load = async (payload) => {
    shown = payload;
    const turn = ++asked;
    try {
      const bytes = await fetchPayload(payload);
      if (turn === asked) viewer.setPayload(bytes);
    } catch (error) {
      if (turn === asked) viewer.setMessage(`The clouds could not be loaded: ${error.message}.`);
    }
  };
  watch("value", update);
  viewer.onEvent((event) => trigger(event.type, without(event, "type")));
  const classes = new MutationObserver(() => viewer.setTheme(pageTheme()));
  classes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  update();
  return viewer;
}

async function fetchPayload(payload) {
  if (!payload || payload.startsWith("data:") || !/^(https?:|\/|\.)/.test(payload)) return payload;
  const response = await fetch(payload);
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return response.arrayBuffer();
}

/** Gradio marks its dark theme by a class of the body. */
function pageTheme() {
  return document.body.classList.contains("dark") ? "dark" : "light";
}

function without(record, name) {
  const { [name]: _, ...rest } = record;
  return rest;
}
