// Keeps #live up to date: at each event the server renders the page anew, and its #live takes the old one's place.
let stream = null;
let busy = false;
let again = false;

async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (fresh) document.getElementById("live").replaceWith(fresh);
    if (fresh && !fresh.dataset.stream && stream) stream.close();
  } finally {
    busy = false;
    if (again) { again = false; refresh(); }
  }
}

const live = document.getElementById("live");
if (live && live.dataset.stream) {
  stream = new EventSource(live.dataset.stream);
  for (const type of live.dataset.events.split(" ")) stream.addEventListener(type, refresh);
  stream.addEventListener("error", refresh);
}
