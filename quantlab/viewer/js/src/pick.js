// Which point lies under the pointer, found on the CPU over the codes; exact for what is drawn, and no second render pass.
import { HIDDEN } from "./points.js";

/**
 * The index of the front-most point within `reach` pixels of (x, y), or -1.
 * matrix: clip_from_code, column by column; x, y, width, height: pixels in the pane, y from the top.
 */
export function pick(data, matrix, { x, y, width, height, reach = 7, visible }) {
  const m = matrix;
  const targetX = (2 * x) / width - 1;
  const targetY = 1 - (2 * y) / height;
  let best = -1;
  let bestScore = Infinity;
  const p = data.position;
  for (let i = 0, at = 0; i < data.count; i++, at += 3) {
    if (p[at] === HIDDEN) continue;
    const w = m[3] * p[at] + m[7] * p[at + 1] + m[11] * p[at + 2] + m[15];
    if (w <= 0) continue;
    const dx = ((m[0] * p[at] + m[4] * p[at + 1] + m[8] * p[at + 2] + m[12]) / w - targetX) * (width / 2);
    const dy = ((m[1] * p[at] + m[5] * p[at + 1] + m[9] * p[at + 2] + m[13]) / w - targetY) * (height / 2);
    const off = Math.hypot(dx, dy);
    if (off > reach) continue;
    // A pixel of distance weighs as much as 1.5 % of depth: what lies in front wins unless it is clearly beside.
    const score = w * (1 + 0.015 * off);
    if (score < bestScore && visible(i)) [best, bestScore] = [i, score];
  }
  return best;
}
