// The strip of numbers: value, unit, and the change since the last state.
import { make } from "./dom.js";
import { mountDetails } from "./measure.js";

export function mountNumbers(host, { send }) {
  const strip = make("dl", { class: "ql-tiles", "data-testid": "numbers" });
  const problems = make("p", { class: "ql-note" });
  const details = mountDetails();
  host.append(strip, problems, details.sheet);
  return (value) => {
    host.classList.toggle("ql-stale", value.stale);
    const keep = details.kept();
    strip.replaceChildren(...value.items.map((item) => tile(item, send, details)));
    keep();
    problems.textContent = value.problems.join(" ");
  };
}

function tile({ label, value, unit, note, base, trend, help, ask, details: lines, spent }, send, details) {
  const told = value === "" ? help : "Measure again";
  const press = () => send({ do: ask.do });
  const button = ask ? make("button", { type: "button", title: told, "aria-label": value === "" ? null : told, "data-testid": ask.do, disabled: ask.busy, onclick: press }, ask.label) : null;
  const figure = value === "" ? make("dd", { class: "ql-none" }, button ?? "–") : make("dd", {}, value, make("small", {}, unit ? ` ${unit}` : ""), button);
  const change = make("dd", { class: `ql-change ql-${trend || "plain"}` }, ...changed(note, trend));
  const against = make("dd", { class: "ql-change" }, base);
  return make("div", { title: help, "data-number": label }, make("dt", {}, label, lines ? details.button(lines, spent) : null), figure, change, against);
}

/** What it was, and in words whether that is better: an arrow would point up where a number falls. */
function changed(note, trend) {
  return trend && trend !== "same" ? [`${note}, `, make("span", {}, trend)] : [note];
}
