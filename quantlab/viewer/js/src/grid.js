// Which pixel of which picture a packed point is, and back. It holds indices only, no colours and no coordinates.
import { shuffled } from "./shuffle.js";

const MOST = 2 ** 30;

export class PixelGrid {
  #indices = null;

  /** shape: [frames, height, width]; count: points packed, the first ones of the shared shuffle. */
  constructor(shape, count) {
    const total = shape.length === 3 && shape.every((n) => Number.isInteger(n) && n > 0) ? shape.reduce((a, b) => a * b) : 0;
    if (!(total > 0 && total <= MOST && count <= total)) throw new Error("its grid of pixels does not fit its points");
    [this.frames, this.height, this.width] = shape;
    this.total = total;
    this.pixels = shuffled(total, count);
  }

  /** The frame of every packed point. */
  frameArray() {
    const area = this.height * this.width;
    const frames = new (this.frames > 256 ? Uint16Array : Uint8Array)(this.pixels.length);
    for (let index = 0; index < frames.length; index++) frames[index] = (this.pixels[index] / area) | 0;
    return frames;
  }

  place(index) {
    return this.placeOf(this.pixels[index]);
  }

  placeOf(pixel) {
    const inFrame = pixel % (this.height * this.width);
    const frame = Math.floor(pixel / (this.height * this.width));
    return { frame, row: Math.floor(inFrame / this.width), column: inFrame % this.width };
  }

  pixelOf({ frame, row, column }) {
    return (frame * this.height + row) * this.width + column;
  }

  /** The packed point of a pixel, or the nearest one within `reach` pixels where only a sample is packed; else -1. */
  indexOf({ frame, row, column }, reach = 8) {
    this.#indices ??= this.#inverse();
    for (let away = 0; away <= reach; away++) {
      let best = -1;
      let bestOff = Infinity;
      for (let y = Math.max(0, row - away); y <= Math.min(this.height - 1, row + away); y++) {
        const step = Math.abs(y - row) === away ? 1 : 2 * away;
        for (let x = column - away; x <= column + away; x += step || 1) {
          if (x < 0 || x >= this.width) continue;
          const index = this.#indices[this.pixelOf({ frame, row: y, column: x })];
          const off = Math.hypot(x - column, y - row);
          if (index >= 0 && off < bestOff) [best, bestOff] = [index, off];
        }
      }
      if (best >= 0) return best;
    }
    return -1;
  }

  #inverse() {
    const indices = new Int32Array(this.total).fill(-1);
    for (let index = 0; index < this.pixels.length; index++) indices[this.pixels[index]] = index;
    return indices;
  }
}
