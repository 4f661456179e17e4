// All settings of the opened layer and its branch, group by group, in a sheet above the settings row.
import { Choice, make, setText } from "./dom.js";

/** The button that opens the sheet, and what fills it: show(value of the settings row). */
export function mountMore(send) {
  const controls = new Map();
  const title = make("strong", { class: "ql-name" });
  const summary = make("span", { class: "ql-quiet" });
  const target = new Choice("Apply changes of the sheet to", (value) => send({ do: "apply_to", value }));
  const body = make("div", { class: "ql-more-groups" });
  const close = make("button", { type: "button", onclick: () => sheet.hidePopover() }, "Close");
  const reach = make("label", { class: "ql-reach", title: "How far a change in this sheet reaches" }, make("span", {}, "apply to"), target.element);
  const sheet = make(
    "div",
    { class: "ql-more", popover: "auto", role: "dialog", "aria-label": "Every setting", "data-testid": "more" },
    make("header", {}, title, summary, make("span", { class: "ql-spring" }), reach, close),
    body,
  );
  const button = make(
    "button",
    { type: "button", title: "Every setting of this layer and its branch", "data-testid": "more-button" },
    "more …",
  );
  button.popoverTargetElement = sheet;
  const set = (name, value) => send({ do: "set", changes: { [name]: value } });

  function row(field) {
    const control = CONTROLS[field.kind](field, (value) => set(field.name, value));
    control.input.dataset.setting = field.name;
    const line = make("label", { title: field.help }, make("span", {}, field.label), control.input);
    controls.set(field.name, { ...control, field, line });
    return line;
  }

  function build(groups) {
    body.replaceChildren(
      ...groups.map((group) => make("fieldset", {}, make("legend", {}, group.title), ...group.fields.map(row))),
    );
  }

  return {
    button,
    sheet,
    show({ short, summary: told, groups, values, usable, targets, apply_to }) {
      setText(title, short);
      setText(summary, told);
      target.show(targets, apply_to);
      if (!controls.size) build(groups);
      for (const [name, { input, fill, field, line }] of controls) {
        input.disabled = !usable.includes(name);
        fill(values[name] ?? null);
        line.classList.toggle("ql-set", !input.disabled && (values[name] ?? null) !== field.default);
      }
    },
  };
}

/** Each makes {input, fill}: a refused value springs back by `fill`, and what is being typed stays. */
const CONTROLS = {
  switch(_field, report) {
    const input = make("input", { type: "checkbox", onchange: () => report(input.checked) });
    return { input, fill: (value) => (input.checked = value === true) };
  },
  choice(field, report) {
    const options = field.choices.map((item) => make("option", { value: String(item) }, String(item).replaceAll("_", " ")));
    const input = make("select", { class: "ql-select", onchange: () => report(input.value) }, ...options);
    return { input, fill: (value) => (input.value = String(value ?? "")) };
  },
  number(field, report) {
    let typing = false;
    const empty = field.optional ? null : field.automatic ? 0 : undefined; // what a field stands for that was cleared
    const change = () => {
      typing = false;
      report(input.value === "" ? (empty === undefined ? field.default : empty) : Number(input.value));
    };
    const input = make("input", {
      type: "number",
      min: field.low,
      max: field.high,
      step: field.step,
      placeholder: field.optional ? "off" : field.automatic,
      oninput: () => (typing = true),
      onblur: () => (typing = false),
      onchange: change,
    });
    const isWord = (value) => value === null || (value === 0 && field.automatic);
    return { input, fill: (value) => typing || (input.value = isWord(value) ? "" : String(value)) };
  },
};
