// The clip line on a histogram: dragged or moved by keys, it says at once what clipping there would cost. No server asked.
import { make, setText } from "./dom.js";

const LARGE_STEP = 8;

export class ClipLine {
  #clip = null;
  #name = "";
  #at = 0;

  /** gd is the plotly element; report(changes) asks for settings; hint(text) says which setting would get there. */
  constructor(gd, { report, hint }) {
    Object.assign(this, { gd, report, hint });
    this.mirror = make("div", { class: "ql-clip-mirror" });
    this.best = make("div", { class: "ql-clip-best", title: "smallest predicted error" });
    this.handle = make("div", {
      class: "ql-clip",
      role: "slider",
      tabindex: "0",
      "aria-label": "Clip line: where the range ends",
      title: "Drag, or use the arrow keys: the error is predicted as if the range ended here",
      "data-testid": "clip-line",
      onpointerdown: (event) => this.#grab(event),
      onkeydown: (event) => this.#key(event),
    });
    this.overlay = make("div", { class: "ql-clip-layer" }, this.mirror, this.best, this.handle);
    this.text = make("output", { class: "ql-clip-text", "data-testid": "clip-text" });
    this.use = make("button", { type: "button", class: "ql-clip-use", "data-testid": "clip-use", onclick: () => this.#use() });
    this.readout = make("div", { class: "ql-clip-readout" }, this.text, this.use);
  }

  /** clip is what figures.clip_slider gives, or null; the line goes back to where the range is now. */
  show(clip, name) {
    const same = clip && this.#clip && name === this.#name && JSON.stringify(clip) === JSON.stringify(this.#clip);
    this.#clip = clip;
    this.#name = name;
    this.overlay.hidden = this.readout.hidden = !clip;
    if (!clip) return this.hint("");
    if (!same) this.#at = clip.now;
    this.#tell();
    this.place();
  }

  /** Puts the line where its value is, after the plot was drawn, zoomed or resized. */
  place() {
    const axes = this.gd._fullLayout;
    if (!this.#clip || !axes?.xaxis || !axes.yaxis) return;
    const { _offset: left, _length: width } = axes.xaxis;
    Object.assign(this.overlay.style, { left: `${left}px`, width: `${width}px`, top: `${axes.yaxis._offset}px`, height: `${axes.yaxis._length}px` });
    const put = (element, value) => {
      const x = axes.xaxis.l2p(value);
      element.hidden = !(x >= -1 && x <= width + 1);
      element.style.left = `${x}px`;
    };
    const { high, low, best } = this.#clip;
    put(this.handle, high[this.#at]);
    put(this.mirror, low[this.#at]);
    put(this.best, high[best]);
  }

  #grab(event) {
    if (event.button) return;
    event.preventDefault();
    this.handle.focus({ preventScroll: true });
    this.handle.setPointerCapture(event.pointerId);
    const move = ({ clientX }) => {
      const { xaxis } = this.gd._fullLayout;
      this.#move(nearest(this.#clip.high, xaxis.p2l(clientX - this.overlay.getBoundingClientRect().left)));
    };
    const release = () => this.handle.removeEventListener("pointermove", move);
    this.handle.addEventListener("pointermove", move);
    this.handle.addEventListener("pointerup", release, { once: true });
    this.handle.addEventListener("pointercancel", release, { once: true });
  }

  #key(event) {
    const step = event.shiftKey ? LARGE_STEP : 1;
    const last = this.#clip.high.length - 1;
    const to = {
      ArrowLeft: this.#at - step, ArrowDown: this.#at - step, ArrowRight: this.#at + step, ArrowUp: this.#at + step,
      Home: 0, End: last, Enter: this.#clip.best, Escape: this.#clip.now,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#move(Math.min(last, Math.max(0, to)));
  }

  #move(index) {
    if (index === this.#at) return;
    this.#at = index;
    this.#tell();
    this.place();
  }

  #tell() {
    const { share, value, error, now, best, measured, each, setting } = this.#clip;
    const at = this.#at;
    const place = each ? `${percent(share[at])}` : `±${digits(value[at])}`;
    const what = this.#clip.weights ? "weights" : "inputs";
    const optimum = `best ${percent(error[best])} at ${each ? percent(share[best]) : `±${digits(value[best])}`}`;
    const told =
      at === now
        ? `rounding error of the ${what} ${percent(measured)}; drag the clip line (${optimum})`
        : `clip at ${place}: predicted error ${percent(error[at])} (now ${percent(measured)}, ${optimum})`;
    setText(this.text, told);
    this.text.title = `${told}. Error of the rounded ${what} themselves, |x − x̂| / |x|, not of the layer's output; the place of the line is in percent of every range. ${setting.words}`;
    this.hint(at !== now && setting.how === "words" ? setting.words : "");
    this.handle.setAttribute("aria-valuemin", "0");
    this.handle.setAttribute("aria-valuemax", String(share.length - 1));
    this.handle.setAttribute("aria-valuenow", String(at));
    this.handle.setAttribute("aria-valuetext", told);
    this.use.hidden = at === now || setting.how === "words";
    setText(this.use, setting.how === "search" ? "search it" : "use it");
    this.use.title = `${setting.words} Applies to what "apply to" names below.`;
  }

  #use() {
    const { setting, kept } = this.#clip;
    const percentile = kept && Math.min(100, Math.max(50, Math.round(1e7 * kept[this.#at]) / 1e5));
    this.report(setting.how === "percentile" ? { ...setting.changes, percentile } : setting.changes);
  }
}

/** Index of the value that is nearest, in an ascending list. */
function nearest(values, wanted) {
  let [low, high] = [0, values.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle;
    else high = middle;
  }
  return wanted - values[low] < values[high] - wanted ? low : high;
}

const digits = (value) => Number(value.toPrecision(3)).toString();
const percent = (share) => `${Number((100 * share).toPrecision(2))} %`;
