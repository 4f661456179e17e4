// What this tab keeps of its lab, so that a reload finds history and undo even when the server was started anew; and
// the link the page was opened by.

const MEMORY = "quantlab-memory";
const LINK = "s";
let link = new URLSearchParams(location.search).get(LINK) ?? "";

/** A panel without a look: it puts every value away. The tab's own storage, so that two tabs do not mix. */
export function mountMemory() {
  return ({ text }) => {
    const kept = storage();
    try {
      kept?.setItem(MEMORY, text);
    } catch {
      kept.removeItem(MEMORY); // full: then a restart of the server begins anew
    }
  };
}

/** What was put away last. */
export function recall() {
  return storage()?.getItem(MEMORY) ?? "";
}

/** The storage of the tab, or of the browser; null where it is forbidden, which a browser says by throwing. */
export function storage(kind = "sessionStorage") {
  try {
    return globalThis[kind];
  } catch {
    return null;
  }
}

/** What stands in the link that opened the page; "" once it was opened. */
export function asked() {
  return link;
}

/** The server has answered: the address says no more what it opened, or a reload would open it again over later work. */
export function opened() {
  if (!link) return;
  link = "";
  const address = new URL(location.href);
  address.searchParams.delete(LINK);
  history.replaceState(null, "", address);
}
