// Both clouds in the viewer, which prediction stands on which side, and the error between them.
import { mountClouds } from "./clouds.js";
import { Choice, make, reach, setText } from "./dom.js";

export function mountCompare(host, { send }) {
  const left = new Choice("Left side", (value) => send({ do: "left", value }));
  const right = new Choice("Right side", (value) => send({ do: "right", value }));
  const told = make("span", { class: "ql-quiet ql-name ql-error-told", "data-testid": "error-told" });
  const note = make("p", { class: "ql-quiet ql-scene-note", "data-testid": "scene-note" });
  const stage = make("div", { class: "ql-stage" }, make("div", { class: "quantlab-viewer" }));
  const viewer = attach(stage, send);
  const clouds = mountClouds(send, () => viewer.filters());
  const sides = make("div", { class: "ql-sides", hidden: true }, side("left", left), side("right", right), clouds.button);
  host.append(make("header", {}, make("h2", {}, "Compare"), told, sides), note, stage, clouds.sheet);
  let seen = false;
  return (value) => {
    sides.hidden = value.sides.length === 0;
    left.show(value.sides, value.left);
    right.show(value.sides, value.right);
    setText(told, value.told);
    told.title = value.explained ?? "";
    setText(note, value.stale && value.payload ? "The clouds are from before the changes that wait." : value.notes.join("; "));
    note.title = note.textContent;
    note.hidden = note.textContent === "";
    if (value.payload) clouds.show(value);
    const again = value.payload && !seen && value.region ? { region: value.region } : {}; // the page was loaded anew
    seen ||= Boolean(value.payload);
    viewer.show({ payload: reach(value.payload), message: value.message ?? "", ...again });
  };
}

function side(name, choice) {
  return make("label", { class: "ql-field" }, make("span", {}, name), choice.element);
}

/** The viewer's own Gradio adapter, fed by us: it fetches the clouds and follows the theme. */
function attach(stage, send) {
  const props = { value: {} };
  let told = () => {};
  let viewer = null;
  const ready = import("../viewer/viewer.js").then(({ attachGradio }) => {
    viewer = attachGradio(stage, { props, watch: (_name, callback) => (told = callback), trigger: (event, detail) => event === "region" && send({ do: "region", ...detail }) });
  });
  return {
    /** What of the clouds is on the screen: the frames (null: all) and the percent of least confident points left out. */
    filters() {
      return { frames: viewer?.state.frames ?? null, confidence: viewer?.state.confidence ?? 0 };
    },
    async show(value) {
      props.value = value; // no payload takes the former clouds away
      await ready;
      await told();
      stage.dataset.cloud = value.payload; // for tests: which clouds are on the screen
    },
  };
}
