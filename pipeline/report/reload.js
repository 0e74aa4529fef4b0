// Loads the page anew when `./run.sh watch --serve` has something new to show; it answers "version" with a word for
// the state of all runs.
const serverState = document.getElementById("server"), shownVersion = serverState.dataset.version, EVERY_MS = 3000;
async function ask() {
  try {
    const answer = await fetch("version", { cache: "no-store" });
    if (answer.ok && (await answer.text()) !== shownVersion) location.reload();
    serverState.textContent = "This page follows the runs.";
  } catch {
    serverState.textContent = "The server has ended; ./run.sh watch --serve starts it again.";
  }
}
setInterval(ask, EVERY_MS);
