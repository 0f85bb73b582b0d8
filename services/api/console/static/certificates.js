// The list of certificates: one box chooses all on the page; without a script each is ticked by itself.
const all = document.querySelector("[data-all]");
const boxes = document.querySelectorAll("input[name=ids]");
if (all) {
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; });
}
