// The region a person marked: a set of pixels, tinted on both clouds and in the pictures. It draws nothing itself.
import { fromText, toText } from "./bits.js";

export class Region {
  #mask = null;
  #grid = null;

  /** How many pixels. */
  get size() {
    let size = 0;
    for (const bit of this.#mask ?? []) size += bit;
    return size;
  }

  get isEmpty() {
    return !this.#mask;
  }

  /** New pictures: a region of the same pixels stays, any other goes. */
  setGrid(grid, { isNewScene }) {
    const isSame = grid && this.#grid && ["frames", "height", "width"].every((name) => grid[name] === this.#grid[name]);
    if (isNewScene || !isSame) this.#mask = null;
    this.#grid = grid;
  }

  /** mask: base64, 0/1 values for every pixel, or null. */
  set(mask) {
    if (!this.#grid) return;
    const text = typeof mask === "string" || mask == null;
    const values = text ? fromText(mask, this.#grid.total) : Uint8Array.from(mask, Boolean);
    if (values.length !== this.#grid.total) throw new RangeError("the region is of pictures of another size");
    this.#mask = values.some(Boolean) ? values : null;
  }

  /** how: "replace", "add" or "subtract". */
  mark(pixels, how) {
    const mask = how !== "replace" && this.#mask ? this.#mask.slice() : new Uint8Array(this.#grid.total);
    for (const pixel of pixels) mask[pixel] = how === "subtract" ? 0 : 1;
    this.#mask = mask.some(Boolean) ? mask : null;
  }

  has(pixel) {
    return this.#mask !== null && this.#mask[pixel] === 1;
  }

  /** Writes 1 for every packed point of the region, else 0. */
  write(marks) {
    marks.fill(0);
    if (!this.#mask) return;
    const { pixels } = this.#grid;
    for (let index = 0; index < marks.length; index++) marks[index] = this.#mask[pixels[index]];
  }

  /** What the event says; mask "" is no region. */
  describe() {
    if (!this.#grid) return { frames: 0, height: 0, width: 0, mask: "" };
    const { frames, height, width } = this.#grid;
    return { frames, height, width, mask: this.#mask ? toText(this.#mask) : "" };
  }
}
