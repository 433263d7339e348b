// The page's own switches: colours, and which instances are shown.
"use strict";
const report = { data: JSON.parse(document.getElementById("data").textContent) };

(() => {
  const button = document.getElementById("theme");
  const names = { auto: "Auto", light: "Light", dark: "Dark" };
  const spoken = { auto: "as the system has them", light: "light", dark: "dark" };
  let theme = "auto";
  try {
    theme = localStorage.getItem("refine-batch-theme") || "auto";
  } catch {
    // A page opened from disk may have no storage; the choice then lasts as long as the page.
  }

  function apply() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = names[theme];
    button.setAttribute("aria-label", `Colours: ${spoken[theme]}`);
  }

  button.addEventListener("click", () => {
    const order = Object.keys(names);
    theme = order[(order.indexOf(theme) + 1) % order.length];
    try {
      localStorage.setItem("refine-batch-theme", theme);
    } catch {
      // As above.
    }
    apply();
  });
  if (!(theme in names)) theme = "auto";
  apply();

  const filters = document.querySelectorAll("[data-filter]");
  for (const filter of filters) {
    filter.addEventListener("click", () => {
      for (const other of filters) other.setAttribute("aria-pressed", String(other === filter));
      for (const card of document.querySelectorAll(".card")) {
        card.hidden = filter.dataset.filter !== "all" && card.dataset.group !== filter.dataset.filter;
      }
    });
  }
})();
