// Niceties only: every page works without this file.
"use strict";
(() => {
  const root = document.documentElement;
  document.querySelector("[data-theme-toggle]")?.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `fettle_theme=${root.dataset.theme}; Path=/; Secure; SameSite=Strict; Max-Age=31536000`;
  });
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/input|textarea|select/i.test(event.target.tagName)) {
      event.preventDefault();
      document.querySelector(".search input")?.focus();
    }
  });
  // A live change: output is appended, states are read anew from the server's own page.
  const live = document.querySelector("[data-events]");
  if (live) {
    const log = document.getElementById("live-log");
    const source = new EventSource(live.dataset.events);
    let pending = false;
    const refresh = async () => {
      if (pending) return;
      pending = true;
      await new Promise((resolve) => setTimeout(resolve, 400));
      pending = false;
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-part]")) {
        const fresh = page.querySelector(`[data-part="${part.dataset.part}"]`);
        if (fresh && !part.contains(document.activeElement)) part.replaceWith(fresh);
      }
    };
    const take = (event) => {
      const told = JSON.parse(event.data);
      if (told.lines?.length && log) {
        const end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        log.textContent += told.lines.map((line) => `${told.host_name}  ${line}\n`).join("");
        if (log.textContent.length > 200000) log.textContent = log.textContent.slice(-150000);
        if (end) log.scrollTop = log.scrollHeight;
      } else {
        refresh();
      }
    };
    source.onmessage = take;
    for (const kind of (live.dataset.kinds || "").split(" ")) if (kind) source.addEventListener(kind, take);
  }
})();
