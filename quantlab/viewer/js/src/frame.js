// Coordinates: poses of OpenCV cameras, and the display frame in which up is +y. Plain arrays and numbers only.

const UNSURE = 10; // percent of the points, the least confident ones, which lie anywhere
const NARROWEST = 0.01; // half a degree: no picture is taken so, and points would shrink to nothing

/** A point in the axes of the camera -> world; pose is camera_from_world, 3 x 4, row by row. */
export function toWorld(pose, [x, y, z]) {
  const d = [x - pose[3], y - pose[7], z - pose[11]];
  return [0, 1, 2].map((c) => pose[c] * d[0] + pose[4 + c] * d[1] + pose[8 + c] * d[2]);
}

export function depthOf(pose, [x, y, z]) {
  return pose[8] * x + pose[9] * y + pose[10] * z + pose[11];
}

/** display_from_world as 9 numbers, row by row: OpenCV axes of the camera (x right, y down) turned to y up, -z ahead. */
export function displayRotation(pose) {
  if (!pose) return [1, 0, 0, 0, -1, 0, 0, 0, -1];
  const [a, b, c, , d, e, f, , g, h, i] = pose;
  return [a, b, c, -d, -e, -f, -g, -h, -i];
}

/** Whether a camera can say what is up and how wide a view is: one of an untrained network may not. */
export function isUsable(camera) {
  if (!camera) return false;
  const [left, right, top, bottom] = camera.window;
  const rows = [0, 4, 8].map((at) => Math.hypot(...camera.pose.slice(at, at + 3)));
  return right - left > NARROWEST && bottom - top > NARROWEST && rows.every((length) => Math.abs(length - 1) < 0.05);
}

export function rotate(r, [x, y, z]) {
  return [r[0] * x + r[1] * y + r[2] * z, r[3] * x + r[4] * y + r[5] * z, r[6] * x + r[7] * y + r[8] * z];
}

export function rotateBack(r, [x, y, z]) {
  return [r[0] * x + r[3] * y + r[6] * z, r[1] * x + r[4] * y + r[7] * z, r[2] * x + r[5] * y + r[8] * z];
}

export const decode = (meta, position, i) =>
  [0, 1, 2].map((c) => position[3 * i + c] * meta.scale[c] + meta.offset[c]);

/** The p-th percentile of some numbers (0 where there are none). */
export function percentile(values, p) {
  const sorted = Float64Array.from(values).sort();
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor((p / 100) * sorted.length))] : 0;
}

/** Up to `most` of a cloud's surer points, decoded; the cloud is shuffled, so its start is an even sample. */
export function sample(data, meta, most = 4000) {
  const points = [];
  for (let i = 0; i < data.count && points.length < most; i++) {
    const isSure = !data.confidence || data.confidence[i] >= UNSURE * 2.56;
    if (isSure && data.position[3 * i] !== -32768) points.push(decode(meta, data.position, i));
  }
  return points;
}
