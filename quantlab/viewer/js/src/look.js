// Puts the colours of theme and background onto a viewer: style sheet variables, canvas, error scale, frusta.
import { errorPalette, resolveTheme, sideColours, stageColours, THEMES } from "./theme.js";

/** Answers the name of the error scale in use. */
export function applyLook({ root, overlay, stage, state }) {
  const name = resolveTheme(state.theme);
  const colours = stageColours(name, state.background);
  for (const [role, colour] of Object.entries(THEMES[name])) root.style.setProperty(`--${role}`, colour);
  for (const [role, colour] of Object.entries(colours)) overlay.element.style.setProperty(`--${role}`, colour);
  root.style.colorScheme = name;
  stage?.setColours(colours);
  stage?.palette.set(errorPalette(colours.scale));
  return colours.scale;
}

/** The two sides take the colours of what they are. */
export function colourSides({ root, stage, state, data }, scale) {
  const colours = sideColours(scale, data?.meta.labels);
  root.style.setProperty("--left", colours[0]);
  root.style.setProperty("--right", colours[1]);
  stage?.setFrusta(colours, state.cameras && Boolean(data));
}

export function regionColour({ theme }) {
  return THEMES[resolveTheme(theme)].region;
}
