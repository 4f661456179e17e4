// The strip of numbers: value, unit, and the change since the last state.
import { make } from "./dom.js";

const MARKS = { better: "▲ better", worse: "▼ worse", same: "unchanged" };

export function mountNumbers(host) {
  const strip = make("dl", { class: "ql-tiles", "data-testid": "numbers" });
  const problems = make("p", { class: "ql-note" });
  host.append(strip, problems);
  return (value) => {
    host.classList.toggle("ql-stale", value.stale);
    strip.replaceChildren(...value.items.map(tile));
    problems.textContent = value.problems.join(" ");
  };
}

function tile({ label, value, unit, note, trend, help }) {
  const figure = value === "" ? make("dd", { class: "ql-none" }, "–") : make("dd", {}, value, make("small", {}, unit ? ` ${unit}` : ""));
  const change = make("dd", { class: `ql-change ql-${trend || "plain"}` }, changed(note, trend));
  return make("div", { title: help, "data-number": label }, make("dt", {}, label), figure, change);
}

/** The former value in brackets, and the direction in words: colour alone would not reach everyone. */
function changed(note, trend) {
  if (!trend) return note || " ";
  return trend === "same" ? `(${note})` : `(${note}) ${MARKS[trend].split(" ")[0]}`;
}
