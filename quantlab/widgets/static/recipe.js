// The recipe on its way out and in: copied as Python or YAML, pasted as YAML. What a recipe means is known to the kernel.

const SHOWN = 2500; // milliseconds a note stays

/** Data: {python, yaml, link}; texts, and an address of the app or "". */
export class Slot {
  constructor(root, { send, make }) {
    Object.assign(this, { send, make });
    this.note = make("span", "ql-quiet");
    this.note.setAttribute("role", "status");
    this.copies = {
      python: this.#button("copy as Python", "Lines for a cell that build this very recipe", () => this.#copy("python")),
      yaml: this.#button("copy as YAML", "Text for the Recipe tab of the app, or for ql.Recipe.from_yaml", () => this.#copy("yaml")),
      link: this.#button("copy link", "An address that opens this model and recipe in the app (start it with: python app.py)", () => this.#copy("link")),
    };
    const paste = this.#button("paste …", "Take a recipe copied in the app or in another notebook", () => this.#open());
    this.text = make("textarea", "ql-paste");
    Object.assign(this.text, { rows: 6, spellcheck: false, placeholder: "a recipe as YAML, as the app's Recipe tab shows it, or a link of the app" });
    this.text.setAttribute("aria-label", "Recipe as YAML or link");
    const apply = this.#button("apply", "Replace the recipe; undo takes it back", () => this.#apply());
    this.sheet = make("div", "ql-sheet", this.text, apply);
    this.sheet.hidden = true;
    root.append(make("div", "ql-buttons", ...Object.values(this.copies), paste, this.note), this.sheet);
  }

  show(data) {
    this.data = data;
    this.copies.link.hidden = !data.link;
  }

  #button(label, title, act) {
    const button = this.make("button", "ql-button", label);
    Object.assign(button, { type: "button", title });
    button.addEventListener("click", act);
    return button;
  }

  async #copy(kind) {
    const copied = await toClipboard(this.data?.[kind] ?? "");
    this.#say(copied ? "copied" : "This page may not write to the clipboard: copy the text below.");
    if (copied) return;
    this.#open();
    this.text.value = this.data[kind];
    this.text.select();
  }

  #open() {
    this.sheet.hidden = !this.sheet.hidden;
    if (!this.sheet.hidden) this.text.focus();
  }

  #apply() {
    this.send({ type: "recipe", text: this.text.value });
    this.sheet.hidden = true;
  }

  #say(text) {
    this.note.textContent = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.note.textContent = ""), SHOWN);
  }

  close() {
    clearTimeout(this.timer);
  }
}

/** Pages that came over plain http from elsewhere have no clipboard; the older way works there. */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
