// Reloads this page every two seconds while the report is computed, and shows it when it has changed.
"use strict";
(() => {
  const place = document.getElementById("awaited");
  async function look() {
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const awaited = page.getElementById("awaited");
      if (!awaited || !page.querySelector("script[src*='wait.js']")) {
        location.reload();
        return;
      }
      if (awaited.textContent !== place.textContent) place.textContent = awaited.textContent;
    } catch {
      place.textContent = "The server does not respond; retrying.";
    }
    setTimeout(look, 2000);
  }
  setTimeout(look, 2000);
})();
