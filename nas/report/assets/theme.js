/* Light or dark: the setting of the system, or the reader's last choice on this page. */
"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("nas-theme"); } catch { /* a page opened from a file may have no storage */ }
  const apply = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    root.dataset.theme = dark ? "dark" : "light";
    button.lastElementChild.textContent = dark ? "light" : "dark";
    document.dispatchEvent(new Event("theme"));
  };
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("nas-theme", chosen); } catch { /* the choice then holds until the page is closed */ }
    apply();
  });
  system.addEventListener("change", apply);
  apply();
})();
