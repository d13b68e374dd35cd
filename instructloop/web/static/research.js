// Researchers' pages: copy a link, wait for an export or for the loop, grade with the keys 1 to 7. All of it works without scripts.

for (const button of document.querySelectorAll("[data-copies]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).value);
    document.getElementById("copied").textContent = "Copied.";
  });
}

const waiting = document.querySelector("[data-waits]");
if (waiting) {
  const look = async () => {
    try {
      const answer = await fetch(waiting.dataset.waits, { headers: { Accept: "application/json" } });
      if (answer.ok) {
        const { state, lines } = await answer.json();
        if (state === "done" || state === "failed") return location.reload();
        const log = document.getElementById(waiting.dataset.shows);
        if (log && lines) log.textContent = lines.join("\n");
      }
    } catch {
      // No network for a moment: look again.
    }
    return setTimeout(look, 1500);
  };
  setTimeout(look, 800);
}

const grades = document.querySelectorAll('.scale input[type="radio"]');
if (grades.length) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !/^[1-7]$/.test(event.key)) return;
    const radio = [...grades].find((one) => one.value === event.key);
    radio.checked = true;
    radio.focus();
  });
}

// What is wider than the screen opens where it matters: at this page's tab, at the newest days of a plot.
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
for (const plot of document.querySelectorAll(".plot-scroll")) plot.scrollLeft = plot.scrollWidth;
