/* Light or dark: as the system asks, or as the reader last chose on this page. */
"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("nas-theme"); } catch { /* a file may have no storage */ }
  const apply = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    root.dataset.theme = dark ? "dark" : "light";
    button.lastElementChild.textContent = dark ? "light" : "dark";
    document.dispatchEvent(new Event("theme"));
  };
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("nas-theme", chosen); } catch { /* then it holds for this visit */ }
    apply();
  });
  system.addEventListener("change", apply);
  apply();
})();
