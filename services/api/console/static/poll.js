// Keeps #live up to date while it asks for it: every data-poll seconds its new state takes the old one's place.
async function look() {
  const live = document.getElementById("live");
  if (!live || !live.dataset.poll) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (answer.ok && fresh && fresh.outerHTML !== live.outerHTML && !live.contains(document.activeElement)) {
      live.replaceWith(fresh);
    }
  } finally {
    wait();
  }
}

function wait() {
  const live = document.getElementById("live");
  if (live && live.dataset.poll) setTimeout(look, 1000 * Number(live.dataset.poll));
}

wait();
