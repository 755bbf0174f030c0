// Enlarges pictures in a dialog, with arrow keys from one to the next, and shows the labels that tasks have now.
"use strict";
(() => {
  const dialog = document.getElementById("large");
  const picture = document.createElement("img");
  const caption = dialog.querySelector("p");
  let opened = null;

  function show(button) {
    opened = button;
    const small = button.querySelector("img");
    picture.src = button.dataset.large || small.src;
    picture.alt = small.alt;
    const shown = button.closest("[data-task]");
    caption.replaceChildren(...[...shown.querySelectorAll(".named, .label")].flatMap((one) => [one.cloneNode(true), " "]));
    if (!picture.isConnected) dialog.prepend(picture);
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const all = [...document.querySelectorAll(".enlarge")];
    show(all[(all.indexOf(opened) + by + all.length) % all.length]);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".enlarge");
    if (button) show(button);
    else if (event.target === dialog) dialog.close(); // beside the picture
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") step(event.key === "ArrowLeft" ? -1 : 1);
  });
  dialog.addEventListener("close", () => opened.focus());
  dialog.querySelector("[data-step='-1']").addEventListener("click", () => step(-1));
  dialog.querySelector("[data-step='1']").addEventListener("click", () => step(1));
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());

  async function label() {
    const answer = await fetch(dialog.dataset.labels, { credentials: "same-origin" });
    if (!answer.ok) return;
    const { labels } = await answer.json();
    for (const one of document.querySelectorAll("[data-task] .label")) {
      const known = labels[one.closest("[data-task]").dataset.task];
      one.textContent = known ? `label: ${known}` : "";
    }
  }

  if (dialog.dataset.labels) label().catch(() => {});
})();
