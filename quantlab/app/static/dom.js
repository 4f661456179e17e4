// Small helpers to build and change elements. Text goes in as text, never as markup: names come from strangers' files.

/** make("button", {class: "x", onclick: f}, "text", child): attributes, listeners (on...), children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const ROOT = new URL("../../", import.meta.url); // where this server is, also behind a proxy that puts a path before it

/** The whole address of "/quantlab/...", as the server says it. */
export function reach(address) {
  return address ? new URL(address.replace(/^\//, ""), ROOT).href : "";
}

/** Lets the browser save what lies at an address under a name. */
export function save({ address, name }) {
  const link = make("a", { href: reach(address), download: name });
  document.body.append(link); // some browsers follow no link outside of the page
  link.click();
  link.remove();
}

export function setText(element, text) {
  const next = text ?? "";
  if (element.textContent !== next) element.textContent = next;
}

/** A select whose options are [{id, label, help}]; rebuilt only when they change. */
export class Choice {
  #known = "";

  constructor(label, report, extra = "") {
    this.element = make("select", {
      class: `ql-select ${extra}`,
      "aria-label": label,
      title: label,
      onchange: (event) => report(event.target.value),
    });
  }

  show(options, value) {
    const key = JSON.stringify(options);
    if (key !== this.#known) {
      this.#known = key;
      this.element.replaceChildren(
        ...options.map(({ id, label, help }) => make("option", { value: id, title: help }, label)),
      );
    }
    this.element.value = String(value);
  }
}

/** A row of buttons of which one is pressed; options are [{id, label, help}]. */
export class Segments {
  #known = "";

  constructor(label, report) {
    this.report = report;
    this.element = make("div", { class: "ql-segments", role: "group", "aria-label": label });
  }

  show(options, value) {
    const key = JSON.stringify(options);
    if (key !== this.#known) {
      this.#known = key;
      this.element.replaceChildren(
        ...options.map(({ id, label, help }) =>
          make("button", { type: "button", "data-id": id, title: help || null, onclick: () => this.#press(id) }, label),
        ),
      );
    }
    this.#mark(value);
  }

  #press(id) {
    this.#mark(id);
    this.report(id);
  }

  #mark(value) {
    for (const button of this.element.children) {
      button.setAttribute("aria-pressed", String(button.dataset.id === value));
    }
  }
}

/** Values come as JSON text where they are large, else as plain data. */
export function read(value) {
  if (!value) return null;
  return typeof value === "string" ? JSON.parse(value) : value;
}
