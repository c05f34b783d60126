"use strict";
// In Airflow's frame the page takes the UI's light or dark; its links open outside the frame.
const framed = window.parent !== window;
try {
  const ui = framed ? window.parent.document.documentElement : null;
  const theme = ui && ["dark", "light"].find((name) => ui.classList.contains(name));
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* another origin's frame: the system's choice stays */ }
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-ui]");
  if (!link || !framed) return;
  event.preventDefault(); // the frame's sandbox keeps it from leaving by itself
  const outside = window.parent.document.createElement("a");
  outside.href = link.href;
  outside.click();
});
const dialog = document.getElementById("control");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (!button) return;
  const form = dialog.querySelector("form");
  form.reset();
  form.dataset.action = button.dataset.action;
  form.dataset.given = button.dataset.given;
  dialog.querySelector("h2").textContent = button.textContent;
  dialog.querySelector("[data-effect]").textContent = button.dataset.effect;
  dialog.querySelector("[role=alert]").textContent = "";
  const version = dialog.querySelector("[name=version]");
  version.closest("label").hidden = version.disabled = button.dataset.action !== "restore";
  if (button.dataset.version) version.value = button.dataset.version;
  dialog.showModal();
});
dialog?.querySelector("[data-cancel]").addEventListener("click", () => dialog.close());
dialog?.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const said = dialog.querySelector("[role=alert]");
  const body = { ...JSON.parse(form.dataset.given), reason: form.reason.value };
  if (!form.version.disabled) body.version = Number(form.version.value);
  form.querySelector("[type=submit]").disabled = true;
  try {
    const answer = await fetch(`${document.body.dataset.root}/actions/${form.dataset.action}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const told = await answer.json();
    if (answer.status === 401) throw new Error("you are no longer signed in: sign in to Airflow, then try again");
    if (!answer.ok) {
      said.textContent = typeof told.detail === "string" ? told.detail : JSON.stringify(told.detail);
      return;
    }
    sessionStorage.setItem("done", told.done);
    location.reload();
  } catch (error) {
    said.textContent = error.message;
  } finally {
    form.querySelector("[type=submit]").disabled = false;
  }
});
const done = sessionStorage.getItem("done");
if (done) {
  sessionStorage.removeItem("done");
  const place = document.getElementById("done");
  place.textContent = done;
  place.hidden = false;
}
document.querySelectorAll("[data-load]").forEach((place) => place.addEventListener("click", async () => {
  place.disabled = true;
  const answer = await fetch(place.dataset.load);
  place.outerHTML = answer.ok ? await answer.text() : `<p role="alert">no answer (${answer.status})</p>`;
}));
document.querySelectorAll("[data-later]").forEach(async (place) => {
  const answer = await fetch(place.dataset.later);
  place.innerHTML = answer.ok ? await answer.text() : `<p role="alert">no answer (${answer.status})</p>`;
});
setInterval(() => { if (!dialog?.open && !document.querySelector("details[open], [data-kept]")) location.reload(); }, 30000);
