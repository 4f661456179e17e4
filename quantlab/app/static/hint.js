// Three steps for somebody who is here for the first time; never shown again in this browser.
import { make, setText } from "./dom.js";

const SEEN = "quantlab-hint";
const STEPS = [
  ["#ql-map", "Find the trouble", "Each cell is a layer; the top of the colour scale is the worst. Click one, or take the worst from the list."],
  ["#ql-settings", "Change how it is quantized", "Bits, rotation, smoothing … or a preset, above. The former state stays as a ghost; Ctrl+Z takes a change back."],
  ["#ql-compare", "See what it did", "Full precision and quantized share one camera. Draw around damage (L): the layers that did it are ranked on the map."],
];
const GAP = 8;

/** Shows the steps beside what they speak of, once everything is drawn; a browser that keeps nothing is left alone. */
export function hintOnce(page) {
  if (recalled() !== null) return;
  let step = 0;
  const count = make("span", { class: "ql-quiet" });
  const heading = make("h2", {});
  const words = make("p", {});
  const next = make("button", { type: "button", class: "ql-primary", onclick: () => show(step + 1) });
  const close = make("button", { type: "button", onclick: () => end() }, "Skip");
  const card = make(
    "aside",
    { class: "ql-hint", "aria-label": "First steps", "data-testid": "hint" },
    make("header", {}, heading, count),
    words,
    make("div", { class: "ql-hint-keys" }, close, next),
  );
  const place = () => put(card, document.querySelector(STEPS[step][0]));
  const watch = new ResizeObserver(place); // a message above pushes panels down, another tab hides them
  page.append(card);
  addEventListener("resize", place);
  const leave = (event) => event.key === "Escape" && end();
  addEventListener("keydown", leave);
  show(0);

  function show(index) {
    document.querySelector(".ql-hinted")?.classList.remove("ql-hinted");
    if (index === STEPS.length) return end();
    step = index;
    const [target, title, text] = STEPS[step];
    watch.disconnect();
    for (const panel of document.querySelectorAll(target)) {
      panel.classList.add("ql-hinted");
      watch.observe(panel);
    }
    setText(heading, title);
    setText(words, text);
    setText(count, `${step + 1} of ${STEPS.length}`);
    setText(next, step + 1 < STEPS.length ? "Next" : "Done");
    close.hidden = step + 1 === STEPS.length;
    place();
  }

  function end() {
    document.querySelector(".ql-hinted")?.classList.remove("ql-hinted");
    removeEventListener("resize", place);
    removeEventListener("keydown", leave);
    watch.disconnect();
    card.remove();
    remember();
  }
}

/** Beside its target, gone while that is; where it hides nothing it speaks of: right, left, above or below, whichever fits the window. */
function put(card, target) {
  if (!target) return;
  const box = target.getBoundingClientRect();
  card.hidden = box.width === 0;
  const { offsetWidth: width, offsetHeight: height } = card;
  const places = [
    [box.right + GAP, box.top + GAP],
    [box.left - width - GAP, box.top + GAP],
    [box.left + GAP, box.top - height - GAP],
    [box.left + GAP, box.bottom + GAP],
  ];
  const fits = ([left, top]) => left >= 0 && top >= 0 && left + width <= innerWidth && top + height <= innerHeight;
  const [left, top] = places.find(fits) ?? places[3];
  card.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`;
  card.style.top = `${Math.max(GAP, Math.min(top, innerHeight - height - GAP))}px`;
}

function recalled() {
  try {
    return localStorage.getItem(SEEN);
  } catch {
    return "unknown";
  }
}

function remember() {
  try {
    localStorage.setItem(SEEN, "seen");
  } catch {
    // nothing can be kept: it shows again
  }
}
