// Follows one run: asks every two seconds, reloads the page when the state changes. Nothing is fetched from elsewhere.
"use strict";
const live = document.getElementById("live");
const bar = document.getElementById("bar");
const words = document.getElementById("words");
const stages = [...live.querySelectorAll("[data-stage]")];

function show(run) {
  const at = stages.findIndex((item) => item.dataset.stage === run.stage);
  stages.forEach((item, i) => {
    item.classList.toggle("now", i === at);
    item.classList.toggle("past", i < at);
  });
  if (run.total > 0) {
    bar.max = run.total;
    bar.value = run.done;
  } else {
    bar.removeAttribute("value");
  }
  if (run.state === "running") {
    const count = run.total > 0 ? `: ${run.done.toLocaleString()} of ${run.total.toLocaleString()}` : "";
    words.textContent = (run.step || run.stage || "starting") + count;
  }
}

async function look() {
  try {
    const answer = await fetch(live.dataset.url, { credentials: "same-origin" });
    if (answer.ok) {
      const run = await answer.json();
      if (run.state !== live.dataset.state) {
        location.reload();
        return;
      }
      show(run);
    }
  } catch {
    words.textContent = "the server does not answer; trying again";
  }
  setTimeout(look, 2000);
}

look();
