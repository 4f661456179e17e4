// What a viewer starts with, and the sentences and choices that follow from its state. Pure functions.

export const DEFAULTS = {
  mode: "split",
  theme: "auto",
  pointSize: 1,
  confidence: 10,
  frames: null,
  cameras: true,
  divider: 0.5,
  shown: 1,
  toolbar: true,
  background: "theme",
  pictures: null, // null: shown where the view is tall enough for them
  errorRange: null, // [low, high] in units of the cloud; high null: no end
  viewpoints: [],
  emptyText: "The two point clouds appear here, side by side, after the first comparison has run.",
};

/** The frames shown after one button was used; null stands for all. `alone`: this one alone, or all again. */
export function toggledFrames(shown, count, index, alone) {
  const all = [...Array(count).keys()];
  const now = shown ?? all;
  if (alone) return now.length === 1 && now[0] === index ? null : [index];
  const next = all.filter((i) => now.includes(i) !== (i === index));
  return next.length === all.length ? null : next;
}

/** What remains of a choice of frames in a scene that has `count` of them; null stands for all. */
export function keptFrames(shown, count) {
  const kept = (shown ?? []).filter((index) => index < count);
  return kept.length ? kept : null;
}

/** Notes for the whole view, the left and the right half ("" for none), and how many points there are. */
export function describeScene(data, { mode, emptyText }, message) {
  if (!data) return { notes: [message || emptyText, "", ""], outside: 0, points: 0 };
  const { left, right, meta } = data;
  const unpaired = mode === "error" && right && !meta.error;
  const missing = right ? "" : `No ${meta.labels[1]} cloud yet.`;
  const note = unpaired ? "These clouds are not of the same pixels, so there is no paired distance." : missing;
  const outside = left.outside + (right?.outside ?? 0);
  return { notes: [message, "", message ? "" : note], outside, points: Math.max(left.count, right?.count ?? 0) };
}
