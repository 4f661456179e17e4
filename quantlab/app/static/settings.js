// How the opened layer is quantized, and how far a change reaches. The server decides; a refused change springs back.
import { Choice, make, setText } from "./dom.js";
import { mountMore } from "./more.js";

export function mountSettings(host, { send }) {
  const set = (name, value) => send({ do: "set", changes: { [name]: value } });
  const number = (name) => (value) => set(name, Number(value));
  const controls = {
    weights: new Choice("Bits per weight", number("weights"), "ql-narrow"),
    activations: new Choice("Bits per activation", number("activations"), "ql-narrow"),
    range_search: new Choice("Range search", (value) => set("range_search", value)),
    compensation: new Choice("Compensation of the branch", (value) => set("compensation", value)),
  };
  const rotation = check("rotation", (value) => set("rotation", value));
  const smoothing = check("smoothing", (value) => set("smoothing", value ? Number(alpha.value) : null));
  const keep = check("keep", (value) => set("keep", value));
  const alphaText = make("output", {});
  const alpha = make("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    value: 0.5,
    "aria-label": "Smoothing alpha",
    oninput: () => setText(alphaText, `α ${Number(alpha.value).toFixed(2)}`),
    onchange: () => set("smoothing", Number(alpha.value)),
  });
  const more = mountMore(send);
  const target = new Choice("Apply to", (value) => send({ do: "apply_to", value }));
  const title = make("strong", { class: "ql-settings-title" });
  const summary = make("span", { class: "ql-quiet" });
  let nearest = {};
  const simulated = make("button", {
    type: "button",
    class: "ql-simulated",
    "data-testid": "simulated",
    onclick: () => send({ do: "set", changes: nearest }),
  });
  const fields = {
    weights: field("W bits", controls.weights.element),
    activations: field("A bits", controls.activations.element),
    rotation: rotation.label,
    smoothing: make("span", { class: "ql-field" }, smoothing.label, alpha, alphaText),
    range_search: field("range", controls.range_search.element),
    compensation: field("compensation", controls.compensation.element),
    keep: keep.label,
  };
  host.append(
    make("div", { class: "ql-settings-name" }, title, summary, simulated),
    ...Object.values(fields),
    more.button,
    make("span", { class: "ql-spring" }),
    make(
      "span",
      { class: "ql-reach", title: "How far a change in this row reaches" },
      field("apply to", target.element),
    ),
    more.sheet,
  );
  return (value) => {
    host.classList.toggle("ql-empty", !value.layer);
    if (!value.layer) return;
    setText(title, value.short);
    title.title = value.layer;
    setText(summary, value.summary);
    summary.title = value.summary;
    simulated.hidden = !value.simulated;
    summary.hidden = Boolean(value.simulated);
    if (value.simulated) {
      const { changes, reason, words } = value.simulated;
      nearest = changes;
      setText(simulated, `simulated: use ${words}`);
      simulated.title = `${value.summary}: no kernel multiplies its integers, as ${reason}. Click for the nearest that runs fast, ${words}.`;
    }
    for (const [name, choice] of Object.entries(controls)) show(choice, name, value);
    for (const [name, element] of Object.entries(fields)) element.title = value.help[name] ?? "";
    const idle = value.keep || !value.in_scope; // what is out of scope comes in by choosing its bits
    mark(rotation.input, value.rotation && value.in_scope, value.only_weights || idle);
    mark(smoothing.input, value.smoothing !== null && value.in_scope, value.only_weights || idle);
    mark(keep.input, value.keep, !value.in_scope);
    alpha.disabled = value.smoothing === null || smoothing.input.disabled;
    if (value.smoothing !== null) alpha.value = value.smoothing;
    setText(alphaText, `α ${Number(alpha.value).toFixed(2)}`);
    controls.activations.element.disabled = value.only_weights || value.keep;
    controls.weights.element.disabled = value.keep;
    target.show(value.targets, value.apply_to);
    more.show(value);
  };
}

function show(choice, name, value) {
  const options = value.choices[name].map((item) => ({ id: String(item), label: String(item) }));
  choice.element.disabled = value[name] === null || (value.keep && name !== "compensation");
  choice.show(options, value[name] ?? "off");
}

function mark(input, checked, disabled) {
  input.checked = checked;
  input.disabled = disabled;
}

function field(label, control, unit = "") {
  return make("label", { class: "ql-field" }, make("span", {}, label), control, unit ? make("small", {}, unit) : null);
}

function check(name, report) {
  const input = make("input", { type: "checkbox", name, onchange: () => report(input.checked) });
  return { input, label: make("label", { class: "ql-field ql-check" }, input, make("span", {}, name)) };
}
