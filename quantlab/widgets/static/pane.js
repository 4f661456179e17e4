// The door of every view in a notebook: it asks the kernel for code and content and holds neither, so notebooks stay small.
// Drawing is in views.js, which comes through this door like plotly.js and the 3D viewer, once a page.

const shelf = (globalThis.__quantlabShelf ??= new Map()); // key of a version -> promise of its module
const PATIENCE = 5000; // milliseconds without an answer before the reader is told what to do
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
    Object.assign(this, { model, notice, closed: false, waiting: new Map(), show: null });
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

  /** A module by its version; whoever asks first fetches it for the whole page. A failed one is asked for again. */
  code(name, key) {
    if (!shelf.has(key)) {
      const asked = new Promise((done, failed) => this.waiting.set(key, { done, failed })).catch((error) => {
        shelf.delete(key);
        throw error;
      });
      shelf.set(key, asked);
      this.send({ ask: "code", name });
    }
    return shelf.get(key);
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
    if (content.code) {
      const waits = this.waiting.get(content.key);
      this.waiting.delete(content.key);
      if (waits) load(content, buffers[0]).then(waits.done, waits.failed);
    } else if (this.show) {
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
    for (const { failed } of this.waiting.values()) failed(new Error("the view was closed before its code came"));
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
