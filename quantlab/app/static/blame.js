// The suspects of a marked region, beside the map: what restoring each repairs, and two clicks that mend. It ranks nothing.
import { make, setText } from "./dom.js";

/** {element, show(blame of the map's value, selected layer)}; select(layer) opens one. */
export function mountBlame(send, select) {
  const told = make("p", { class: "ql-blame-told", "data-testid": "blame-told" });
  const find = make("button", { type: "button", onclick: () => send({ do: "blame" }), "data-testid": "blame-find" });
  const list = make("ol", { class: "ql-worst ql-suspects", "aria-label": "Suspects", "data-testid": "suspects" });
  const note = make("p", { class: "ql-quiet ql-blame-note" });
  const element = make("div", { class: "ql-blame", hidden: true, "aria-live": "off" }, told, find, list, note);
  let drawn = "";
  return {
    element,
    show(value, selected) {
      element.hidden = !value;
      if (!value) return;
      setText(told, value.told);
      find.hidden = !value.action;
      setText(find, value.action?.label);
      find.title = value.action?.help ?? "";
      setText(note, value.note);
      list.classList.toggle("ql-former", value.former);
      list.setAttribute("aria-busy", String(value.running));
      const key = JSON.stringify([value.rows, selected]);
      if (key === drawn) return; // what stays is not rebuilt under the pointer
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      list.replaceChildren(...value.rows.map((row) => suspect(row, selected, send, select)));
      if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
      drawn = key;
    },
  };
}

function suspect(row, selected, send, select) {
  const { name, short, value, verified, share, help, restored, raise, bits } = row;
  const bar = make("span", { class: "ql-bar", style: `width:${100 * share}%` });
  const open = make(
    "button",
    {
      type: "button",
      title: help,
      "data-layer": name,
      "data-key": name,
      "aria-current": name === selected ? "true" : null,
      onclick: () => select(name),
    },
    make("span", { class: "ql-worst-name" }, short),
    make("span", { class: verified ? "ql-worst-value" : "ql-worst-value ql-estimated" }, value),
    bar,
  );
  const restore = act("restore", restored ? "restored" : "restore", `Keep ${name} in full precision`, restored);
  const more = act("raise", raise || "raise bits", raise ? `Give ${name} ${bits}` : bits, !raise);
  // a layer in full precision has nothing to raise, and its name needs the room
  return make("li", {}, open, make("span", { class: "ql-suspect-acts" }, restore, restored ? null : more));

  function act(verb, label, title, disabled) {
    const click = () => send({ do: verb, layer: name });
    return make("button", { type: "button", title, disabled, onclick: click, "data-do": verb, "data-key": `${verb} ${name}` }, label);
  }
}
