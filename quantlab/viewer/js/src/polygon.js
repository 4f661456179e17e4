// What a closed line drawn by hand contains: points of a cloud under it, or pixels of a picture. Pure arithmetic.
import { HIDDEN } from "./points.js";

const CELL = 8; // CSS pixels: within a cell, what lies clearly behind the nearest point cannot be seen
const BEHIND = 1.1; // times the distance of the nearest point

/** Whether (x, y) lies inside; even-odd, so that a line that crosses itself leaves holes. path: [[x, y], ...]. */
export function contains(path, x, y) {
  let inside = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [ax, ay] = path[i];
    const [bx, by] = path[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

export function bounds(path) {
  const [xs, ys] = [0, 1].map((axis) => path.map((point) => point[axis]));
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/**
 * Indices of the visible points of a cloud whose projections lie inside a path of pane pixels (y from the top).
 * matrix: clip_from_code, column by column; through: also what lies behind other points.
 */
export function pointsInside(cloud, matrix, path, { width, height, visible, through }) {
  const [left, top, right, bottom] = bounds(path);
  const columns = Math.ceil(width / CELL) + 1;
  const nearest = new Float64Array(columns * (Math.ceil(height / CELL) + 1)).fill(Infinity);
  const found = [];
  const m = matrix;
  const p = cloud.position;
  for (let i = 0, at = 0; i < cloud.count; i++, at += 3) {
    if (p[at] === HIDDEN) continue;
    const w = m[3] * p[at] + m[7] * p[at + 1] + m[11] * p[at + 2] + m[15];
    if (w <= 0) continue;
    const x = ((m[0] * p[at] + m[4] * p[at + 1] + m[8] * p[at + 2] + m[12]) / w + 1) * (width / 2);
    const y = (1 - (m[1] * p[at] + m[5] * p[at + 1] + m[9] * p[at + 2] + m[13]) / w) * (height / 2);
    if (x < Math.max(0, left - CELL) || x > Math.min(width, right + CELL)) continue;
    if (y < Math.max(0, top - CELL) || y > Math.min(height, bottom + CELL) || !visible(i)) continue;
    const cell = Math.floor(y / CELL) * columns + Math.floor(x / CELL);
    nearest[cell] = Math.min(nearest[cell], w);
    if (contains(path, x, y)) found.push(i, w, cell);
  }
  const indices = [];
  for (let at = 0; at < found.length; at += 3) {
    if (through || found[at + 1] <= BEHIND * nearest[found[at + 2]]) indices.push(found[at]);
  }
  return indices;
}

/** Rows and columns of the pixels whose centres lie inside a path in pixels of a picture. */
export function pixelsInside(path, height, width) {
  const [left, top, right, bottom] = bounds(path);
  const found = [];
  for (let row = Math.max(0, Math.floor(top)); row < Math.min(height, Math.ceil(bottom)); row++) {
    for (let column = Math.max(0, Math.floor(left)); column < Math.min(width, Math.ceil(right)); column++) {
      if (contains(path, column + 0.5, row + 0.5)) found.push([row, column]);
    }
  }
  return found;
}
