// The door of every view in a notebook: it asks the kernel for code and content and holds neither, so notebooks stay small.
// Drawing is in views.js, which comes through this door like plotly.js and the 3D viewer, once a page.

const shelf = (globalThis.__quantlabShelf ??= new Map()); // key of a version -> its delivery
const PATIENCE = 5000; // milliseconds without an answer before the reader is told what to do
const SECOND_ASK = 2000; // milliseconds
const WAITING = "Waiting for the kernel …";
const SILENT = "No answer from the kernel yet. If it was restarted, run the cell again.";
const RESTARTED = "The kernel was restarted or closed: run the cell again.";

export default { render };

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "ql-pane";
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take "a", "b" and "d d" for commands to the notebook ...
  root.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // ... and "d d", which deletes a cell, all the same
  });
  const notice = document.createElement("p");
  notice.className = "ql-notice";
  notice.textContent = WAITING;
  root.append(notice);
  el.append(root);
  const door = new Door(model, notice);
  const ends = [() => door.close()];
  start(model, root, door)
    .then((end) => ends.push(end))
    .catch((error) => door.say(`This view could not start: ${error.message}`));
  return () => {
    ends.forEach((end) => end());
    root.remove();
  };
}

async function start(model, root, door) {
  const needs = Object.entries(model.get("needs"));
  const modules = Object.fromEntries(await Promise.all(needs.map(async ([name, key]) => [name, await door.code(name, key)])));
  if (door.closed) return () => {};
  const view = modules.views.open(root, { slots: model.get("slots"), modules, send: (event) => door.send({ event }) });
  door.follow((content, buffers) => view.show(content, buffers));
  door.send({ ask: "content" });
  return () => view.close();
}

/** Both directions of one widget's messages, and what is told while the kernel is silent or gone. */
class Door {
  constructor(model, notice) {
    Object.assign(this, { model, notice, closed: false, show: null });
    this.receive = (content, buffers) => this.#receive(content, buffers);
    this.died = () => this.say(RESTARTED);
    model.on("msg:custom", this.receive);
    model.on("comm_live_update", this.died);
    this.timer = setTimeout(() => this.say(SILENT), PATIENCE);
  }

  say(text) {
    this.notice.textContent = text;
    this.notice.hidden = !text;
  }

  /**
   * A module by its version. Whoever comes first asks for the whole page; whoever waits long asks as well, since the
   * first may have been closed, or its kernel be busy.
   */
  code(name, key) {
    const isFirst = !shelf.has(key);
    if (isFirst) shelf.set(key, new Delivery());
    const delivery = shelf.get(key);
    const ask = () => {
      if (!this.closed && !delivery.arrived) this.send({ ask: "code", name });
    };
    if (isFirst) ask();
    else setTimeout(ask, SECOND_ASK);
    return delivery.module;
  }

  follow(show) {
    this.show = show;
  }

  send(message) {
    try {
      this.model.send(message);
    } catch {
      this.died();
    }
  }

  #receive(content, buffers) {
    if (content.code) shelf.get(content.key)?.receive(content, buffers[0]);
    else if (this.show) {
      clearTimeout(this.timer);
      this.say("");
      this.show(content, buffers);
    }
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.model.off("msg:custom", this.receive);
    this.model.off("comm_live_update", this.died);
  }
}

/** Code on its way to the page; the first answer counts. */
class Delivery {
  arrived = false;
  module = new Promise((done, failed) => Object.assign(this, { done, failed }));

  receive(content, bytes) {
    if (this.arrived) return;
    this.arrived = true;
    load(content, bytes).then(this.done, this.failed);
  }
}

/** Deflated source into a module. A CommonJS source (plotly.js) gets a `module` of its own to write to. */
async function load({ format }, bytes) {
  const source = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  const parts = format === "commonjs" ? ["const module = { exports: {} };\n", source, "\nexport default module.exports;"] : [source];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  try {
    const loaded = await import(/* @vite-ignore */ url);
    return format === "commonjs" ? loaded.default : loaded;
  } finally {
    URL.revokeObjectURL(url);
  }
}
