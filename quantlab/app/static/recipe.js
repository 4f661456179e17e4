// The recipe as text: YAML to read, change and keep, the Python that does the same, and what else can be taken away.
import { make, setText } from "./dom.js";
import { button, copy, mountExport } from "./export.js";

const OPENS = "A recipe (.yaml, .json), a session (.quantlab.json) or a profile (.npz)";

export function mountRecipe(host, { send }) {
  const yaml = make("textarea", { spellcheck: "false", "aria-label": "Recipe as YAML", title: "The recipe that holds; change it here and press Apply", "data-testid": "yaml" });
  const python = make("pre", { tabindex: "0", role: "region", "aria-label": "Recipe as Python", "data-testid": "python" });
  const changes = make("ul", { class: "ql-changes", "aria-label": "What differs from the first recipe" });
  const said = make("span", { class: "ql-quiet ql-said", role: "status", "data-testid": "said" });
  let fading = 0;
  const told = (text) => {
    setText(said, text);
    clearTimeout(fading);
    fading = setTimeout(() => setText(said, ""), 4000);
  };
  const exports = mountExport(send, told);
  host.append(
    make(
      "header",
      {},
      make("h2", {}, "Recipe"),
      make("span", { class: "ql-quiet" }, "YAML"),
      make("span", { class: "ql-spring" }),
      button("Apply", "Make the text above the recipe that holds; it can be undone", () => send({ do: "recipe", text: yaml.value })),
      button("Copy as YAML", "Copy the recipe as YAML", () => copy(yaml.value, "YAML", told)),
    ),
    yaml,
    make(
      "header",
      {},
      make("h2", {}, "Python"),
      make("span", { class: "ql-quiet" }, "builds the same recipe"),
      make("span", { class: "ql-spring" }),
      button("Copy as Python", "Copy the Python that builds the same recipe", () => copy(python.textContent, "Python", told)),
    ),
    python,
    changes,
    make("header", { class: "ql-export-head" }, make("h2", {}, "Take away"), said),
    exports.element,
  );
  return (value) => {
    document.getElementById("ql-load")?.setAttribute("title", OPENS); // Gradio draws it with its tab
    yaml.value = value.yaml;
    setText(python, value.python);
    changes.replaceChildren(...value.changes.map((line) => make("li", {}, line)));
    changes.hidden = value.changes.length === 0;
    exports.show(value);
  };
}
