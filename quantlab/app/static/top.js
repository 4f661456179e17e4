// The top bar: what is open, what runs, and undo; also where the page says hello to the server.
import { Choice, make, setText } from "./dom.js";
import { hintOnce } from "./hint.js";
import { nameCheckboxesOnceThere } from "./table.js";
import { greet, listen } from "./hearing.js";
import { asked, opened, recall, storage } from "./memory.js";

const KEPT = "quantlab-lab";
const TABS = {
  bench: "The map of the network and the opened layer",
  decide: "What fewer bits cost: search, choose a size, compare recipes",
  modules: "Every layer in one table, to change many at once",
  methods: "What every preset does, from whom, and at what cost",
  calibration: "Which scenes a recipe learns from, on a map of the pool",
  recipe: "The recipe as text; sessions, links, profiles and reports to take away and to open",
  notes: "What the lab shows, and what it does not",
};
const UPLOADS = "Pictures of one scene, or a film: they replace the scene. They stay on this machine";
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
  const hello = () => send({ do: "ready", handle: storage()?.getItem(KEPT) ?? "", link: asked(), memory: recall() });
  hello();
  listen(hello, send);
  return (value) => {
    greet();
    opened();
    storage()?.setItem(KEPT, value.handle);
    for (const [name, help] of Object.entries(TABS)) {
      document.getElementById(`ql-${name}-tab-button`)?.setAttribute("title", help);
    }
    document.getElementById("ql-upload")?.setAttribute("title", UPLOADS);
    model.show(value.models.map((item) => ({ ...item, help: item.note })), value.model);
    scene.show(value.scenes, value.scene);
  };
}

export function mountStatus(host, { send }) {
  const last = { weights: USUAL_BITS, activations: USUAL_BITS }; // full precision has 16; what follows it wants these
  const preset = new Choice("Preset", (name) => send({ do: "preset", name, ...last }), "ql-preset");
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
  const warnings = make("button", { type: "button", class: "ql-warnings", hidden: true, "data-testid": "warnings" });
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
    warnings,
    make("span", { class: "ql-slot" }, run, stop),
    button("◐", "Light or dark", turnTheme),
  );
  const page = host.closest("#ql");
  page.append(message.element);
  let hinted = false;
  nameCheckboxesOnceThere(page.querySelector("#ql-tabs"));
  recallTheme();
  bindKeys(send);
  return (value) => {
    if ("busy" in value) showState(value);
    message.show(value.message);
  };

  function showState(value) {
    if (value.preset && !value.busy && !hinted) {
      hinted = true;
      hintOnce(page);
    }
    const custom = value.changed ? `${value.preset} + ${value.changed} change${value.changed === 1 ? "" : "s"}` : null;
    const known = value.presets.some((item) => item.id === value.preset);
    const extra = known ? [] : [{ id: value.preset ?? "", label: value.preset ?? "–" }];
    const named = (item) => (value.changed && item.id === value.preset ? { ...item, label: `${item.label} + ${value.changed}` } : item);
    preset.show([...value.presets, ...extra].map(named), value.preset);
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
    const told = value.warnings ?? [];
    warnings.hidden = told.length === 0;
    setText(warnings, `${told.length} warning${told.length === 1 ? "" : "s"}`);
    warnings.title = told.join("\n");
    warnings.onclick = () => message.show({ problem: "Of this recipe", remedy: `${told.join(". ")}.` });
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
  storage("localStorage")?.setItem(THEME, isDark ? "dark" : "light");
}

/** The theme a person chose holds; until then Gradio's choice does, which is the system's or the address's. */
function recallTheme() {
  const chosen = storage("localStorage")?.getItem(THEME);
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
