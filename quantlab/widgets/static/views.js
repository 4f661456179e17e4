// What a pane shows: figures, point clouds, numbers, lists and sentences. It gets plain data and sends back what was clicked.

export function open(root, context) {
  const themes = new Themes(root);
  const status = make("p", "ql-status");
  const error = make("p", "ql-error");
  error.setAttribute("role", "alert");
  root.append(status, error);
  const tools = { ...context, make };
  const slot = (name) => new (KINDS[name] ?? context.modules[name].Slot)(root, tools, themes);
  const slots = Object.fromEntries(context.slots.map((name) => [name, slot(name)]));
  const show = (content, buffers) => {
    if (content.palettes) themes.setPalettes(content.palettes);
    if (content.show === "status") say(status, content.data);
    else if (content.show === "error") say(error, content.data);
    else if (content.show === "selected") slots.table?.select(content.data);
    else slots[content.show]?.show(content.data, buffers);
  };
  say(status, "");
  say(error, "");
  return {
    show,
    close() {
      themes.close();
      Object.values(slots).forEach((slot) => slot.close?.());
    },
  };
}

// ---- themes -------------------------------------------------------------------------------------------------

/** Follows the host's theme, and turns the names in a figure ("@ink") into its colours. */
class Themes {
  #listeners = new Set();
  #palettes = { light: {}, dark: {} };

  constructor(root) {
    this.root = root;
    this.media = matchMedia("(prefers-color-scheme: dark)");
    this.changed = () => this.#apply();
    this.media.addEventListener("change", this.changed);
    this.watch = new MutationObserver(this.changed);
    this.watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  }

  /** JupyterLab marks the body with its theme, VS Code with a class; elsewhere the system decides. */
  get name() {
    const { dataset, classList } = document.body;
    if (dataset.jpThemeLight) return dataset.jpThemeLight === "true" ? "light" : "dark";
    if (classList.contains("vscode-dark") || classList.contains("vscode-light")) {
      return classList.contains("vscode-dark") ? "dark" : "light";
    }
    return this.media.matches ? "dark" : "light";
  }

  setPalettes(palettes) {
    this.#palettes = palettes;
    this.#apply();
  }

  onChange(listener) {
    this.#listeners.add(listener);
  }

  /** A copy of a figure in which every "@name" is a colour. */
  coloured(value) {
    if (typeof value === "string") return value[0] === "@" ? (this.#palettes[this.name][value.slice(1)] ?? value) : value;
    if (Array.isArray(value)) return value.map((item) => this.coloured(item));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.coloured(item)]));
  }

  close() {
    this.media.removeEventListener("change", this.changed);
    this.watch.disconnect();
  }

  #apply() {
    const now = this.name;
    if (this.applied === now && this.palettes === this.#palettes) return;
    [this.applied, this.palettes] = [now, this.#palettes];
    for (const [name, colour] of Object.entries(this.#palettes[now])) this.root.style.setProperty(`--ql-${name}`, colour);
    this.root.style.colorScheme = now;
    this.#listeners.forEach((listener) => listener(now));
  }
}

// ---- slots --------------------------------------------------------------------------------------------------

/** One plotly figure, updated in place, so that zoom and hidden curves stay. A click tells the cell's customdata. */
class Figure {
  constructor(root, { modules, send }, themes) {
    Object.assign(this, { plotly: modules.plotly, themes, send, exportable: modules.plot_export.exportable });
    this.box = make("div", "ql-figure");
    root.append(make("div", "ql-figure-frame", this.box));
    themes.onChange(() => this.#draw());
    this.sizes = new ResizeObserver(() => this.#resize());
    this.sizes.observe(this.box);
  }

  show(data) {
    this.data = data;
    this.#draw();
  }

  async #draw() {
    if (!this.data) return;
    const { figure, config, height, name } = this.data;
    this.box.style.height = `${height}px`;
    const { data, layout } = this.themes.coloured(figure);
    await this.plotly.react(this.box, data, { ...layout, autosize: true }, config);
    this.exportable(this.box, name, { plotly: this.plotly });
    if (this.bound) return;
    this.bound = true;
    this.box.on("plotly_click", ({ points }) => {
      const name = points[0]?.customdata;
      if (typeof name === "string" && name) this.send({ type: "select", name });
    });
  }

  #resize() {
    if (this.bound && this.box.clientWidth) this.plotly.Plots.resize(this.box);
  }

  close() {
    this.sizes.disconnect();
    this.plotly.purge(this.box);
  }
}

/** The 3D comparison. */
class Clouds {
  constructor(root, { modules, send }, themes) {
    this.box = make("div", "ql-clouds");
    root.append(this.box);
    this.viewer = modules.viewer.mount(this.box, { theme: themes.name });
    this.viewer.onEvent((event) => event.type === "region" && send(event));
    themes.onChange((name) => this.viewer.setTheme(name));
  }

  show({ height, message }, buffers) {
    this.box.style.height = `${height}px`;
    if (buffers?.length) this.viewer.setPayload(buffers[0]);
    if (message) this.viewer.setMessage(message);
  }

  close() {
    this.viewer.dispose();
  }
}

/** Numbers with units, what they are measured against, and what they were before the last change. */
class Numbers {
  constructor(root) {
    this.box = make("div", "ql-numbers");
    root.append(this.box);
  }

  show(entries) {
    const cells = entries.map(({ label, value, unit, note, base, trend, help }) => {
      const cell = make("div", "ql-number");
      cell.title = help;
      const shown = make("div", "ql-value", make("strong", "", value || "–"), unit ? ` ${unit}` : "");
      const change = trend && trend !== "same" ? `${note}, ${trend}` : note;
      cell.append(make("div", "ql-label", label), shown, make("div", "ql-change", change), make("div", "ql-change", base));
      return cell;
    });
    this.box.replaceChildren(...cells);
  }
}

/** A ranked list of layers; a click selects one. */
class Rows {
  constructor(root, { send }) {
    this.send = send;
    this.box = make("div", "ql-rows");
    root.append(this.box);
  }

  show(data) {
    const shown = JSON.stringify(data);
    if (shown === this.shown) return; // a list that is rebuilt under the pointer loses its click
    this.shown = shown;
    const { title, rows, selected, empty } = data;
    const list = make("ol", "");
    for (const { name, label, value } of rows) {
      const button = make("button", "ql-row", make("span", "ql-row-name", label), make("span", "ql-row-value", value));
      button.type = "button";
      button.title = name;
      button.setAttribute("aria-pressed", String(name === selected));
      button.addEventListener("click", () => this.send({ type: "select", name }));
      list.append(make("li", "", button));
    }
    this.box.replaceChildren(make("p", "ql-heading", title), rows.length ? list : make("p", "ql-quiet", empty));
  }
}

/** A heading, and sentences below it. */
class Words {
  constructor(root) {
    this.box = make("div", "ql-words");
    root.append(this.box);
  }

  show({ heading, sentences }) {
    const parts = sentences.map((text) => make("p", "ql-quiet", text));
    this.box.replaceChildren(...(heading ? [make("p", "ql-heading", heading)] : []), ...parts);
  }
}

/** A layer's short name, and its full one. */
class Title {
  constructor(root) {
    this.box = make("p", "ql-heading");
    root.append(this.box);
  }

  show({ heading, full }) {
    this.box.replaceChildren(heading, make("span", "ql-full", full));
  }
}

const KINDS = { title: Title, figure: Figure, clouds: Clouds, numbers: Numbers, rows: Rows, words: Words };

function say(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

function make(tag, classes, ...children) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.append(...children);
  return element;
}
