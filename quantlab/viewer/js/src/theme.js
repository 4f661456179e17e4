// The two themes and the scale of the error map as plain values; the meaning of each colour is the same in both.

export const THEMES = {
  light: {
    canvas: "#f5f6f7",
    panel: "#ffffff",
    text: "#1f272e",
    quiet: "#5c6873",
    rule: "#d8dde2",
    focus: "#2b6cb0",
    full: "#4d6780",
    quantized: "#b4560c",
    truth: "#4f7062",
    former: "#c99a72",
    mark: "#11161a",
    region: "#b3126f",
  },
  dark: {
    canvas: "#15191d",
    panel: "#1b2025",
    text: "#e3e8ec",
    quiet: "#97a3ad",
    rule: "#323a42",
    focus: "#7fb2e5",
    full: "#9db6cc",
    quantized: "#f09a4a",
    truth: "#a3c2b2",
    former: "#9c7452",
    mark: "#ffffff",
    region: "#ff6fb4",
  },
};

// Lightness runs one way in steps the eye reads as equal, hue from the blue-grey of "agrees" to the orange of
// "quantized" (a pair that every common colour vision tells apart); on white paper the same scale runs to dark.
const ERROR_STOPS = {
  dark: ["#27394a", "#3f5569", "#6c6a74", "#a97a62", "#dc9148", "#ffb84d", "#ffe9a3"],
  light: ["#d3dde6", "#b3c2cf", "#b5a49b", "#bf8660", "#b86229", "#95400c", "#5f2306"],
};

/** 256 RGBA colours of the error scale, from agreement to the largest error. */
export function errorPalette(theme) {
  const stops = ERROR_STOPS[theme].map(channels);
  const palette = new Uint8Array(256 * 4);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    for (let c = 0; c < 3; c++) palette[4 * i + c] = stops[low][c] + (stops[low + 1][c] - stops[low][c]) * (at - low);
    palette[4 * i + 3] = 255;
  }
  return palette;
}

export function errorGradient(theme) {
  return `linear-gradient(to right, ${ERROR_STOPS[theme].join(", ")})`;
}

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

const MEANINGS = { "full precision": "full", quantized: "quantized", "ground truth": "truth", former: "former" };

/** The colours of the two sides: by what they are, not by where they stand; a name of its own takes its side's usual one. */
export function sideColours(theme, labels = []) {
  const meaning = (label) => (/^\d+: /.test(label) ? "quantized" : MEANINGS[label]); // "3: quarot W4A4" is a state
  return ["full", "quantized"].map((usual, side) => THEMES[theme][meaning(labels[side]) ?? usual]);
}

export const BACKGROUNDS = ["theme", "light", "grey", "dark"];
// Between the two themes: dark and bright points are both seen on it, so labels stand on plates of the dark theme.
const GREY = { ...THEMES.dark, canvas: "#6f767c", plate: "#1b2025", note: "#ffffff", rule: "#9aa1a7" };

/** The colours of the stage, which may lie on another ground than the controls: `scale` names the error scale. */
export function stageColours(theme, background) {
  if (background === "grey") return { ...GREY, scale: "dark" };
  const name = background in THEMES ? background : theme;
  return { ...THEMES[name], plate: THEMES[name].canvas, note: THEMES[name].quiet, scale: name };
}

/** The theme a name stands for; "auto" follows the system. */
export function resolveTheme(name) {
  if (name in THEMES) return name;
  return globalThis.matchMedia?.("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
