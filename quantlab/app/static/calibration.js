// Which scenes the recipe is calibrated on: the method and its numbers, the map of the pool, the scenes by name.
import { Choice, make, setText } from "./dom.js";
import { Plot } from "./plot.js";

export function mountCalibration(host, { config, send }) {
  const change = (name, value) => send({ do: "selection", changes: { [name]: value } });
  const method = new Choice("How scenes are picked", (value) => change("method", value));
  const controls = make("div", { class: "ql-pool-controls" });
  const apply = make("button", { type: "button", class: "ql-primary", title: "Calibrate the recipe on the scenes that are picked here; Undo takes it back", onclick: () => send({ do: "calibrate" }) }, "Apply");
  const look = make("button", { type: "button", onclick: () => send({ do: "look" }) }, "Look at the pool");
  const help = make("p", { class: "ql-pool-help" });
  const note = make("p", { class: "ql-quiet ql-pool-note", "data-testid": "pool-note" });
  const canvas = make("div", { class: "ql-plot", "data-testid": "pool-map" });
  const message = make("p", { class: "ql-note", "data-testid": "pool-message" });
  const waiting = make("div", { class: "ql-pool-waiting" }, message, look);
  const picked = named("Picked", "picked");
  const dropped = named("Left out", "dropped");
  const names = make("div", { class: "ql-pool-names" }, picked.element, dropped.element);
  host.append(
    make(
      "header",
      {},
      make("h2", {}, "Calibration"),
      make("label", { class: "ql-field" }, make("span", {}, "pick by"), method.element),
      make("span", { class: "ql-spring" }),
      apply,
    ),
    help,
    controls,
    make("div", { class: "ql-plot-frame" }, canvas, waiting),
    names,
    note,
  );
  const plot = new Plot(canvas, config, { name: () => "calibration pool" });
  let known = "";
  return (value) => {
    method.show(value.methods, value.method);
    const shape = JSON.stringify(value.controls.map((item) => item.id));
    if (shape !== known) {
      known = shape;
      controls.replaceChildren(...value.controls.map((item) => field(item, change)));
    }
    for (const item of value.controls) fill(controls.querySelector(`[name=${item.id}]`), item);
    help.replaceChildren(value.help, ...(value.source ? [make("span", { class: "ql-quiet" }, ` ${value.source}`)] : []));
    apply.disabled = !value.apply;
    look.hidden = !value.look;
    setText(message, value.message);
    setText(note, value.note);
    waiting.hidden = !value.message;
    canvas.style.visibility = value.figure ? "visible" : "hidden";
    controls.hidden = value.controls.length === 0;
    names.hidden = !value.figure;
    names.classList.toggle("ql-pool-alone", value.dropped.length === 0);
    picked.show(value.picked.map((name) => [name, ""]));
    dropped.show(value.dropped);
    if (value.figure) plot.show(value.figure);
  };
}

function field(item, change) {
  const input = make("input", {
    type: "number",
    name: item.id,
    min: item.low,
    max: item.high,
    step: item.step,
    placeholder: item.automatic,
    "aria-label": item.label,
    onchange: () => change(item.id, input.value === "" ? 0 : Number(input.value)),
  });
  return make("label", { class: "ql-field", title: item.help }, make("span", {}, item.label), input);
}

function fill(input, item) {
  if (document.activeElement === input && Number(input.value) === item.value) return;
  input.value = item.value === 0 && item.automatic ? "" : item.value;
}

function named(title, id) {
  const heading = make("h3", {});
  const list = make("ol", { class: "ql-pool-list", "data-testid": `pool-${id}` });
  const element = make("section", {}, heading, list);
  return {
    element,
    show(rows) {
      const reasons = new Set(rows.map(([, reason]) => reason));
      const shared = reasons.size === 1 ? [...reasons][0] : ""; // said once, where it holds for all
      setText(heading, `${title} · ${rows.length}${shared ? `: ${shared}` : ""}`);
      heading.title = shared;
      element.hidden = rows.length === 0;
      list.classList.toggle("ql-pool-short", reasons.size <= 1 && rows.length > 12);
      list.replaceChildren(
        ...rows.map(([name, reason]) =>
          make("li", { title: reason || name }, make("span", {}, name), reason && !shared ? make("small", {}, reason) : null),
        ),
      );
    },
  };
}
