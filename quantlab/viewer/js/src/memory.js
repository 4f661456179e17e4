// What a browser remembers of the choices made in the app's viewer: its look and the kept viewpoints, no data.

const KEY = "quantlab-viewer";
const REMEMBERED = ["background", "pictures", "pointSize", "viewpoints"];

/** Gives the viewer what was chosen before, and keeps what is chosen from now on. */
export function rememberChoices(viewer) {
  const chosen = read();
  if ("background" in chosen) viewer.setBackground(chosen.background);
  if ("pictures" in chosen) viewer.setPictures(chosen.pictures);
  if ("pointSize" in chosen) viewer.setPointSize(chosen.pointSize);
  if ("viewpoints" in chosen) viewer.setViewpoints(chosen.viewpoints);
  viewer.onEvent((event) => {
    const changed = Object.entries(event).filter(([name]) => REMEMBERED.includes(name));
    if (event.type === "state" && changed.length) write({ ...read(), ...Object.fromEntries(changed) });
  });
}

/** An empty record where there is no memory, or something else lies in it. */
function read() {
  try {
    return Object(JSON.parse(localStorage.getItem(KEY)));
  } catch {
    return {};
  }
}

function write(chosen) {
  try {
    localStorage.setItem(KEY, JSON.stringify(chosen));
  } catch {
    // A browser that keeps nothing for this page: the choices last as long as the page.
  }
}
