// The map of the network and the list of its worst layers; a click on either, or the keyboard, opens the layer.
import { mountBlame } from "./blame.js";
import { Choice, make, Segments, setText } from "./dom.js";
import { MapCursor } from "./cursor.js";
import { byValue, finds, only } from "./finder.js";
import { Plot } from "./plot.js";
import { bars } from "./spent.js";

const ROW_PIXELS = 13; // at least, so that every row can have its label; a larger map scrolls
const BETWEEN =
  "Each layer was timed by itself, in passes of their own. What lies between layers is told apart in the bars: point at them, or press details below “forward”.";
const LISTED = 60; // layers at most, while something is searched for

export function mountMap(host, { config, send }) {
  const select = (layer) => send({ do: "select", layer });
  const quantity = new Choice("Colour by", (value) => send({ do: "color_by", value }));
  const streams = new Segments("Streams shown", (value) => send({ do: "streams", value }));
  const canvas = make("div", { class: "ql-plot", "data-testid": "map" });
  const scroll = make("div", { class: "ql-map-scroll" }, canvas);
  const note = make("p", { class: "ql-note" });
  const list = make("ol", { class: "ql-worst", "aria-label": "Worst layers", "data-testid": "worst" });
  const blame = mountBlame(send, select);
  const heading = make("span", {}, "Worst layers by ");
  const measure = make("span", { class: "ql-quiet" });
  const parts = make("p", { class: "ql-map-parts ql-quiet", "data-testid": "parts", title: BETWEEN });
  const where = make("div", { class: "ql-map-spent" });
  const find = make("input", {
    type: "search",
    class: "ql-find",
    placeholder: "find: fc2, >0.05",
    title: "Show only layers whose name holds these words, as fc2 or global 3, or whose value is above or below a number, as >0.05",
    "aria-label": "Find layers by name, kind or value",
    "data-testid": "map-find",
    oninput: () => {
      draw();
      cursor.reveal();
    },
    onkeydown: (event) => {
      if (event.key === "Enter") list.querySelector("button")?.click();
      if (event.key !== "Escape" || !find.value) return;
      find.value = "";
      draw();
    },
  });
  host.append(
    make(
      "header",
      {},
      make("h2", {}, "Map"),
      make("label", { class: "ql-field" }, make("span", {}, "colour by"), quantity.element),
      streams.element,
    ),
    make(
      "div",
      { class: "ql-map-body" },
      make("div", { class: "ql-plot-frame" }, scroll),
      make("div", { class: "ql-worst-frame" }, find, make("h3", {}, heading, measure), blame.element, list, note),
    ),
    where,
    parts,
  );
  const cursor = new MapCursor(canvas, scroll, select);
  const plot = new Plot(canvas, config, { pick: select, name: () => `map ${value?.color_by ?? ""}`, drawn: () => cursor.place() });
  let [value, drawn] = [null, ""];

  function draw() {
    if (!value) return;
    const found = finds(find.value, value.layers);
    const listed = found ? byValue(found).slice(0, LISTED) : value.worst;
    const suspects = value.color_by === "blame" && !found ? value.blame : null;
    blame.show(suspects, value.selected);
    list.hidden = Boolean(suspects);
    const ranked = value.color_by === "time" ? "Slowest layers by " : "Worst layers by ";
    const all = suspects ? "Blame: what restoring one repairs" : ranked;
    setText(measure, suspects ? "" : value.quantities.find((item) => item.id === value.color_by)?.label);
    setText(heading, found ? `${found.length} of ${value.layers.length} layers by ` : all);
    setText(parts, value.parts);
    parts.hidden = !value.parts;
    where.replaceChildren(...(value.spent?.rows ? [bars(value.spent)] : []));
    setText(note, found && !found.length ? "No layer shown here is called so." : value.message);
    const key = JSON.stringify([listed, value.selected]);
    if (key !== drawn) list.replaceChildren(...listed.map((item) => worstRow(item, value.selected, select)));
    drawn = key; // what stays is not rebuilt under the pointer
    const names = found?.map(([name]) => name) ?? null;
    const figure = names ? only(value.figure, new Set(names)) : value.figure;
    canvas.style.minHeight = `${heightOf(figure)}px`;
    cursor.show(figure, value.layers, value.selected, names);
    plot.show(figure);
  }

  return (next) => {
    value = next;
    quantity.show(value.quantities, value.color_by);
    streams.show(value.streams, value.stream);
    draw();
  };
}

/** Rows of the map, and what stands around them. */
function heightOf({ data, layout }) {
  const { t, b } = layout.margin;
  return t + b + ROW_PIXELS * (data[0]?.z?.length ?? 0);
}

/** First word and rest: where there is no room a name is cut between them, because its end tells the layers of a head apart. */
function halves(short) {
  const [first, ...rest] = short.split(" ");
  return rest.length ? [make("span", {}, first), make("span", {}, make("bdi", {}, ` ${rest.join(" ")}`))] : [short];
}

function worstRow({ name, short, value, share }, selected, select) {
  const bar = make("span", { class: "ql-bar", style: `width:${Math.max(2, 100 * share)}%` });
  return make(
    "li",
    {},
    make(
      "button",
      {
        type: "button",
        title: name,
        "data-layer": name,
        "aria-current": name === selected ? "true" : null,
        onclick: () => select(name),
      },
      make("span", { class: "ql-worst-name ql-halves" }, ...halves(short)),
      make("span", { class: "ql-worst-value" }, value),
      bar,
    ),
  );
}
