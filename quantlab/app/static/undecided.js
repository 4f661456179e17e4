// What stands on the tab "Decide" before anything was searched. An offer that is pressed becomes the budget.
import { make, setText } from "./dom.js";

/** The page; show(value) fills it or hides it, `choose(value, unit)` and `open(layer)` are told what a person pressed. */
export function mountUndecided(choose, open) {
  const [lead, does, budget, unit, takes, then] = Array.from({ length: 6 }, () => make("p", {}));
  const offers = make("div", { class: "ql-undecided-sizes" });
  const ranking = make("p", { class: "ql-quiet" });
  const list = make("ol", { class: "ql-ranking", "aria-label": "Layers by the error of their own output", tabindex: "0" });
  const known = make("div", { class: "ql-known" }, ranking, list);
  const row = (term, ...content) => [make("dt", {}, term), make("dd", {}, ...content)];
  lead.classList.add("ql-undecided-lead");
  const element = make(
    "section",
    { class: "ql-undecided", "data-testid": "undecided" },
    lead,
    make(
      "dl",
      {},
      ...row("search", does),
      ...row("budget", budget, offers, unit),
      ...row("time", takes),
      ...row("then", then),
    ),
    known,
  );
  return {
    element,
    show(value) {
      element.hidden = !value;
      if (!value) return;
      const texts = [[lead, value.lead], [does, value.does], [budget, value.budget], [unit, value.unit], [takes, value.takes], [then, value.then]];
      for (const [place, text] of texts) setText(place, text);
      setText(ranking, value.ranking);
      known.hidden = !value.known.length;
      list.replaceChildren(...value.known.map((one) => ranked(one, open)));
      offers.replaceChildren(
        ...value.offers.map((one) =>
          make("button", { type: "button", title: "Take this as the budget", onclick: () => choose(one.value, value.counted) }, one.label, make("span", { class: "ql-quiet" }, one.text)),
        ),
      );
    },
  };
}

function ranked({ name, short, value, share }, open) {
  const bar = make("span", { class: "ql-ranking-room" }, make("span", { style: `width:${100 * share}%` }));
  return make("li", {}, make("button", { type: "button", title: `Open ${name}`, onclick: () => open(name) }, make("span", { class: "ql-name" }, short), bar, make("span", {}, value)));
}
