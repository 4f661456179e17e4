// What the first view of a scene is, and how its camera is told to others: world coordinates in, world coordinates out.
import { depthOf, displayRotation, percentile, sample, toWorld } from "./frame.js";

const DEFAULT_WINDOW = [-0.577, 0.577, -0.433, 0.433];

/** Facts of a scene that the camera, the point size and the frusta need. */
export function surveyScene({ left, meta }) {
  const points = sample(left, meta);
  const camera = left.cameras.find(Boolean) ?? null;
  const axes = [0, 1, 2].map((c) => points.map((p) => p[c]));
  const low = axes.map((values) => percentile(values, 2));
  const high = axes.map((values) => percentile(values, 98));
  const center = low.map((value, c) => (value + high[c]) / 2);
  const radius = Math.hypot(...low.map((value, c) => high[c] - value)) / 2 || 1;
  const depths = camera ? points.map((p) => depthOf(camera.pose, p)).filter((depth) => depth > 0) : [];
  const depth = depths.length ? percentile(depths, 50) : 1.8 * radius;
  const window = camera?.window ?? DEFAULT_WINDOW;
  return { center, radius, depth, window, pose: camera?.pose ?? null, rotation: displayRotation(camera?.pose) };
}

/** The first camera's view, from a little behind and above: what a person who took the pictures recognises. */
export function firstView({ center, depth, radius, pose, window, rotation }) {
  const [, , top, bottom] = window;
  const fov = clamp(degrees(Math.atan(Math.max(-top, bottom))) * 2 * 1.08, 35, 75);
  const up = rotation.slice(3, 6);
  if (!pose) {
    const position = center.map((value, c) => value + radius * (1.9 * rotation[6 + c] + 0.6 * rotation[3 + c]));
    return { position, target: center, up, fov };
  }
  return { position: toWorld(pose, [0, -0.22 * depth, -0.36 * depth]), target: toWorld(pose, [0, 0, depth]), up, fov };
}

/** The usual distance between neighbouring points, world units: one pixel of the pictures at the usual depth. */
export function pointSpacing({ left, meta }, { depth, window: [, , top, bottom] }) {
  const rows = Math.sqrt(left.count / Math.max(1, meta.frames));
  return (depth * (bottom - top)) / Math.max(1, rows);
}

function degrees(radians) {
  return (radians * 180) / Math.PI;
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

