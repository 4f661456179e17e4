// Finding layers: words of a name or kind, and thresholds on the number that colours the map. Pure functions.

const THRESHOLD = /^([<>])=?([\d.]+(?:e-?\d+)?)$/i;

/**
 * The layers a query means, or null where it asks for nothing.
 * layers: [[name, short name, value or null, value as text]]. Every word must hold: "global 3" is the block, not 13 or 30.
 */
export function finds(query, layers) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return words.length ? layers.filter((layer) => words.every((word) => holds(word, layer))) : null;
}

function holds(word, [name, short, value]) {
  const threshold = word.match(THRESHOLD);
  if (threshold) {
    const limit = Number(threshold[2]);
    return value !== null && (threshold[1] === ">" ? value > limit : value < limit);
  }
  if (/^[<>]/.test(word)) return true; // a threshold that is still being typed
  const text = `${name} ${short}`.toLowerCase();
  return /^\d+$/.test(word) ? new RegExp(`(^|\\D)${word}(\\D|$)`).test(text) : text.includes(word);
}

/** The rows of the list, worst first; those without a value last. */
export function byValue(layers) {
  const top = Math.max(...layers.map(([, , value]) => value ?? 0)) || 1;
  return [...layers]
    .sort((one, other) => (other[2] ?? -1) - (one[2] ?? -1))
    .map(([name, short, value, text]) => ({ name, short, value: text, share: (value ?? 0) / top }));
}

/** The map with only some of its layers; the others keep their places, pale. */
export function only(figure, names) {
  const kept = figure.data.filter((trace) => trace.customdata);
  const pick = ({ customdata, z }, chosen) => z.map((line, row) => line.map((height, column) => chosen(customdata[row][column], height)));
  const data = kept.map((trace) => ({ ...trace, z: pick(trace, (name, height) => (names.has(name) ? height : null)) }));
  const pale = { zmin: 0, zmax: 1, showscale: false, colorscale: [[0, "@missing"], [1, "@missing"]], meta: { z: "none" } };
  const rest = kept.slice(0, 1).map((trace) => ({ ...trace, ...pale, z: pick(trace, (name) => (name && !names.has(name) ? 0 : null)) }));
  return { ...figure, data: [...data, ...rest] };
}
