// Shows every time in the viewer's zone; UTC stays in the tooltip.
"use strict";
(() => {
  const form = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

  function localize(place) {
    for (const time of place.querySelectorAll("time[datetime]")) {
      time.textContent = form.format(new Date(time.dateTime));
    }
  }

  localize(document);
  document.addEventListener("renewed", (event) => localize(event.detail));
})();
