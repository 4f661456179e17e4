// The public face of the bundle: mount() for any page, render() for anywidget, attachGradio() for the app.
import { attachGradio, render } from "./hosts.js";
import { unpack } from "./unpack.js";
import { Viewer } from "./viewer.js";

/**
 * Puts a viewer into an element that has a height. Mounting twice gives the viewer that is there.
 * options: mode, theme ("light", "dark", "auto"), pointSize, confidence, frames, cameras, toolbar, emptyText, camera.
 */
export function mount(element, options = {}) {
  element.__quantlabViewer ??= new Viewer(element, options);
  return element.__quantlabViewer;
}

export { attachGradio, render, unpack };
export default { render };
