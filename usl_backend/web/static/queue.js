// Says what has become of a run's queue in Label Studio since it was published.
"use strict";
const queue = document.getElementById("queue");

async function look() {
  const answer = await fetch(queue.dataset.url, { credentials: "same-origin" });
  if (!answer.ok) return;
  const found = await answer.json();
  if (found.kind === "unknown") return; // Label Studio does not answer
  queue.textContent = found.detail.charAt(0).toUpperCase() + found.detail.slice(1) + ".";
  if (found.remedy) {
    queue.className = "warning";
    const command = document.createElement("code");
    command.textContent = found.remedy;
    queue.append(" This mends it: ", command);
  }
  queue.hidden = false;
}

look().catch(() => {});
