// Saved viewpoints: cameras by scene, in the order they were saved. Pure functions over a list that the state holds.

export const MOST_VIEWPOINTS = 9;

/** Those of this scene, which is what a person counts by. */
export function viewpointsOf(list, scene) {
  return list.filter((entry) => entry.scene === scene);
}

/** One more; beyond the ninth the oldest of the scene goes. */
export function withViewpoint(list, scene, camera) {
  const own = viewpointsOf(list, scene);
  const kept = own.length < MOST_VIEWPOINTS ? list : list.filter((entry) => entry !== own[0]);
  return [...kept, { scene, ...camera }];
}

export function withoutViewpoint(list, scene, index) {
  const gone = viewpointsOf(list, scene)[index];
  return list.filter((entry) => entry !== gone);
}

/** What a file or a host gave: entries with a camera, anything else is left out. */
export function checkedViewpoints(list) {
  const isTriple = (value) => Array.isArray(value) && value.length === 3 && value.every(Number.isFinite);
  return (Array.isArray(list) ? list : []).filter((entry) => isTriple(entry?.position) && isTriple(entry?.target));
}
