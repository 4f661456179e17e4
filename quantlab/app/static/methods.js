// Every method in a list, and the chosen one explained on one screen: what, formula, source, cost, our reading.
import { make } from "./dom.js";

export function mountMethods(host, { send }) {
  const list = make("ul", { class: "ql-method-list", "aria-label": "Methods" });
  const card = make("article", { class: "ql-method-card", "data-testid": "method-card" });
  host.append(make("div", { class: "ql-methods-body" }, list, card));
  let value = null;
  let opened = "";

  function open(id) {
    opened = id;
    const method = value.methods.find((item) => item.id === id) ?? value.methods[0];
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-current", String(button.dataset.id === method.id));
    }
    card.replaceChildren(...explained(method));
  }

  function explained(method) {
    const inForce = method.id === value.current;
    const state = inForce ? (value.changed ? `In force, with ${value.changed} change${value.changed === 1 ? "" : "s"}.` : "In force.") : "";
    const use = make("button", { type: "button", class: "ql-primary", onclick: () => send({ do: "method", name: method.id }) }, inForce ? "Use again, unchanged" : "Use this method");
    use.hidden = inForce && !value.changed;
    return [
      make("header", {}, make("h2", {}, method.label), make("span", { class: "ql-quiet" }, state), make("span", { class: "ql-spring" }), use),
      make("p", { class: "ql-method-help" }, method.help),
      make("div", { class: "ql-formula" }, ...method.formula.split(/[,;] {2,}| {3,}/).map((line) => make("p", {}, line))),
      make("dl", {}, ...facts(method)),
    ];
  }

  return (next) => {
    value = next;
    if (list.children.length !== next.methods.length) {
      list.replaceChildren(
        ...next.methods.map((item) =>
          make("li", {}, make("button", { type: "button", "data-id": item.id, title: item.help, onclick: () => open(item.id) }, item.label)),
        ),
      );
    }
    for (const button of list.querySelectorAll("button")) button.classList.toggle("ql-in-force", button.dataset.id === next.current);
    open(opened || next.current);
  };
}

function facts(method) {
  const source = method.arxiv
    ? make("a", { href: `https://arxiv.org/abs/${method.arxiv}`, target: "_blank", rel: "noreferrer" }, `arXiv:${method.arxiv}`)
    : null;
  const settings = method.settings.map(([name, word, help]) => make("span", { class: "ql-setting", title: help }, make("code", {}, name), ` ${word}`));
  const rows = [
    ["source", source && make("span", {}, ...(method.paper ? [`${method.paper}, `] : []), source)],
    ["made for", method.usual],
    ["cost", method.cost],
    ["calibrated on", method.scenes],
    ["our reading", method.reading],
    ["settings", settings.length ? make("span", { class: "ql-setting-list" }, ...settings) : null],
    ["code", method.file && make("code", {}, method.file)],
  ];
  return rows.flatMap(([name, content]) => (content ? [make("dt", {}, name), make("dd", {}, content)] : []));
}
