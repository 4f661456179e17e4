// The top bar: what is open, what runs, and undo; also where the page says hello to the server.
import { Choice, make, setText } from "./dom.js";

const KEPT = "quantlab-lab";
const BITS = [2, 3, 4, 5, 6, 7, 8].map((bits) => ({ id: String(bits), label: String(bits) }));

export function mountHead(host, { send }) {
  const model = new Choice("Model", (value) => send({ do: "model", value }));
  const scene = new Choice("Scene", (value) => send({ do: "scene", value }));
  host.append(
    make("h1", {}, "QuantLab"),
    make("label", { class: "ql-field" }, make("span", {}, "model"), model.element),
    make("label", { class: "ql-field" }, make("span", {}, "scene"), scene.element),
  );
  // The tab's own memory, so that a reload finds its lab and another tab does not.
  send({ do: "ready", handle: sessionStorage.getItem(KEPT) ?? "" });
  return (value) => {
    sessionStorage.setItem(KEPT, value.handle);
    model.show(value.models.map((item) => ({ ...item, help: item.note })), value.model);
    scene.show(value.scenes, value.scene);
  };
}

export function mountStatus(host, { send }) {
  const preset = new Choice("Preset", () => choose());
  const weights = new Choice("Bits per weight of the preset", () => choose(), "ql-narrow");
  const activations = new Choice("Bits per activation of the preset", () => choose(), "ql-narrow");
  const choose = () =>
    send({
      do: "preset",
      name: preset.element.value,
      weights: Number(weights.element.value),
      activations: Number(activations.element.value),
    });
  const undo = button("Undo", "Undo the last change (Ctrl+Z)", () => send({ do: "undo" }));
  const redo = button("Redo", "Redo (Ctrl+Shift+Z)", () => send({ do: "redo" }));
  const run = button("Run", "Measure under the recipe that is set", () => send({ do: "run" }));
  const stop = button("Stop", "Stop what runs; what was measured before is kept", () => send({ do: "stop" }));
  run.classList.add("ql-primary");
  const text = make("span", { class: "ql-state-text", role: "status", "data-testid": "state" });
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const message = messageBar(() => send({ do: "dismiss" }));
  host.append(
    make("label", { class: "ql-field" }, make("span", {}, "preset"), preset.element),
    make("label", { class: "ql-field" }, make("span", {}, "W"), weights.element),
    make("label", { class: "ql-field" }, make("span", {}, "A"), activations.element),
    make("span", { class: "ql-pair" }, undo, redo),
    make("span", { class: "ql-state" }, text, bar),
    make("span", { class: "ql-slot" }, run, stop),
    button("◐", "Light or dark", turnTheme),
  );
  document.body.append(message.element);
  recallTheme();
  bindKeys(send);
  return (value) => {
    if ("busy" in value) showState(value);
    message.show(value.message);
  };

  function showState(value) {
    const custom = value.changed ? `${value.preset} + ${value.changed} changes` : null;
    const known = value.presets.some((item) => item.id === value.preset);
    const extra = known ? [] : [{ id: value.preset ?? "", label: value.preset ?? "–" }];
    preset.show([...value.presets, ...extra], value.preset);
    preset.element.title = custom ?? value.presets.find((item) => item.id === value.preset)?.help ?? "";
    const bits = (chosen) => (chosen === 16 ? [...BITS, { id: "16", label: "16" }] : BITS);
    weights.show(bits(value.weights), value.weights);
    activations.show(bits(value.activations), value.activations);
    undo.disabled = !value.undo;
    redo.disabled = !value.redo;
    stop.hidden = !value.busy;
    stop.disabled = value.stopping;
    run.hidden = !value.run;
    bar.hidden = !value.busy;
    bar.value = value.fraction;
    setText(text, value.text);
    text.title = value.text;
    host.classList.toggle("ql-busy", value.busy);
    document.documentElement.dataset.qlBusy = String(value.busy);
  }
}

function messageBar(dismiss) {
  const text = make("p", {});
  const close = make("button", { type: "button", onclick: () => { element.hidden = true; dismiss(); } }, "Dismiss");
  const element = make("div", { class: "ql-message", role: "alert", hidden: true, "data-testid": "message" }, text, close);
  return {
    element,
    show(message) {
      element.hidden = !message?.problem;
      if (!message?.problem) return;
      const place = message.place ? ` (${message.place})` : "";
      text.replaceChildren(make("strong", {}, `${message.problem}${place}.`), ` ${message.remedy ?? ""}`);
    },
  };
}

function button(label, title, press) {
  return make("button", { type: "button", title, onclick: press, "data-testid": label.toLowerCase() }, label);
}

const THEME = "quantlab-theme";

function turnTheme() {
  const isDark = document.body.classList.toggle("dark");
  localStorage.setItem(THEME, isDark ? "dark" : "light");
}

/** The theme a person chose holds; until then Gradio's choice does, which is the system's or the address's. */
function recallTheme() {
  const chosen = localStorage.getItem(THEME);
  const asked = new URLSearchParams(location.search).has("__theme");
  if (chosen && !asked) document.body.classList.toggle("dark", chosen === "dark");
}

function bindKeys(send) {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=checkbox]):not([type=range]), textarea, [contenteditable]");
    if (typing || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    send({ do: event.shiftKey ? "redo" : "undo" });
  });
}
