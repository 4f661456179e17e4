// Keys, clicks, hovering and a lost device: what each does to the viewer. Dragging is the rig's; controls have their own.
import { keyFunction } from "./keys.js";

const CLICK_PIXELS = 4;
const SLOW_PICK = 24; // milliseconds: a cloud in which finding a point takes longer is probed by click only

/** Listens until the function it returns is called. */
export function bindInput(viewer) {
  const end = new AbortController();
  const listen = (target, kind, run) => target.addEventListener(kind, run, { signal: end.signal });
  listen(viewer.root, "keydown", (event) => onKey(viewer, event));
  bindPointer(viewer, listen);
  listen(viewer.canvas, "webglcontextlost", (event) => {
    event.preventDefault();
    viewer.setMessage("The graphics device was lost; the view returns when it does.");
  });
  listen(viewer.canvas, "webglcontextrestored", () => viewer.setMessage(""));
  return () => end.abort();
}

function bindPointer(viewer, listen) {
  const { canvas, lasso } = viewer;
  const hover = hovering(viewer);
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let down = null;
  listen(canvas, "pointerdown", (event) => {
    down = event.isPrimary && event.button === 0 ? [event.clientX, event.clientY] : null;
    if (!lasso.isActive || !down) return;
    canvas.setPointerCapture(event.pointerId);
    lasso.down(...place(event));
  });
  listen(canvas, "pointermove", (event) => {
    if (lasso.isActive) lasso.move(...place(event));
    else if (!event.buttons && event.pointerType === "mouse") hover(place(event));
  });
  listen(canvas, "pointerleave", () => hover(null));
  listen(canvas, "pointerup", (event) => {
    if (lasso.isActive) return lasso.up(event);
    if (!down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > CLICK_PIXELS) return;
    viewer.probe(...place(event));
  });
}

/** Probes where the pointer rests, once a frame at most. */
function hovering(viewer) {
  let wanted = null;
  let scheduled = 0;
  let isSlow = false;
  let ofData = null;
  return (place) => {
    if (ofData !== viewer.data) [ofData, isSlow] = [viewer.data, false];
    wanted = place;
    if (isSlow || scheduled) return;
    scheduled = requestAnimationFrame(() => {
      scheduled = 0;
      const started = performance.now();
      viewer.hover(wanted);
      isSlow = performance.now() - started > SLOW_PICK;
      if (isSlow) viewer.hover(null);
    });
  };
}

function onKey(viewer, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.composedPath()[0];
  if (target.matches?.("button") && (event.key === " " || event.key === "Enter")) return;
  if (target.matches?.("input") && event.key !== "Escape") return;
  if (viewer.help.isOpen && !["Escape", "?"].includes(event.key)) return;
  const action = target.matches?.(".divider") ? dividerAction(viewer, event) : keyFunction(event);
  if (!action) return;
  action(viewer, event);
  event.preventDefault();
  event.stopPropagation();
}

function dividerAction(viewer, event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (event.shiftKey ? 0.1 : 0.02);
  return by ? () => viewer.actions.divider(viewer.state.divider + by) : keyFunction(event);
}
