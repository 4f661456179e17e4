// The top bar: what is open, what runs, and undo; also where the page says hello to the server.
import { Choice, make, setText } from "./dom.js";
import { greet, listen } from "./hearing.js";

const KEPT = "quantlab-lab";
const TABS = {
  bench: "The map of the network and the opened layer",
  modules: "Every layer in one table, to change many at once",
  recipe: "The recipe as YAML and as Python",
  notes: "What the lab shows, and what it does not",
};
const USUAL_BITS = 4;
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
  const hello = () => send({ do: "ready", handle: sessionStorage.getItem(KEPT) ?? "" });
  hello();
  listen(hello, send);
  return (value) => {
    greet();
    sessionStorage.setItem(KEPT, value.handle);
    for (const [name, help] of Object.entries(TABS)) {
      document.getElementById(`ql-${name}-tab-button`)?.setAttribute("title", help);
    }
    model.show(value.models.map((item) => ({ ...item, help: item.note })), value.model);
    scene.show(value.scenes, value.scene);
  };
}

export function mountStatus(host, { send }) {
  const last = { weights: USUAL_BITS, activations: USUAL_BITS }; // full precision has 16; what follows it wants these
  const preset = new Choice("Preset", (name) => send({ do: "preset", name, ...last }));
  const bitsChoice = (label, name) =>
    new Choice(label, (value) => send({ do: "preset", name: preset.element.value, ...last, [name]: Number(value) }), "ql-narrow");
  const weights = bitsChoice("Bits per weight of the preset", "weights");
  const activations = bitsChoice("Bits per activation of the preset", "activations");
  const undo = button("Undo", "Undo the last change (Ctrl+Z)", () => send({ do: "undo" }));
  const redo = button("Redo", "Redo (Ctrl+Shift+Z)", () => send({ do: "redo" }));
  const run = button("Run", "Measure under the recipe that is set", () => send({ do: "run" }));
  const stop = button("Stop", "Stop what runs; what was measured before is kept", () => send({ do: "stop" }));
  run.hidden = stop.hidden = true;
  run.classList.add("ql-primary");
  const text = make("span", { class: "ql-state-text", role: "status", "data-testid": "state" });
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const message = messageBar(() => send({ do: "dismiss" }));
  host.append(
    make(
      "span",
      { class: "ql-of-lab" },
      make("label", { class: "ql-field" }, make("span", {}, "preset"), preset.element),
      make("label", { class: "ql-field" }, make("span", {}, "W"), weights.element),
      make("label", { class: "ql-field" }, make("span", {}, "A"), activations.element),
      make("span", { class: "ql-pair" }, undo, redo),
    ),
    make("span", { class: "ql-state" }, text, bar),
    make("span", { class: "ql-slot" }, run, stop),
    button("◐", "Light or dark", turnTheme),
  );
  const page = host.closest("#ql");
  page.append(message.element);
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
    weights.element.disabled = activations.element.disabled = value.preset === "full_precision";
    for (const name of Object.keys(last)) if (value[name] < 16) last[name] = value[name];
    host.classList.toggle("ql-no-lab", !value.preset);
    page.dataset.aging = String(value.aging);
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
