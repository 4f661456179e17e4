// What was measured of a forward pass, line by line, behind a button: for a keyboard and a finger too. It measures nothing.
import { make } from "./dom.js";
import { bars, kinds } from "./spent.js";

const GAP = 4;

/** The button of a tile, button(lines, spent), and the sheet that it opens above itself; both outlive the tiles. */
export function mountDetails() {
  const sheet = make("div", { class: "ql-measured", popover: "auto", role: "region", tabindex: "0", "aria-label": "What was measured", "data-testid": "measured" });
  const button = make("button", { type: "button", class: "ql-details", "aria-expanded": "false", "data-testid": "details" }, "details");
  button.popoverTargetElement = sheet;
  const place = () => {
    const { right, top } = button.getBoundingClientRect();
    sheet.style.right = `${Math.max(GAP, Math.min(innerWidth - right, innerWidth - sheet.offsetWidth - GAP))}px`;
    sheet.style.bottom = `${innerHeight - top + GAP}px`;
  };
  sheet.addEventListener("beforetoggle", place);
  sheet.addEventListener("toggle", ({ newState }) => {
    button.setAttribute("aria-expanded", String(newState === "open"));
    place(); // now it has a width
  });

  return {
    sheet,
    button(lines, spent) {
      const where = spent?.rows ? [make("h3", {}, "Where the time goes"), bars(spent), kinds(spent), make("h3", {}, "What was measured")] : [];
      sheet.replaceChildren(...where, make("ul", {}, ...lines.map((line) => make("li", {}, line))));
      return button;
    },
    /** Called before the tiles are built anew; what it answers gives the button its focus back. */
    kept() {
      const had = document.activeElement === button;
      return () => {
        if (had) button.focus();
        if (!button.isConnected && sheet.matches(":popover-open")) sheet.hidePopover();
      };
    },
  };
}
