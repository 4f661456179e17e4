// The keyboard map over the view; it reads the table that the keys themselves are answered from.
import { make } from "./dom.js";
import { KEYS } from "./keys.js";

export class Help {
  #before = null;

  constructor() {
    const groups = KEYS.map(([title, rows]) =>
      make("section", {}, make("h3", {}, title), make("dl", {}, ...rows.flatMap(([keys, text]) => [
        make("dt", {}, ...keys.split("  ").map((key) => make("kbd", {}, key))),
        make("dd", {}, text),
      ]))),
    );
    this.close = make("button", { type: "button", onclick: () => this.toggle() }, "close");
    const head = make("header", {}, make("h2", {}, "Keys of the 3D comparison"), this.close);
    const sheet = make("div", { class: "sheet" }, head, make("div", { class: "groups" }, ...groups));
    const options = { class: "help", role: "dialog", "aria-modal": "true", "aria-label": "Keys", hidden: true };
    this.element = make("div", { ...options, onclick: (event) => event.target === this.element && this.toggle() }, sheet);
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Tab") event.preventDefault(); // its one button keeps the focus
    });
  }

  get isOpen() {
    return !this.element.hidden;
  }

  toggle() {
    this.element.hidden = this.isOpen;
    if (this.isOpen) {
      this.#before = this.element.getRootNode().activeElement;
      this.close.focus();
    } else this.#before?.focus();
  }
}
