// Any plot as a table (CSV) and as a picture (PNG). One module for app, notebook and report; it draws no plot itself.

const FORMULA = /^[=+\-@\t\r]/; // what a spreadsheet would run instead of showing
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;

/**
 * Put a quiet "CSV · PNG" pair beside a plotly element; calling it again only renames the files.
 * div: the plotly element, in a parent that is positioned. name: of the files, a text or a function that gives it.
 * plotly: the library, where it is not the page's own.
 */
export function exportable(div, name, { plotly = null } = {}) {
  const known = div.quantlabExport;
  if (known) {
    known.name = name;
    return known.element;
  }
  const state = { name, element: document.createElement("div") };
  const stem = () => fileName(typeof state.name === "function" ? state.name() : state.name);
  const library = () => plotly ?? globalThis.Plotly;
  state.element.className = "ql-export";
  state.element.append(
    button("CSV", "Download the numbers of this plot as CSV", () => save(csvUrl(div), `${stem()}.csv`)),
    button("PNG", "Download this plot as a picture", async () => save(await picture(library(), div), `${stem()}.png`)),
  );
  Object.assign(state.element.style, {
    position: "absolute", right: "4px", bottom: "2px", zIndex: "2", display: "flex", gap: "2px",
  });
  div.quantlabExport = state;
  div.after(state.element);
  return state.element;
}

/** The numbers of a figure, one row a point. Axes that are drawn distorted come back in the units of the data. */
export function csvOf(data, layout = {}) {
  const tables = data.filter((trace) => trace.hoverinfo !== "skip").map((trace) => rowsOf(trace, layout)).filter((t) => t.rows.length);
  const columns = [...new Set(tables.flatMap((table) => table.columns))];
  const lines = tables.flatMap(({ columns: own, rows }) =>
    rows.map((row) => columns.map((column) => (own.includes(column) ? row[own.indexOf(column)] : ""))),
  );
  return [columns, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** One cell: numbers as they are, text quoted, and never anything a spreadsheet would take for a formula. */
export function cell(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(Number(value.toPrecision(9))) : String(value);
  let text = String(value);
  if (FORMULA.test(text) && !NUMBER.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// ---- a trace as rows --------------------------------------------------------------------------------------------

function rowsOf(trace, layout) {
  if (trace.z && Array.isArray(trace.z[0] ?? null)) return gridRows(trace, layout);
  const [x, y] = [titleOf(trace, layout, "x"), titleOf(trace, layout, "y")];
  const undo = (value, at) => natural(value, layout.meta?.[at]);
  const names = namesOf(trace);
  const rows = [];
  for (let index = 0; index < (trace.y ?? trace.x ?? []).length; index++) {
    const at = trace.x ? undo(trace.x[index], "x") : index;
    const height = trace.meta?.y ? trace.meta.y[index] : undo(trace.y?.[index], "y");
    if (at === null || height === null) continue;
    rows.push([plain(trace.name), ...(names ? [names[index]] : []), at, height, ...(trace.z ? [trace.z[index]] : [])]);
  }
  const label = trace.meta?.value ?? y;
  return { columns: ["series", ...(names ? ["name"] : []), x, label, ...(trace.z ? ["z"] : [])], rows };
}

function gridRows(trace, layout) {
  const log = trace.meta?.z === "log10";
  const named = typeof trace.customdata?.flat().find((item) => item !== "" && item !== null) === "string";
  const rows = [];
  trace.z.forEach((line, row) =>
    line.forEach((height, column) => {
      const known = trace.customdata?.[row]?.[column];
      if (named ? !known || trace.meta?.z === "none" : height === null) return;
      const value = !named && typeof known === "number" ? known : log && height !== null ? 10 ** height : height;
      const place = named ? [known] : trace.type === "surface" ? [plain(trace.text?.[row]?.[column])] : [plain(trace.x?.[column] ?? column), plain(trace.y?.[row] ?? row)];
      rows.push([...(trace.name ? [plain(trace.name)] : []), ...place, value]);
    }),
  );
  const [x, y] = [titleOf(trace, layout, "x"), titleOf(trace, layout, "y")];
  const place = named || trace.type === "surface" ? ["name"] : x === y ? ["x", "y"] : [x, y];
  return { columns: [...(trace.name ? ["series"] : []), ...place, plain(trace.meta?.value ?? "value")], rows };
}

/** What stood there before the axis was bent: {symlog: width} undoes asinh(value / width). */
function natural(value, bent) {
  return bent?.symlog && typeof value === "number" ? Math.sinh(value) * bent.symlog : value;
}

function titleOf(trace, layout, letter) {
  const axis = layout[(trace[`${letter}axis`] ?? letter).replace(/^([xy])/, "$1axis")] ?? layout.scene?.[`${letter}axis`];
  return plain(layout.meta?.[letter]?.title ?? axis?.title?.text ?? "") || letter;
}

/** Names of points, where each has one of its own. */
function namesOf({ customdata, y }) {
  const texts = Array.isArray(customdata) && customdata.length === y?.length && typeof customdata[0] === "string";
  return texts && !NUMBER.test(customdata[0].replace("−", "-")) ? customdata : null;
}

/** Plotly takes a little markup in its texts; a table does not. */
function plain(text) {
  return String(text ?? "").replace(/<[^>]*>/g, " ").trim();
}

// ---- files ------------------------------------------------------------------------------------------------------

function csvUrl(div) {
  const blob = new Blob(["\uFEFF", csvOf(div.data ?? [], div.layout ?? {})], { type: "text/csv;charset=utf-8" });
  return URL.createObjectURL(blob);
}

/** The plot as it is on the page, on the page's own background: a transparent picture is unreadable elsewhere. */
function picture(plotly, div) {
  const layout = { ...div.layout, paper_bgcolor: background(div), width: div.clientWidth, height: div.clientHeight };
  const size = { width: div.clientWidth, height: div.clientHeight, scale: 2 };
  return plotly.toImage({ data: div.data, layout }, { format: "png", ...size });
}

function background(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (colour && colour !== "transparent" && !/, 0\)$/.test(colour)) return colour;
  }
  return "#ffffff";
}

function fileName(text) {
  return String(text || "plot").replace(/[^\w.-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 80) || "plot";
}

function save(url, name) {
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  if (url.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function button(text, help, act) {
  const element = document.createElement("button");
  Object.assign(element, { type: "button", textContent: text, title: help });
  element.setAttribute("aria-label", help);
  Object.assign(element.style, {
    font: "inherit", fontSize: "10px", lineHeight: "14px", height: "16px", padding: "0 3px", margin: "0", border: "0",
    borderRadius: "2px", background: "none", color: "inherit", cursor: "pointer",
  });
  element.addEventListener("click", () => Promise.resolve(act()).catch(console.error));
  return element;
}
