// Follows a project: fetches the page again and replaces the parts that have changed.
"use strict";
const live = document.getElementById("live");

function renew(page) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const next = page.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!next || next.innerHTML === part.dataset.shown) continue;
    if (part.contains(document.activeElement) && document.activeElement.matches("input, select")) continue; // being filled in
    part.dataset.shown = next.innerHTML;
    const held = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    part.replaceChildren(...next.cloneNode(true).childNodes);
    if (held) part.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus();
    document.dispatchEvent(new CustomEvent("renewed", { detail: part }));
  }
  // Sections come and go with the first reading.
  if (document.querySelectorAll("[data-part]").length !== page.querySelectorAll("[data-part]").length) location.reload();
}

async function follow() {
  let every = Number(live.dataset.every);
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        renew(page);
        every = Number(page.getElementById("live").dataset.every);
      }
    } catch {
      // The server does not answer; the numbers stay until it does.
    }
  }
  setTimeout(follow, Math.min(Math.max(every * 500, 1000), 10000));
}

for (const part of document.querySelectorAll("[data-part]")) part.dataset.shown = part.innerHTML;
setTimeout(follow, 1000);
