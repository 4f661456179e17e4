// One input picture: drawn once, tinted where the region is, with a mark on the probed pixel. It reports, and decides nothing.
import { make } from "./dom.js";
import { howOf, svg } from "./lasso.js";
import { pixelsInside } from "./polygon.js";

const CLICK_PIXELS = 4;

export class Picture {
  #probed = null;
  #isTinted = false;
  #load;

  /** grid: {height, width}; source: JPEG bytes, or null; paint: fills image data where there is none; report: functions hover, leave, pick, step, corner, mark. */
  constructor(frame, grid, { source, paint }, report) {
    [this.frame, this.grid, this.report] = [frame, grid, report];
    const { height, width } = grid;
    this.canvas = make("canvas", { width, height });
    this.tint = make("canvas", { width, height, class: "tint" });
    this.line = svg("polygon", { class: "lasso" });
    this.corner = svg("circle", { class: "corner", r: 0 });
    this.cross = svg("g", { class: "cross", visibility: "hidden" }, svg("circle", { class: "under", r: 1 }), svg("circle", { r: 1 }));
    this.drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" }, this.line, this.corner, this.cross);
    this.element = make(
      "div",
      { class: "picture", tabindex: 0, role: "application", "aria-label": `Picture ${frame + 1}. Arrow keys move the probe, enter sets a corner of a region.` },
      this.canvas, this.tint, make("span", { class: "number", "aria-hidden": "true" }, String(frame + 1)), this.drawing,
    );
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.#listen();
    this.#load = () => this.#read(source, paint);
  }

  /** Reads the picture when it comes into sight for the first time: a scene may have hundreds. */
  load() {
    this.#load?.();
    this.#load = null;
  }

  async #read(source, paint) {
    const pen = this.canvas.getContext("2d");
    if (!source) {
      const image = pen.createImageData(this.grid.width, this.grid.height);
      paint(this.frame, image.data);
      return pen.putImageData(image, 0, 0);
    }
    try {
      const bitmap = await createImageBitmap(new Blob([source], { type: "image/jpeg" }));
      pen.drawImage(bitmap, 0, 0, this.grid.width, this.grid.height);
      bitmap.close();
    } catch {
      this.element.classList.add("unreadable");
    }
  }

  #place(event) {
    const box = this.element.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.grid.width, ((event.clientY - box.top) / box.height) * this.grid.height];
  }

  #pixel(event) {
    const [x, y] = this.#place(event);
    const inside = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value)));
    return { frame: this.frame, row: inside(y, this.grid.height), column: inside(x, this.grid.width) };
  }

  #listen() {
    let path = null;
    let start = null;
    const { element, report } = this;
    element.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      [path, start] = [[this.#place(event)], [event.clientX, event.clientY]];
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (!path) return report.hover(this.#pixel(event));
      path.push(this.#place(event));
      if (away(event, start) > CLICK_PIXELS) this.#draw(path);
    });
    const end = (event) => {
      const drawn = path;
      path = null;
      this.#draw([]);
      if (!drawn || event.type === "pointercancel") return;
      if (drawn.length > 2 && this.#isWide(drawn)) report.mark(this.frame, pixelsInside(drawn, this.grid.height, this.grid.width), howOf(event));
      else report.pick(this.#pixel(event));
    };
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
    element.addEventListener("pointerleave", () => report.leave());
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  #isWide(path) {
    const scale = this.element.clientWidth / this.grid.width;
    return path.some(([x, y]) => Math.hypot(x - path[0][0], y - path[0][1]) * scale > CLICK_PIXELS);
  }

  #key(event) {
    const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(by || event.key === "Enter")) return;
    if (by) this.report.step(this.frame, by.map((step) => step * (event.shiftKey ? 10 : 1)));
    else this.report.corner(this.frame, howOf(event));
    event.preventDefault();
    event.stopPropagation();
  }

  #draw(path) {
    this.line.setAttribute("points", path.map((point) => point.join(",")).join(" "));
  }

  /** The probed pixel of this picture, or null. */
  showProbe(place) {
    if (place === this.#probed) return; // a drag asks in every frame, and a touched SVG is painted again
    this.#probed = place;
    this.cross.setAttribute("visibility", place ? "visible" : "hidden");
    if (!place) return;
    const radius = (6 * this.grid.height) / Math.max(1, this.element.clientHeight);
    this.cross.setAttribute("transform", `translate(${place.column + 0.5} ${place.row + 0.5}) scale(${radius})`);
  }

  /** Where the rectangle drawn by keys begins, or null. */
  showCorner(place) {
    this.corner.setAttribute("r", place ? (3 * this.grid.height) / Math.max(1, this.element.clientHeight) : 0);
    if (place) this.corner.setAttribute("cx", place.column + 0.5);
    if (place) this.corner.setAttribute("cy", place.row + 0.5);
  }

  showRegion(region, colour) {
    if (region.isEmpty && !this.#isTinted) return; // an untouched canvas takes no memory
    this.#isTinted = !region.isEmpty;
    const pen = this.tint.getContext("2d");
    const { height, width } = this.grid;
    pen.clearRect(0, 0, width, height);
    if (region.isEmpty) return;
    const image = pen.createImageData(width, height);
    for (let at = 0; at < height * width; at++) {
      if (region.has(this.frame * height * width + at)) image.data.set([...colour, 150], 4 * at);
    }
    pen.putImageData(image, 0, 0);
  }
}

function away(event, [x, y]) {
  return Math.hypot(event.clientX - x, event.clientY - y);
}
