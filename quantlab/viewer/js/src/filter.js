// Which points are shown now, by the same rules as the shader's: confidence, frames, errors.

/** (cloud, i) -> whether the point passes. frames: the FrameTable; range: codes of the error scale, or null. */
export function makeFilter({ confidence }, frames, range) {
  const threshold = confidence * 2.56;
  return (cloud, i) => {
    if (cloud.confidence && cloud.confidence[i] < threshold) return false;
    if (range && cloud.error && (cloud.error[i] < range[0] || cloud.error[i] > range[1])) return false;
    return frames.has(cloud.frame ? cloud.frame[i] : 0);
  };
}

/** Errors in units of the cloud -> codes, both ends included; null for all. [low, null]: no upper end. */
export function errorCodes(range, meta) {
  if (!range || !meta?.error) return null;
  const code = (value) => (255 * value) / meta.error.max;
  const [low, high] = range;
  return [Math.ceil(code(low) - 1e-6), high == null ? 255 : Math.min(255, Math.floor(code(high) + 1e-6))];
}

/** Codes -> errors; the last code stands for everything above, so it has no upper end. */
export function errorRange(codes, meta) {
  if (!codes || (codes[0] <= 0 && codes[1] >= 255)) return null;
  const value = (code) => (code / 255) * meta.error.max;
  return [value(codes[0]), codes[1] >= 255 ? null : value(codes[1])];
}
