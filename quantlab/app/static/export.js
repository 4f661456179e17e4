// What can be taken away from the lab, one row a thing: what it holds, and the buttons that bring it.
import { make, save, setText } from "./dom.js";

/** The list; show(value of the recipe panel) fills it. `told(text)` says what a button did. */
export function mountExport(send, told) {
  let value = {};
  const text = (kind, ending, type) => () => saveText(value[kind], `${value.stem}.${ending}`, type);
  const what = {};
  const name = make("input", { type: "text", class: "ql-export-name", spellcheck: "false", "aria-label": "Name of the folder", title: "Name of the folder it is written to" });
  const begin = (target, more = {}) => send({ do: "export", target, name: name.value, static: !fit.element.hidden && fit.box.checked, ...more });
  const write = (target) => () => begin(target);
  const fit = fitting();
  const where = make("span", { class: "ql-quiet ql-export-where", "data-testid": "exports" });
  const written = wrote(told, (target) => begin(target, { overwrite: true }));
  name.addEventListener("input", written.forget);
  let offered = "";
  let last;
  const row = (name, title, ...buttons) => {
    what[name] = make("span", { class: "ql-quiet" });
    return make("li", {}, make("strong", {}, title), what[name], make("span", { class: "ql-taken" }, ...buttons));
  };
  const link = button("Copy link", "Copy an address that opens this model, scene and recipe", () => copy(address(value), "link", told));
  const list = make(
    "ul",
    { class: "ql-exports" },
    row(
      "recipe",
      "Recipe",
      button("YAML", "Download the recipe as YAML, for quantlab --recipe FILE", text("yaml", "yaml", "application/yaml"), "yaml-file"),
      button("JSON", "Download the recipe as JSON", text("json", "json", "application/json"), "json-file"),
      button("Python", "Download the Python that builds the same recipe", text("python", "py", "text/x-python"), "python-file"),
    ),
    row(
      "model",
      "Model",
      name,
      button("Packed", "Write a packed checkpoint: integers as they run, which ql.load_model executes without this lab", write("packed"), "export-packed"),
      button("ONNX", "Write an ONNX file with quantized layers, in a folder of its own", write("onnx"), "export-onnx"),
      button("OpenVINO", "Write OpenVINO IR with quantized layers, in a folder of its own", write("openvino"), "export-openvino"),
    ),
    make("li", { class: "ql-below" }, where),
    fit.element,
    written.element,
    row("link", "Link", link),
    row(
      "session",
      "Session",
      button("Save session", "Download the names of model and scene, every recipe and what you look at, without weights and pictures; ql.load_session and “Open a file …” open it", () => send({ do: "take_session" })),
    ),
    row(
      "profile",
      "Profile",
      button("Save profile", "Download what was measured of every layer; a machine without GPU can show it", () => send({ do: "take_profile" })),
    ),
    row(
      "report",
      "Report",
      button("Make report", "One page that opens offline: clouds, numbers, map, worst layers, recipe and provenance. What is not measured yet is measured first", () => send({ do: "take_report" })),
    ),
    row("clouds", "Clouds"),
  );
  return {
    element: list,
    show(next) {
      value = next;
      setText(what.recipe, "the settings alone");
      setText(what.model, "in a folder");
      setText(where, `written to ${next.exports}`);
      if (name.value === offered) name.value = next.export_name; // what a person typed stays
      offered = next.export_name;
      const { name: called, path } = next.exported;
      if (called && path !== last) name.value = called; // as the folder is called now
      last = called && path;
      fit.show(next.static);
      written.show(next.exported);
      setText(what.link, next.link ? (next.linked_scene ? "model, scene and recipe" : "model and recipe; pictures do not fit into a link") : next.link_problem);
      link.disabled = !next.link;
      setText(what.session, `${next.model} on ${next.scene}, ${next.steps} ${next.steps === 1 ? "recipe" : "recipes"} with undo`);
      setText(what.profile, next.profiled ? "the tails of every layer" : "the tails of every layer, measured first");
      setText(what.report, "one page that opens offline");
      setText(what.clouds, "PLY and GLB: “clouds …” above the comparison");
      if (next.download) save(next.download);
    },
  };
}

/** What ONNX and OpenVINO hold otherwise than the recipe has it; shown where there is something, and on until it is taken off. */
function fitting() {
  const box = make("input", { type: "checkbox", checked: true, "data-testid": "static" });
  const label = make("span", {});
  const words = make("span", { class: "ql-quiet" });
  const element = make("li", { class: "ql-below", hidden: true }, make("label", { class: "ql-field ql-check" }, box, label, words));
  return {
    element,
    box,
    show(offer) {
      element.hidden = !offer;
      if (!offer) return;
      setText(label, offer.label);
      setText(words, offer.words);
      element.title = offer.help;
    },
  };
}

/** One state at a time: where the model was written last and how to run it, or which earlier export would have to go. */
function wrote(told, overwrite) {
  let shown = {};
  const text = make("span", { class: "ql-wrote-text", "data-testid": "exported" });
  const again = button("Copy", "Copy what runs it, or where it is", () => copy(shown.code, "code", told), "copy-exported");
  const replace = button("Overwrite", "Replace the earlier export", () => overwrite(shown.target), "overwrite");
  const element = make("li", { class: "ql-below ql-wrote", hidden: true }, text, again, replace);
  return {
    element,
    forget() {
      element.hidden ||= Boolean(shown.target); // another name was chosen
    },
    show(exported) {
      shown = exported;
      element.hidden = !exported.path;
      again.hidden = Boolean(exported.target);
      replace.hidden = !exported.target;
      text.replaceChildren(make("code", { title: exported.path }, exported.code ?? exported.path), make("span", { class: "ql-quiet" }, exported.about));
    },
  };
}

/** The address of this page with the link in the place of everything else it says. */
function address({ link }) {
  return link ? new URL(link, location.origin + location.pathname).href : "";
}

export function button(label, title, press, id = label.toLowerCase().replaceAll(" ", "-")) {
  return make("button", { type: "button", title, onclick: press, "data-testid": id }, label);
}

function saveText(text, name, type) {
  const blob = URL.createObjectURL(new Blob([text], { type }));
  save({ address: blob, name });
  setTimeout(() => URL.revokeObjectURL(blob), 1000);
}

/** Into the clipboard; where the browser keeps that to secure pages, by a selection, which every browser allows. */
export async function copy(text, what, told) {
  try {
    await navigator.clipboard.writeText(text);
    told(`${what} copied`);
  } catch {
    const area = make("textarea", { readonly: true, "aria-hidden": "true", style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    told(done ? `${what} copied` : `the browser allows no copying: select the ${what} and copy it yourself`);
  }
}
