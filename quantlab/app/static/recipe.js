// The recipe as text: YAML to read, change and keep, and the Python that does the same.
import { make, setText } from "./dom.js";

export function mountRecipe(host, { send }) {
  const yaml = make("textarea", { spellcheck: "false", "aria-label": "Recipe as YAML", "data-testid": "yaml" });
  const python = make("pre", { "data-testid": "python" });
  const changes = make("ul", { class: "ql-changes" });
  const apply = make("button", { type: "button", onclick: () => send({ do: "recipe", text: yaml.value }) }, "Apply");
  host.append(
    make(
      "header",
      {},
      make("h2", {}, "Recipe"),
      make("span", { class: "ql-quiet" }, "YAML"),
      make("span", { class: "ql-spring" }),
      apply,
      make("button", { type: "button", onclick: () => copy(yaml.value) }, "Copy"),
      make("button", { type: "button", onclick: () => download(yaml.value) }, "Download"),
    ),
    yaml,
    make(
      "header",
      {},
      make("h2", {}, "Python"),
      make("span", { class: "ql-quiet" }, "builds the same recipe"),
      make("span", { class: "ql-spring" }),
      make("button", { type: "button", onclick: () => copy(python.textContent) }, "Copy"),
    ),
    python,
    changes,
  );
  return (value) => {
    yaml.value = value.yaml;
    setText(python, value.python);
    changes.replaceChildren(...value.changes.map((line) => make("li", {}, line)));
  };
}

function copy(text) {
  navigator.clipboard?.writeText(text);
}

function download(text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
  make("a", { href: address, download: "recipe.yaml" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
