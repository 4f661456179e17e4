// The opened layer: its plots, one at a time, and what they say in words.
import { ClipLine } from "./clip.js";
import { make, Segments, setText } from "./dom.js";
import { Plot } from "./plot.js";

export function mountLayer(host, { config, send }) {
  const title = make("h2", { class: "ql-name", "data-testid": "layer-name" });
  const facts = make("p", { class: "ql-quiet ql-facts" });
  const panels = new Segments("What to show of the layer", (value) => send({ do: "panel", value }));
  const sides = new Segments("Inputs or weights of the layer", (value) => send({ do: "side", value }));
  const reliefs = new Segments("Flat or in relief", (value) => send({ do: "relief", value }));
  const canvas = make("div", { class: "ql-plot", "data-testid": "histogram" });
  const note = make("p", { class: "ql-note" });
  const reading = make("p", { class: "ql-reading", "data-testid": "reading" });
  let [known, words] = ["", ""];
  const clip = new ClipLine(canvas, {
    report: (changes) => send({ do: "set", changes }),
    hint: (text) => {
      words = text;
      setText(facts, words || known);
    },
  });
  const toolbar = make("div", { class: "ql-layer-bar" }, sides.element, reliefs.element, clip.readout);
  host.append(
    make("header", {}, title, panels.element),
    toolbar,
    make("div", { class: "ql-plot-frame" }, canvas, note, clip.overlay),
    facts,
    reading,
  );
  let files = "layer";
  const plot = new Plot(canvas, config, { name: () => files, drawn: () => clip.place() });
  return (value) => {
    setText(title, value.short || "Layer");
    title.title = value.name;
    known = value.facts;
    setText(facts, words || known);
    if (value.panels) panels.show(value.panels, value.panel);
    for (const [segments, options, chosen] of [[sides, value.sides, value.side], [reliefs, value.reliefs, value.relief]]) {
      segments.element.hidden = !options?.length;
      if (options?.length) segments.show(options, chosen);
    }
    files = `${value.name} ${value.panel} ${value.sides?.length ? value.side : ""}`.trim();
    setText(note, value.message);
    setText(reading, value.reading);
    canvas.style.visibility = value.figure ? "visible" : "hidden";
    clip.show(value.clip ?? null, files);
    toolbar.hidden = !value.clip && !value.sides?.length;
    if (value.figure) plot.show(value.figure);
  };
}
