// The sheet "clouds …" of the comparison: kind of error, cleaning, and files to take away.
import { make, save, Segments, setText } from "./dom.js";

const FILES = [
  { id: "left", label: "PLY left", help: "Points and colours of the left cloud, axes as the cameras have them (y down)" },
  { id: "right", label: "PLY right", help: "Points and colours of the right cloud, axes as the cameras have them (y down)" },
  { id: "both", label: "GLB both", help: "Both clouds and their cameras in one file for Blender and the web, y up" },
];

/** The button that opens the sheet, the sheet, and show(value of the comparison); filters() tells what the viewer shows. */
export function mountClouds(send, filters) {
  const error = new Segments("Kind of error", (value) => send({ do: "error", value }));
  const told = make("p", { "data-testid": "error-explained" });
  const clean = make("input", { type: "checkbox", name: "clean", onchange: () => send({ do: "clean", on: clean.checked }) });
  const cleanLine = make("label", { class: "ql-field ql-check" }, clean, make("span", {}, "clean both clouds"));
  const numbers = make("div", { class: "ql-clean-numbers" });
  const said = make("p", { class: "ql-quiet", "data-testid": "cleaned" });
  const files = make("div", { class: "ql-pair" }, ...FILES.map(file));
  const sheet = make(
    "div",
    { class: "ql-clouds", popover: "auto", role: "dialog", "aria-label": "Error, cleaning and files", "data-testid": "clouds" },
    make("h3", {}, "Error"), error.element, told,
    make("h3", {}, "Clean"), cleanLine, numbers, said,
    make("h3", {}, "Take away: the frames, confidence and cleaning shown"), files,
  );
  const button = make(
    "button",
    { type: "button", title: "Kind of error, cleaning, and files to take away", "aria-haspopup": "dialog", "data-testid": "clouds-button" },
    "clouds …",
  );
  button.popoverTargetElement = sheet;
  sheet.addEventListener("toggle", () => place(sheet, button));
  const inputs = new Map();

  function file({ id, label, help }) {
    const take = () => send({ do: "take", value: id, ...filters() });
    return make("button", { type: "button", title: help, onclick: take, "data-take": id }, label);
  }

  function build(fields) {
    for (const { name, label, low, high, step, help } of fields) {
      const change = () => input.value !== "" && send({ do: "clean", changes: { [name]: Number(input.value) } });
      const input = make("input", { type: "number", name, min: low, max: high, step, title: help, onchange: change });
      inputs.set(name, input);
      numbers.append(make("label", { class: "ql-field", title: help }, make("span", {}, label), input));
    }
  }

  return {
    button,
    sheet,
    show({ error: kind, explained, clean: cleaning, download }) {
      error.show(kind.choices, kind.value);
      [...error.element.children].forEach((item, index) => (item.title = kind.choices[index].help));
      setText(told, explained);
      if (!inputs.size) build(cleaning.fields);
      clean.checked = cleaning.on;
      clean.disabled = cleaning.why_not !== "";
      cleanLine.title = cleaning.why_not || "Leave out stray points, on both sides alike; unclick to have them back";
      for (const { name, value } of cleaning.fields) {
        const input = inputs.get(name);
        input.disabled = clean.disabled;
        if (document.activeElement !== input || !input.matches(":focus")) input.value = String(value);
      }
      setText(said, cleaning.why_not || cleaning.said);
      if (download) save(download);
    },
  };
}

/** Below its button, its right edge with the button's, and never out of the window. */
function place(sheet, button) {
  const { bottom, right } = button.getBoundingClientRect();
  sheet.style.top = `${Math.max(8, Math.min(bottom + 4, innerHeight - sheet.offsetHeight - 8))}px`;
  sheet.style.left = `${Math.max(8, right - sheet.offsetWidth)}px`;
}
