// A secret that is shown once: a button that copies it, and an address that may be loaded again without a second form.
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = button.dataset.done;
  });
}
const next = document.querySelector("[data-next]");
if (next) history.replaceState(null, "", next.dataset.next);
