// Where a forward pass goes: a bar as executed over one in full precision, on one scale, and the table below. It measures nothing.
import { make } from "./dom.js";

/** Bars alone, each under its name; what they show is said to who cannot see them. */
export function bars({ columns, rows }) {
  return make("div", { class: "ql-spent-bars" }, ...columns.flatMap((column, place) => bar(column, rows, place)));
}

function bar({ label, told, width }, rows, place) {
  const parts = rows.map(({ kind, label, cells, help }) =>
    make("span", {
      class: `ql-kind-${kind}`,
      style: `flex-grow:${cells[place].share}`,
      title: `${label}: ${cells[place].told}, ${cells[place].part}. ${help}.`,
    }),
  );
  const said = rows.map((row) => `${row.label} ${row.cells[place].part}`).join(", ");
  const drawn = make("div", { class: "ql-spent-bar", role: "img", "aria-label": `${label}: ${said}`, style: `flex-basis:${100 * width}%` }, ...parts);
  return [make("span", { class: "ql-quiet" }, label), make("div", { class: "ql-spent-room" }, drawn), make("span", {}, told)];
}

/** The table of both passes by kind of work. */
export function kinds({ columns, rows }) {
  return make(
    "table",
    { class: "ql-spent" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }), ...columns.map(({ label }) => make("th", { scope: "col", colspan: 2 }, label)))),
    make("tbody", {}, ...rows.map((row) => kind(row))),
  );
}

function kind({ kind, label, help, cells }) {
  const name = make("th", { scope: "row" }, make("i", { class: `ql-swatch ql-kind-${kind}` }), label);
  return make("tr", { title: help }, name, ...cells.flatMap(({ told, part }) => [make("td", {}, told), make("td", { class: "ql-quiet" }, part)]));
}
