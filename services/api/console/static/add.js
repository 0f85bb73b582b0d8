// The add form: files are read into their fields, and the doctor looks at what is there after each pause in typing.
const form = document.querySelector("[data-doctor]");
const findings = form.querySelector("[data-doctor-findings]");
const PAUSE = 400;
let timer = 0;
let number = 0;

function show() {
  const source = form.elements.source.value;
  const type = form.elements.type.value;
  for (const part of form.querySelectorAll("[data-shown-for]")) {
    part.hidden = ![source, type].includes(part.dataset.shownFor);
  }
}

async function ask(isAsked = false) {
  const mine = ++number;
  const data = new FormData(form);
  for (const name of ["certificate_file", "private_key_file"]) data.delete(name);
  if (form.elements.type.value === "ca") data.delete("private_key");
  const isManaged = form.elements.source.value === "managed";
  if (!isAsked && !isManaged && !data.get("certificate").trim()) return;
  const answer = await fetch(form.dataset.doctor, { method: "POST", body: data });
  if (mine !== number) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  findings.replaceChildren(...(answer.ok && !answer.redirected ? page.body.childNodes : refusal(page)));
}

// A page that says why not (too large, signed out meanwhile): its title and what to do.
function refusal(page) {
  return [...page.querySelectorAll("main h1, main h1 + p:not(:has(a))")].map((said) => {
    const part = document.createElement("p");
    part.textContent = said.textContent;
    return part;
  });
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(() => ask(), PAUSE);
}

async function take(file, name) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text;
  try { text = new TextDecoder("utf-8", { fatal: true }).decode(bytes); } catch { text = new TextDecoder("latin1").decode(bytes); }
  form.elements[name].value = text;
  soon();
}

form.addEventListener("input", (event) => {
  show();
  if (event.target.type !== "file") soon();
});
for (const input of form.querySelectorAll("input[type=file]")) {
  input.addEventListener("change", async () => {
    if (input.files.length) await take(input.files[0], input.dataset.into);
    input.value = "";
  });
}
for (const place of form.querySelectorAll("[data-drop]")) {
  place.addEventListener("dragover", (event) => { event.preventDefault(); place.classList.add("over"); });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    place.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files[0], place.dataset.drop);
  });
}
form.querySelector("[data-doctor-button]").addEventListener("click", (event) => { event.preventDefault(); ask(true); });
show();
