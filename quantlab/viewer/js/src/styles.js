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
  display: flex; align-items: center; gap: 16px; flex: none; height: 32px; padding: 0 16px;
  border-bottom: 1px solid var(--rule); white-space: nowrap; overflow: hidden;
}
.bar[inert] { opacity: 0.45; }
.group { display: flex; align-items: center; gap: 8px; min-width: 0; }
.group > .name { color: var(--quiet); }
.bar > label { flex: none; }
.bar output { min-width: 70px; }
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
:is(button, input, canvas, .divider, .handle, .picture, .strip):focus-visible { outline: 2px solid var(--focus); outline-offset: -2px; }
input[type="range"] { width: 88px; height: 16px; margin: 0; accent-color: var(--quiet); cursor: pointer; }
output { color: var(--text); white-space: nowrap; }
@container (max-width: 860px) { .bar .narrow-hides, .bar label .name { display: none; } .bar { gap: 12px; } .bar button { padding: 0 6px; } }
@container (max-width: 700px) { .bar input[type="range"] { width: 48px; } .bar { gap: 8px; } .bar button { padding: 0 5px; } }
@container (max-width: 440px) { .bar { gap: 6px; } .bar button { padding: 0 4px; } }
@container (max-width: 700px) { .bar { padding: 0 8px; } .bar .modes { margin: 0 -4px; } }
.menu {
  position: absolute; z-index: 3; top: 32px; right: 0; min-width: 256px; max-width: 100%; max-height: calc(100% - 32px); overflow: auto;
  padding: 4px 12px; background: var(--panel); border: 1px solid var(--rule); border-top: 0;
}
.menu .row, .menu .folded > * { display: flex; align-items: center; gap: 8px; min-height: 32px; margin: 0; }
.menu .name { flex: 0 0 72px; color: var(--quiet); }
.menu input[type="range"] { flex: 1; }
.menu button { height: 28px; padding: 0 6px; }
.menu .folded .modes { margin: 0 -6px; }
.set { display: flex; flex-wrap: wrap; min-width: 0; margin: 0 -6px; }
.viewpoint { display: inline-flex; }
.viewpoint .drop { padding: 0 4px 0 0; }
.ends { display: flex; margin: 4px -12px 0; padding: 2px 6px; border-top: 1px solid var(--rule); }
.help {
  position: absolute; inset: 0; z-index: 4; display: flex; align-items: center; justify-content: center; padding: 16px;
  background: color-mix(in srgb, var(--panel) 60%, transparent);
}
.sheet { width: 760px; max-width: 100%; max-height: 100%; overflow: auto; padding: 12px 16px; background: var(--panel); border: 1px solid var(--rule); }
.sheet header { display: flex; justify-content: space-between; align-items: center; }
.sheet :is(h2, h3) { margin: 0; font-size: 12px; line-height: 24px; }
.sheet h3 { color: var(--quiet); font-weight: 400; }
.groups { columns: 272px; column-gap: 24px; }
.groups section { break-inside: avoid; margin-bottom: 8px; }
.groups dl { display: grid; grid-template-columns: 88px 1fr; gap: 4px 8px; align-items: start; margin: 0; }
.groups dd { margin: 0; }
.groups dt { display: flex; flex-wrap: wrap; gap: 2px; }
.groups kbd { font: inherit; padding: 0 5px; border: 1px solid var(--rule); border-radius: 3px; min-height: 18px; }
.strip {
  flex: none; display: flex; gap: 4px; padding: 4px 16px; overflow: auto hidden; border-top: 1px solid var(--rule);
  scrollbar-width: thin; position: relative;
}
.picture { position: relative; flex: none; height: 100%; cursor: crosshair; touch-action: pan-x; overflow: hidden; background: var(--canvas); }
.strip.marking .picture { touch-action: none; }
.picture canvas { cursor: inherit; touch-action: inherit; image-rendering: auto; }
.picture canvas.tint, .picture svg { pointer-events: none; }
.picture canvas.tint { image-rendering: pixelated; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.picture.off > canvas { opacity: 0.35; }
.picture .number {
  position: absolute; left: 0; top: 0; padding: 0 4px; font-size: 11px; line-height: 14px; pointer-events: none;
  color: var(--text); background: color-mix(in srgb, var(--panel) 84%, transparent);
}
.picture.unreadable::after { content: "unreadable"; position: absolute; inset: 40% 0 auto; text-align: center; color: var(--quiet); }
.cross circle { fill: none; stroke: #ffffff; stroke-width: 2; vector-effect: non-scaling-stroke; }
.cross circle.under { stroke: #11161a; stroke-width: 4; }
.corner { fill: var(--region); }
@container stage (max-height: 320px) {
  .ticks.units, .legend:not(.brushed) .note-row { display: none; }
  .plot { height: 28px; }
}
.lasso {
  fill: color-mix(in srgb, var(--region) 25%, transparent); stroke: var(--region); stroke-width: 1.5; vector-effect: non-scaling-stroke;
}
.drawing { inset: 0; width: 100%; height: 100%; }
.marking canvas, .marking canvas:active { cursor: crosshair; }
.hint { left: 50%; top: 36px; transform: translateX(-50%); padding: 4px 8px; width: max-content; max-width: calc(100% - 16px); background: var(--plate); color: var(--text); border: 1px solid var(--rule); }
.link { overflow: hidden; }
.link line { stroke: var(--text); stroke-width: 1.5; }
.link circle { fill: var(--side); stroke: var(--canvas); stroke-width: 1; }
.apart { left: 0; top: 0; padding: 0 4px; white-space: nowrap; color: var(--text); background: color-mix(in srgb, var(--plate) 84%, transparent); }
.stage { container: stage / size; position: relative; flex: 1; min-height: 0; background: var(--canvas); overflow: hidden; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; touch-action: none; cursor: grab; }
canvas:active { cursor: grabbing; }
.over { position: absolute; pointer-events: none; }
.label {
  top: 8px; display: flex; align-items: center; gap: 6px; padding: 0 6px; height: 20px; color: var(--side);
  background: color-mix(in srgb, var(--plate) 84%, transparent); font-weight: 600;
}
.label > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.label::before { content: ""; flex: none; width: 8px; height: 8px; background: var(--side); }
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
.foot {
  left: 0; right: 0; bottom: 0; padding: 8px 10px; display: flex; flex-wrap: wrap-reverse; align-items: flex-start;
  justify-content: space-between; gap: 4px 8px;
}
.facts { display: flex; flex-direction: column; align-items: flex-start; min-width: 0; max-width: 100%; }
.facts > *, .legend { background: color-mix(in srgb, var(--plate) 84%, transparent); }
.facts > * { padding: 2px 6px; color: var(--quiet); }
.probe { color: var(--text); }
.region { display: flex; align-items: center; gap: 4px; pointer-events: auto; color: var(--text); }
.region::before { content: ""; width: 8px; height: 8px; background: var(--region); }
.region button, .legend button { height: 20px; padding: 0 6px; text-decoration: underline; }
.legend { width: 232px; max-width: 100%; margin-left: auto; padding: 6px 8px 4px; color: var(--quiet); pointer-events: auto; }
.plot { position: relative; height: 40px; margin: 2px 0; cursor: crosshair; touch-action: none; }
.bars { position: absolute; inset: 0; width: 100%; height: 100%; cursor: inherit; }
.kept { position: absolute; top: 0; bottom: 0; pointer-events: none; }
.brushed .kept { border: 1px solid var(--text); border-width: 0 1px; background: color-mix(in srgb, var(--text) 8%, transparent); }
.handle { position: absolute; bottom: -3px; width: 12px; height: 16px; margin-left: -6px; cursor: ew-resize; }
.handle::before { content: ""; position: absolute; left: 4px; width: 4px; height: 16px; background: var(--text); }
.handle:hover::before { left: 3px; width: 6px; }
.ticks { display: flex; justify-content: space-between; color: var(--text); }
.ticks.units { color: var(--quiet); }
.note-row { display: flex; justify-content: space-between; align-items: center; min-height: 20px; }
.ring { left: 0; top: 0; width: 15px; height: 15px; margin: -7.5px 0 0 -7.5px; border: 2px solid var(--side); border-radius: 50%; box-shadow: 0 0 0 1px var(--canvas), inset 0 0 0 1px var(--canvas); }
.note {
  inset: 0; display: flex; align-items: center; justify-content: center; padding: 24px; text-align: center; color: var(--note);
}
.note span { max-width: 36em; }
.busy { top: 0; left: 0; right: 0; height: 2px; background: var(--right); opacity: 0.9; animation: breathe 1.6s ease-in-out infinite; }
@keyframes breathe { 50% { opacity: 0.2; } }
@media (prefers-reduced-motion: reduce) { .busy { animation: none; } }
[hidden] { display: none !important; }
`;
