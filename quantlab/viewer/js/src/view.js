// What the first view of a scene is, and how its camera is told to others: world coordinates in, world coordinates out.
import { depthOf, displayRotation, isUsable, percentile, sample } from "./frame.js";

const DEFAULT_WINDOW = [-0.577, 0.577, -0.433, 0.433];
const MARGIN = 0.86; // of the pane, for the labels
const OUTLIERS = 0.25; // percent of the points that may lie beyond each side of the first view
const WIDEST = 1.34; // pictures wider than this are not shown in full width in a narrow pane

/** Facts of a scene that the camera, the point size and the frusta need. */
export function surveyScene({ left, meta }) {
  const points = sample(left, meta);
  const camera = left.cameras.find(isUsable) ?? null;
  const axes = [0, 1, 2].map((c) => points.map((p) => p[c]));
  const low = axes.map((values) => percentile(values, 2));
  const high = axes.map((values) => percentile(values, 98));
  const center = low.map((value, c) => (value + high[c]) / 2);
  const radius = Math.hypot(...low.map((value, c) => high[c] - value)) / 2 || 1;
  const depths = camera ? points.map((p) => depthOf(camera.pose, p)).filter((depth) => depth > 0) : [];
  const depth = depths.length ? percentile(depths, 50) : 1.8 * radius;
  const window = camera?.window ?? DEFAULT_WINDOW;
  return { points, center, radius, depth, window, pose: camera?.pose ?? null, rotation: displayRotation(camera?.pose) };
}

/** Half the width and height that a pane shows at depth 1: a narrow pane widens, so that the pictures' width is seen. */
export function lens(fov, aspect, [left, right, top, bottom]) {
  const wanted = Math.min(WIDEST, (right - left) / (bottom - top));
  const height = Math.tan((fov * Math.PI) / 360) * Math.max(1, wanted / aspect);
  return [height * aspect, height];
}

/**
 * From behind and above the first camera, as near as shows the cloud in full: what a person who took the pictures
 * recognises, wherever the camera and however large the scene. aspect: of the pane.
 */
export function firstView(survey, aspect) {
  const { points, pose, window, rotation } = survey;
  const [, , top, bottom] = window;
  const fov = clamp(degrees(Math.atan(Math.max(-top, bottom))) * 2 * 1.08, 35, 75);
  const [right, up, back] = [0, 3, 6].map((at) => rotation.slice(at, at + 3));
  const tilt = Math.atan(pose ? 0.16 : 0.32);
  const ahead = back.map((value, c) => -Math.cos(tilt) * value - Math.sin(tilt) * up[c]);
  const above = up.map((value, c) => Math.cos(tilt) * value - Math.sin(tilt) * back[c]);
  const seen = points.map((point) => [right, above, ahead].map((axis) => dot(axis, point)));
  const eye = fit(seen, lens(fov, aspect || 1, window), survey.radius);
  const along = Math.max(percentile(seen.map((p) => p[2]), 50) - eye[2], 0.1 * survey.radius);
  const position = [0, 1, 2].map((c) => eye[0] * right[c] + eye[1] * above[c] + eye[2] * ahead[c]);
  return { position, target: position.map((value, c) => value + along * ahead[c]), up, fov };
}

/** Where the eye stands, in its own axes, so that nearly all points lie within the view and equally far from its sides. */
function fit(points, slopes, radius) {
  const depths = points.map((p) => p[2]);
  const sides = slopes.map((slope, axis) => {
    const inner = MARGIN * slope;
    const low = percentile(points.map((p) => inner * p[2] + p[axis]), OUTLIERS);
    const high = percentile(points.map((p) => inner * p[2] - p[axis]), OUTLIERS);
    return { middle: (low - high) / 2, depth: (low + high) / (2 * inner) };
  });
  const depth = Math.min(percentile(depths, OUTLIERS) - 0.05 * radius, ...sides.map((side) => side.depth));
  const usual = percentile(depths, 50) - depth;
  return [...sides.map(({ middle }, axis) => centred(points, axis, depth, middle, usual)), depth];
}

/** From a depth that the other axis asked for, the middle is a little elsewhere: near points spread more than far ones. */
function centred(points, axis, depth, start, usual) {
  let middle = start;
  for (let round = 0; round < 4; round++) {
    const slopes = points.filter((p) => p[2] > depth).map((p) => (p[axis] - middle) / (p[2] - depth));
    middle += ((percentile(slopes, OUTLIERS) + percentile(slopes, 100 - OUTLIERS)) / 2) * usual;
  }
  return middle;
}

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
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

