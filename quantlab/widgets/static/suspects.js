// The layers suspected of the damage in a region, with what restoring each would repair. It ranks and measures nothing.

/** Data: {title, text, rows: [{name, label, value, known, help, share, actions: [{id, label, help, done}]}], selected, busy}. */
export class Slot {
  constructor(root, { send, make }) {
    Object.assign(this, { send, make });
    this.box = make("section", "ql-suspects");
    this.box.setAttribute("aria-label", "Suspects");
    this.box.hidden = true;
    root.append(this.box);
  }

  show(data) {
    const focused = this.box.contains(document.activeElement) ? document.activeElement.dataset.key : "";
    const { make, send } = this;
    this.box.hidden = !data.title;
    const stop = make("button", "ql-button", "stop");
    Object.assign(stop, { type: "button", title: "End the check; what is verified stays" });
    stop.addEventListener("click", () => send({ type: "stop" }));
    stop.hidden = !data.busy;
    const heading = make("p", "ql-heading", data.title, " ", stop);
    const list = make("ol", "", ...data.rows.map((row) => this.#row(row, data.selected)));
    this.box.replaceChildren(heading, make("p", "ql-quiet", data.text), list);
    if (focused) this.box.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #row({ name, label, value: text, known, help, share, actions }, selected) {
    const { make, send } = this;
    const layer = make("button", "ql-row-name", label);
    Object.assign(layer, { type: "button", title: `${name}: look at this layer` });
    layer.dataset.key = name;
    layer.setAttribute("aria-pressed", String(name === selected));
    layer.addEventListener("click", () => send({ type: "select", name }));
    const bar = make("span", "ql-bar");
    bar.style.setProperty("--share", `${Math.round(100 * Math.min(Math.max(share, 0), 1))}%`);
    const value = make("span", "ql-row-value", known ? text : make("i", "", text));
    value.title = help;
    const buttons = actions.map(({ id, label: action, help: what, done }) => {
      const button = make("button", "ql-button", action);
      Object.assign(button, { type: "button", title: what, disabled: Boolean(done) });
      button.dataset.key = `${id} ${name}`;
      button.addEventListener("click", () => send({ type: id, name }));
      return button;
    });
    return make("li", "ql-suspect", layer, bar, value, make("span", "ql-buttons", ...buttons));
  }
}
