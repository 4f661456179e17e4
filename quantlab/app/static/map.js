// The map of the network and the list of its worst layers; a click on either opens the layer.
import { Choice, make, Segments, setText } from "./dom.js";
import { Plot } from "./plot.js";

export function mountMap(host, { config, send }) {
  const select = (layer) => send({ do: "select", layer });
  const quantity = new Choice("Colour by", (value) => send({ do: "color_by", value }));
  const streams = new Segments("Streams shown", (value) => send({ do: "streams", value }));
  const canvas = make("div", { class: "ql-plot", "data-testid": "map" });
  const note = make("p", { class: "ql-note" });
  const list = make("ol", { class: "ql-worst", "aria-label": "Worst layers", "data-testid": "worst" });
  const measure = make("span", { class: "ql-quiet" });
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
      make("div", { class: "ql-plot-frame" }, canvas),
      make("div", { class: "ql-worst-frame" }, make("h3", {}, "Worst layers by ", measure), list, note),
    ),
  );
  const plot = new Plot(canvas, config, select);
  return (value) => {
    quantity.show(value.quantities, value.color_by);
    streams.show(value.streams, value.stream);
    setText(note, value.message);
    setText(measure, value.quantities.find((item) => item.id === value.color_by)?.label);
    list.replaceChildren(...value.worst.map((item) => worstRow(item, value.selected, select)));
    plot.show(value.figure);
  };
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
      make("span", { class: "ql-worst-name" }, short),
      make("span", { class: "ql-worst-value" }, value),
      bar,
    ),
  );
}
