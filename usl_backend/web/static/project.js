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
  setTimeout(follow, Math.min(Math.max(every * 250, 1000), 10000));
}

for (const part of document.querySelectorAll("[data-part]")) part.dataset.shown = part.innerHTML;
setTimeout(follow, 1000);

// The slider along the curve of budgets; without JavaScript the field stands alone.
function slide() {
  const slider = document.getElementById("slider");
  if (!slider) return;
  const rows = [...document.querySelectorAll("#points tbody tr")].map((row) => [...row.children].map((cell) => cell.textContent));
  const field = document.getElementById("budget");
  const told = document.getElementById("chosen");

  function tell(at) {
    const [budget, picks, random] = rows[at];
    told.textContent = `${budget} picks reach ${picks}, random tasks ${random}`;
    slider.setAttribute("aria-valuetext", told.textContent);
  }

  slider.addEventListener("input", () => {
    field.value = rows[slider.value][0];
    tell(slider.value);
  });
  field.addEventListener("input", () => {
    const at = rows.findLastIndex((row) => Number(row[0]) <= Number(field.value));
    if (at < 0) return;
    slider.value = at;
    tell(at);
  });
  document.getElementById("slide").hidden = false;
  tell(slider.value);
}

slide();
document.addEventListener("renewed", (event) => {
  if (event.detail.dataset.part === "actions") slide();
});
