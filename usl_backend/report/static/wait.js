// Waits for a report that is being made: asks for this very page every two seconds and shows it when it has changed.
"use strict";
(() => {
  const place = document.getElementById("awaited");
  async function look() {
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const told = page.getElementById("awaited");
      if (!told || !page.querySelector("script[src*='wait.js']")) {
        location.reload();
        return;
      }
      if (told.textContent !== place.textContent) place.textContent = told.textContent;
    } catch {
      place.textContent = "The server does not answer; trying again.";
    }
    setTimeout(look, 2000);
  }
  setTimeout(look, 2000);
})();
