// Small helpers to build and keep DOM; text is only ever set as text, so nothing a file says can become markup.

/** Makes an element: attributes by name, `on...` as listeners, children as nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Two or three significant digits, as a reader of an instrument wants them. */
export function readable(value) {
  if (!Number.isFinite(value)) return "not measured";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e4 || size < 1e-4) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 1 ? 3 : 2)));
}

/** A distance as people judge it: a share of the scene where its size is known, else in the units of the cloud. */
export function distance(meta, value) {
  return meta.size ? [readable((100 * value) / meta.size), "% of the scene"] : [readable(value), meta.unit];
}

export function grouped(count) {
  return count.toLocaleString("en-US").replaceAll(",", "\u202f");
}
