// The view as a PNG file: the canvas, and the names of its sides as they stand over it.

/** Draws the picture and hands it to the browser as a download; nothing leaves the page otherwise. */
export function saveScreenshot(viewer) {
  const scene = String(viewer.data.meta.scene || "clouds").replace(/[^\w.-]+/g, "-");
  const link = document.createElement("a");
  link.href = labelled(viewer).toDataURL("image/png");
  link.download = `quantlab-${scene}-${viewer.state.mode}.png`;
  link.click();
  return link.download;
}

function labelled(viewer) {
  const { canvas, overlay } = viewer;
  viewer.drawInFull();
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [canvas.width, canvas.height];
  const pen = picture.getContext("2d");
  pen.drawImage(canvas, 0, 0);
  const ratio = canvas.width / overlay.element.clientWidth;
  pen.scale(ratio, ratio);
  pen.font = "600 12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const stage = overlay.element.getBoundingClientRect();
  for (const label of overlay.labels.filter((item) => !item.hidden)) {
    const box = label.getBoundingClientRect();
    pen.fillStyle = getComputedStyle(label).color;
    pen.fillText(label.textContent, box.left - stage.left + 6, box.top - stage.top + box.height / 2);
  }
  return picture;
}
