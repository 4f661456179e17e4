// The opened layer: its plots, one at a time, and what they say in words.
import { make, Segments, setText } from "./dom.js";
import { Plot } from "./plot.js";

export function mountLayer(host, { config, send }) {
  const title = make("h2", { class: "ql-name", "data-testid": "layer-name" });
  const facts = make("p", { class: "ql-quiet ql-facts" });
  const panels = new Segments("What to show of the layer", (value) => send({ do: "panel", value }));
  const canvas = make("div", { class: "ql-plot", "data-testid": "histogram" });
  const note = make("p", { class: "ql-note" });
  const reading = make("p", { class: "ql-reading", "data-testid": "reading" });
  host.append(
    make("header", {}, title, panels.element),
    make("div", { class: "ql-plot-frame" }, canvas, note),
    facts,
    reading,
  );
  const plot = new Plot(canvas, config);
  return (value) => {
    setText(title, value.short || "Layer");
    title.title = value.name;
    setText(facts, value.facts);
    if (value.panels) panels.show(value.panels, value.panel);
    setText(note, value.message);
    setText(reading, value.reading);
    canvas.style.visibility = value.figure ? "visible" : "hidden";
    if (value.figure) plot.show(value.figure);
  };
}
