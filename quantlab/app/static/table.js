// Gradio's table, made right for screen readers: a checkbox has a name, and no button lies around it.

const HELP = {
  pick: "Ticked rows change together: choose “picked rows” under “apply to” below",
  layer: "Stream, block and part; a click opens the layer",
  W: "Bits per weight",
  A: "Bits per activation",
  "rot.": "Rotation before rounding",
  "smooth.": "Smoothing: scale moves from inputs to weights",
  "comp.": "Compensation of the layer's branch",
  keep: "Keep the layer in full precision",
  TRE: "Tail-relative error under this recipe; – where nothing is rounded",
  kurtosis: "How heavy the tails of the input are; a normal distribution has 3",
};

/** Names the checkboxes of the table after their column and row, now and whenever rows come into view. */
export function nameCheckboxes(table) {
  const name = () => {
    const headings = [...table.querySelectorAll("thead th")].map((heading) => heading.innerText.trim());
    for (const lock of table.querySelectorAll(".header-icons [aria-label]:not([role])")) lock.removeAttribute("aria-label");
    table.querySelector(".search-input")?.setAttribute("aria-label", "Show only rows that hold these words");
    for (const shell of table.querySelectorAll(".bool-cell[role], .select-all-checkbox[role]")) shell.removeAttribute("role");
    for (const heading of table.querySelectorAll("thead th")) {
      const text = heading.innerText.trim();
      const help = HELP[text];
      if (help && heading.title !== help) heading.title = help;
      const all = heading.querySelector("input[type=checkbox]");
      if (all && help) all.setAttribute("aria-label", `${text}: all`); // before its text is there it was named after nothing
    }
    for (const box of table.querySelectorAll("input[type=checkbox]:not([aria-label])")) {
      const cell = box.closest("[data-row]");
      const heading = headings[Number(cell?.dataset.col ?? box.closest("th")?.dataset.heading)] ?? "";
      const row = cell && table.querySelector(`[data-row="${cell.dataset.row}"][data-col="1"]`)?.innerText.trim();
      box.setAttribute("aria-label", row ? `${heading || "picked"}: ${row}` : `${heading || "picked"}: all`);
    }
  };
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      name();
    });
  }).observe(table, { childList: true, subtree: true });
  name();
}

/** Waits for the table and the notes, which Gradio draws when their tab is first opened. */
export function nameCheckboxesOnceThere(tabs) {
  let named = false;
  const found = () => {
    const notes = document.getElementById("ql-notes");
    notes?.setAttribute("tabindex", "0"); // it scrolls, so the keyboard must get there
    const table = document.getElementById("ql-modules");
    if (table && !named) nameCheckboxes(table);
    named ||= Boolean(table);
    return Boolean(table && notes);
  };
  if (found()) return;
  const watch = new MutationObserver(() => found() && watch.disconnect());
  watch.observe(tabs, { childList: true, subtree: true });
}
