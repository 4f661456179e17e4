// The table of all layers: filter, sort, edit in place. Only the rows in sight are in the page, so 400 layers are quick.

const ROW = 24; // pixels, as in pane.css
const SPARE = 8; // rows drawn beyond either edge

/**
 * Data: {columns: [{key, label, kind, width, help, choices?}], rows: [{name, label, words, values}], turn}. A value of null
 * is "has none"; a new turn draws every cell anew, also one in which a person chose what was then refused.
 */
export class Slot {
  #rows = [];
  #shown = []; // rows after filter and order
  #drawn = new Map(); // name -> {row, element, text}
  #order = { column: -1, up: true };
  #active = { name: "", column: 0 };
  #selected = "";

  constructor(root, { send, make }) {
    Object.assign(this, { send, make });
    this.filter = make("input", "ql-filter");
    Object.assign(this.filter, { type: "search", placeholder: "filter, as: global fc2", title: "Show the layers whose name, kind or state holds every word: global, fc2, kept, rotated …" });
    this.filter.setAttribute("aria-label", "Filter layers");
    this.filter.addEventListener("input", () => this.#arrange());
    this.reach = make("select", "ql-reach", new Option("this layer", "one"), new Option("all layers shown", "shown"));
    this.reach.title = "What a change in a row is written for: that layer, or every layer the filter shows. Each is one step to undo.";
    this.reach.setAttribute("aria-label", "A change holds for");
    this.count = make("span", "ql-quiet ql-count");
    this.count.setAttribute("role", "status");
    this.head = make("div", "ql-grid-row ql-grid-head");
    this.head.setAttribute("role", "row");
    this.body = make("div", "ql-grid-body");
    this.body.setAttribute("role", "rowgroup");
    this.grid = make("div", "ql-grid", this.head, this.body);
    this.grid.setAttribute("role", "grid");
    this.grid.setAttribute("aria-label", "Layers; arrows move, Enter selects or edits");
    this.grid.tabIndex = -1;
    this.grid.addEventListener("scroll", () => this.#draw());
    this.grid.addEventListener("keydown", (event) => this.#key(event));
    const top = make("div", "ql-table-top", this.filter, make("label", "", "a change holds for ", this.reach), this.count);
    root.append(make("div", "ql-table", top, this.grid));
    this.sizes = new ResizeObserver(() => this.#draw());
    this.sizes.observe(this.grid);
  }

  show({ columns, rows, turn }) {
    if (turn !== this.turn) this.#drawn.forEach((drawn) => (drawn.text = ""));
    this.turn = turn;
    if (JSON.stringify(columns) !== this.known) {
      this.known = JSON.stringify(columns);
      this.columns = columns;
      this.grid.style.setProperty("--ql-columns", columns.map(({ width }) => width).join(" "));
      this.#drawHead();
    }
    this.#rows = rows;
    if (!this.#active.name && rows.length) this.#active.name = rows[0].name;
    this.#arrange();
  }

  /** Marks a layer that was selected here or in another widget, and brings it into sight. */
  select(name) {
    if (name === this.#selected) return;
    this.#selected = name;
    if (!this.grid.contains(document.activeElement)) {
      this.#active.name = name;
      this.#reveal(name);
    }
    this.#draw();
  }

  close() {
    this.sizes.disconnect();
  }

  // ---- order ------------------------------------------------------------------------------------------------

  #drawHead() {
    const cells = this.columns.map(({ label, help, kind }, column) => {
      const button = this.make("button", "", label);
      button.type = "button";
      button.title = `${help} Click: sort.`;
      button.addEventListener("click", () => this.#sort(column));
      const cell = this.make("div", `ql-cell ql-${kind}`, button);
      cell.setAttribute("role", "columnheader");
      return cell;
    });
    this.head.replaceChildren(...cells);
  }

  /** Once: largest first for numbers, a to z for words; twice: the other way; thrice: as the network runs them. */
  #sort(column) {
    const first = this.columns[column].kind !== "number";
    if (this.#order.column !== column) this.#order = { column, up: first };
    else if (this.#order.up === first) this.#order.up = !first;
    else this.#order = { column: -1, up: true };
    this.#arrange();
  }

  #arrange() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.#shown = this.#rows.filter(({ words: text }) => words.every((word) => text.includes(word)));
    const { column, up } = this.#order;
    if (column >= 0) {
      const key = ({ values }) => (Array.isArray(values[column]) ? values[column][0] : values[column]);
      this.#shown.sort((a, b) => compare(key(a), key(b), up));
    }
    this.head.childNodes.forEach((cell, index) => {
      cell.setAttribute("aria-sort", index !== column ? "none" : up ? "ascending" : "descending");
    });
    const [some, all] = [this.#shown.length, this.#rows.length];
    this.count.textContent = some === 0 ? "no layer has all these words" : some === all ? `${all} layers` : `${some} of ${all} layers`;
    this.grid.setAttribute("aria-rowcount", String(some + 1));
    this.body.style.height = `${some * ROW}px`;
    this.#draw();
  }

  // ---- rows in sight ----------------------------------------------------------------------------------------

  #draw() {
    const top = Math.max(0, Math.floor(this.grid.scrollTop / ROW) - SPARE);
    const end = top + Math.ceil((this.grid.clientHeight || 360) / ROW) + 2 * SPARE;
    const hadFocus = this.grid.contains(document.activeElement);
    const inControl = hadFocus && document.activeElement.matches(".ql-grid-body select, .ql-grid-body input");
    const before = this.#drawn;
    this.#drawn = new Map();
    this.#shown.slice(top, end).forEach((row, index) => {
      const text = JSON.stringify(row);
      const former = before.get(row.name);
      const element = former?.text === text ? former.element : this.#row(row); // a row rebuilt under the pointer loses its click
      element.style.top = `${(top + index) * ROW}px`;
      element.setAttribute("aria-rowindex", String(top + index + 2));
      element.setAttribute("aria-selected", String(row.name === this.#selected));
      this.#drawn.set(row.name, { row, element, text });
    });
    const kept = new Set([...this.#drawn.values()].map(({ element }) => element));
    for (const { element } of before.values()) if (!kept.has(element)) element.remove();
    for (const element of kept) if (element.parentNode !== this.body) this.body.append(element);
    this.#mark();
    if (hadFocus && !this.grid.contains(document.activeElement)) this.#focus(inControl);
  }

  #row(row) {
    const cells = this.columns.map((column, index) => {
      const cell = this.make("div", `ql-cell ql-${column.kind}`, this.#content(column, row, index));
      cell.setAttribute("role", "gridcell");
      cell.addEventListener("focusin", () => (this.#active = { name: row.name, column: index }));
      return cell;
    });
    const element = this.make("div", "ql-grid-row", ...cells);
    element.setAttribute("role", "row");
    element.dataset.name = row.name;
    element.addEventListener("click", ({ target }) => {
      this.#active.name = row.name;
      if (!target.matches("select, input")) this.send({ type: "select", name: row.name });
    });
    cells[0].title = row.name;
    return element;
  }

  #content(column, row, index) {
    const value = row.values[index];
    if (value === null) return "–";
    if (column.kind === "number") return value[1];
    if (column.kind === "text") return value;
    const control = column.kind === "switch" ? this.make("input", "") : this.make("select", "", ...options(column, value));
    if (column.kind === "switch") Object.assign(control, { type: "checkbox", checked: value });
    else control.value = String(value);
    control.tabIndex = -1;
    control.setAttribute("aria-label", `${column.label} of ${row.label}`);
    control.title = column.help;
    control.addEventListener("change", () => {
      const chosen = column.kind === "switch" ? control.checked : column.choices.find(([choice]) => String(choice) === control.value)?.[0];
      this.#set(row, column, index, chosen ?? value);
    });
    return control;
  }

  #set(row, { key }, index, value) {
    const rows = this.reach.value === "shown" ? this.#shown.filter(({ values }) => values[index] !== null) : [row];
    this.send({ type: "set", setting: key, value, names: rows.map(({ name }) => name) });
  }

  // ---- keys -------------------------------------------------------------------------------------------------

  #key(event) {
    if (event.target.closest(".ql-grid-head") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("select, input")) {
      if (event.key === "Escape") this.#focus(false);
      return;
    }
    const at = this.#shown.findIndex(({ name }) => name === this.#active.name);
    const page = Math.max(1, Math.floor(this.grid.clientHeight / ROW) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps && this.#shown.length) {
      const next = Math.min(Math.max(at + steps[event.key], 0), this.#shown.length - 1);
      this.#active.name = this.#shown[next].name;
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const next = this.#active.column + (event.key === "ArrowRight" ? 1 : -1);
      this.#active.column = Math.min(Math.max(next, 0), this.columns.length - 1);
    } else if (event.key === "Enter" || event.key === " " || event.key === "F2") this.#enter();
    else return;
    event.preventDefault();
    if (event.key in steps) this.#reveal(this.#active.name);
    this.#draw();
    if (!["Enter", " ", "F2"].includes(event.key)) this.#focus(false);
  }

  /** In a cell with a control: into it, or flip it; elsewhere: look at the layer. */
  #enter() {
    const control = this.#cell()?.querySelector("select, input");
    if (control?.type === "checkbox") control.click();
    else if (control) control.focus();
    else if (this.#active.name) this.send({ type: "select", name: this.#active.name });
  }

  #cell() {
    return this.#drawn.get(this.#active.name)?.element.childNodes[this.#active.column];
  }

  /** One cell can be reached by Tab; where its row is out of sight, the grid itself. */
  #mark() {
    for (const cell of this.body.querySelectorAll("[tabindex='0']")) if (cell.matches(".ql-cell")) cell.removeAttribute("tabindex");
    const cell = this.#cell();
    this.grid.tabIndex = cell ? -1 : 0;
    if (cell) cell.tabIndex = 0;
  }

  #focus(inControl) {
    this.#mark();
    const cell = this.#cell();
    const target = (inControl && cell?.querySelector("select, input")) || cell || this.grid;
    target.focus({ preventScroll: true });
  }

  #reveal(name) {
    const index = this.#shown.findIndex((row) => row.name === name);
    if (index < 0) return;
    const [top, room] = [index * ROW, this.grid.clientHeight - ROW]; // the head stays in sight and takes a row
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + ROW > this.grid.scrollTop + room) this.grid.scrollTop = top + ROW - room;
  }
}

/** The choices of a column, and what holds now where it is none of them. */
function options({ choices }, value) {
  const known = choices.some(([choice]) => choice === value) ? choices : [...choices, [value, String(value)]];
  return known.map(([choice, label]) => new Option(label, String(choice)));
}

/** Numbers by size, words by the alphabet; what has none comes last whichever way. */
function compare(a, b, up) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  return up ? order : -order;
}
