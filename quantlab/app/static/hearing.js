// Asks the server again when its answer does not come: Gradio closes its event stream when a handler ends, and what
// another handler says just then is lost. Every panel tells here what it asks and hears.

const PATIENCE = 4000; // milliseconds
let asked = 0;
let heard = 0;
let greeted = false;

/** A send that remembers when it asked. */
export function asking(send) {
  return (message) => {
    asked = performance.now();
    send(message);
  };
}

/** Something came. */
export function hear() {
  heard = performance.now();
}

/** The server knows this page: its first answer to hello came. */
export function greet() {
  greeted = true;
}

/** While an answer is due, or work runs, and nothing comes: ask for all that holds; `hello` before the first answer. */
export function listen(hello, send) {
  window.setInterval(() => {
    const due = !greeted || heard < asked || document.documentElement.dataset.qlBusy === "true";
    if (!due || performance.now() - Math.max(asked, heard) < PATIENCE) return;
    if (greeted) send({ do: "sync" });
    else hello();
  }, 1000);
}
