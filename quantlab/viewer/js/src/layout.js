// Which part of the canvas shows which cloud, per mode. Pure arithmetic in CSS pixels, y from the bottom as WebGL has it.

export const MODES = ["split", "swipe", "flip", "error"];

/**
 * Panes to draw, in order: `view` is the rectangle the camera fills, `clip` the part of it that is drawn.
 * Both panes of a mode have views of equal size, so that one camera serves both.
 */
export function panes(mode, width, height, { divider, shown }) {
  const whole = { x: 0, y: 0, width, height };
  if (mode === "flip") return [{ side: shown, heat: false, view: whole, clip: whole }];
  if (mode === "swipe") {
    const cut = Math.round(width * divider);
    return [
      { side: 0, heat: false, view: whole, clip: { ...whole, width: cut } },
      { side: 1, heat: false, view: whole, clip: { ...whole, x: cut, width: width - cut } },
    ];
  }
  const half = Math.floor(width / 2);
  return [0, 1].map((side) => {
    const view = { x: side * (width - half), y: 0, width: half, height };
    return { side, heat: mode === "error" && side === 1, view, clip: view };
  });
}

/** The pane under a point (y from the top), or null. */
export function paneAt(list, x, y, height) {
  const inside = ({ clip }) =>
    x >= clip.x && x < clip.x + clip.width && height - y >= clip.y && height - y < clip.y + clip.height;
  return list.find(inside) ?? null;
}
