// Cameras of one cloud as line pyramids in world coordinates; the first camera carries a small roof that says "up".
import { BufferGeometry, Float32BufferAttribute, LineBasicMaterial, LineSegments } from "three";
import { toWorld } from "./frame.js";

/** cameras: as in the header; depth: how far the picture plane is drawn, world units. */
export function makeFrusta(cameras, depth, colour, opacity = 1) {
  const ends = [];
  cameras.forEach((camera, index) => camera && ends.push(...pyramid(camera, depth, index === 0)));
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new Float32BufferAttribute(ends, 3));
  const material = new LineBasicMaterial({ color: colour, transparent: opacity < 1, opacity, depthWrite: false });
  const lines = new LineSegments(geometry, material);
  lines.frustumCulled = false;
  return lines;
}

function pyramid({ pose, window: [left, right, top, bottom] }, depth, isFirst) {
  const point = (x, y, z) => toWorld(pose, [x * depth, y * depth, z * depth]);
  const tip = point(0, 0, 0);
  const corners = [point(left, top, 1), point(right, top, 1), point(right, bottom, 1), point(left, bottom, 1)];
  const lines = corners.flatMap((corner, i) => [tip, corner, corner, corners[(i + 1) % 4]]);
  if (isFirst) {
    const middle = (left + right) / 2;
    const half = (right - left) / 8;
    const roof = point(middle, top - 1.5 * half, 1);
    lines.push(point(middle - half, top, 1), roof, roof, point(middle + half, top, 1));
  }
  return lines.flat();
}
