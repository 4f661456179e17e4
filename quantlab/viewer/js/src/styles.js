// The look of the viewer: one sheet, adopted by the shadow root, so that no host page leaks in and no CSP forbids it.

export const CSS = `
:host { display: block; }
* { box-sizing: border-box; }
.root {
  display: flex; flex-direction: column; position: relative; width: 100%; height: 100%; overflow: hidden;
  container-type: inline-size; background: var(--panel); color: var(--text);
  font: 12px/16px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums;
}
.bar {
  display: flex; align-items: center; gap: 16px; flex: none; height: 32px; padding: 0 8px;
  border-bottom: 1px solid var(--rule); white-space: nowrap; overflow: hidden;
}
.bar[inert] { opacity: 0.45; }
.group { display: flex; align-items: center; gap: 8px; min-width: 0; }
.group > .name { color: var(--quiet); }
.spring { flex: 1; }
button {
  font: inherit; color: var(--quiet); background: none; border: 0; margin: 0; padding: 0 8px; height: 31px;
  cursor: pointer; border-bottom: 2px solid transparent; border-top: 2px solid transparent;
}
button:hover { color: var(--text); }
button[aria-pressed="true"] { color: var(--text); border-bottom-color: var(--text); }
button:disabled { color: var(--rule); cursor: default; }
.modes { gap: 0; margin: 0 -8px; flex: none; }
.frames { gap: 0; overflow-x: auto; scrollbar-width: none; }
.frames button { padding: 0 6px; }
.frames .name { margin-right: 4px; }
:is(button, input, canvas, .divider):focus-visible { outline: 2px solid var(--focus); outline-offset: -2px; }
input[type="range"] { width: 88px; height: 16px; margin: 0; accent-color: var(--quiet); cursor: pointer; }
output { min-width: 30px; color: var(--text); }
.wide { display: none; }
@container (min-width: 840px) { .wide { display: flex; } }
@container (max-width: 744px) { .narrow-hides { display: none; } input[type="range"] { width: 72px; } }
@container (max-width: 560px) { .bar { gap: 8px; } button { padding: 0 5px; } input[type="range"] { width: 48px; } }
.stage { position: relative; flex: 1; min-height: 0; background: var(--canvas); overflow: hidden; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; touch-action: none; cursor: grab; }
canvas:active { cursor: grabbing; }
.over { position: absolute; pointer-events: none; }
.label {
  top: 8px; display: flex; align-items: center; gap: 6px; padding: 0 6px; height: 20px; color: var(--side);
  background: color-mix(in srgb, var(--canvas) 82%, transparent); font-weight: 600;
}
.label::before { content: ""; width: 8px; height: 8px; background: var(--side); }
.label kbd { font: inherit; font-weight: 400; color: var(--quiet); }
.side-0 { --side: var(--left); }
.side-1 { --side: var(--right); }
.rule { top: 0; bottom: 0; width: 1px; background: var(--rule); }
.divider { position: absolute; top: 0; bottom: 0; width: 24px; margin-left: -12px; cursor: ew-resize; touch-action: none; }
.divider::before { content: ""; position: absolute; inset: 0 auto 0 11.5px; width: 1px; background: var(--mark); }
.divider::after {
  content: ""; position: absolute; left: 7px; top: calc(50% - 16px); width: 10px; height: 32px;
  background: var(--panel); border: 1px solid var(--mark);
}
.status { left: 8px; bottom: 8px; color: var(--quiet); padding: 0 6px; background: color-mix(in srgb, var(--canvas) 82%, transparent); }
.probe { left: 8px; bottom: 28px; color: var(--text); padding: 0 6px; background: color-mix(in srgb, var(--canvas) 82%, transparent); }
.legend {
  right: 8px; bottom: 8px; min-width: 216px; white-space: nowrap; padding: 6px 8px; color: var(--quiet);
  background: color-mix(in srgb, var(--canvas) 82%, transparent);
}
.legend .ramp { height: 8px; margin: 4px 0 2px; }
.legend .ticks { display: flex; justify-content: space-between; color: var(--text); }
.ring { left: 0; top: 0; width: 15px; height: 15px; margin: -7.5px 0 0 -7.5px; border: 2px solid var(--side); border-radius: 50%; box-shadow: 0 0 0 1px var(--canvas), inset 0 0 0 1px var(--canvas); }
.note {
  inset: 0; display: flex; align-items: center; justify-content: center; padding: 24px; text-align: center; color: var(--quiet);
}
.note span { max-width: 36em; }
.busy { top: 0; left: 0; right: 0; height: 2px; background: var(--right); opacity: 0.9; animation: breathe 1.6s ease-in-out infinite; }
@keyframes breathe { 50% { opacity: 0.2; } }
@media (prefers-reduced-motion: reduce) { .busy { animation: none; } }
[hidden] { display: none !important; }
`;
