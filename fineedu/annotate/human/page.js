"use strict";
// The page of one session. Text of documents only ever becomes textContent: nothing of it is read as markup.

const part = (id) => document.getElementById(id);
const state = {
  session: null, index: 0, document: null, shown: 0,
  score: null, topic: null, active: 0, visible: [], busy: true, ended: false,
};

function element(kind, text) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  return made;
}

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let reply, answer;
  try {
    reply = await fetch("api/" + path, options);
    answer = await reply.json();
  } catch {
    throw new Error("No answer from fineedu label: start the command again and open its new link. Saved answers are kept.");
  }
  if (!reply.ok) throw new Error(answer.error);
  return answer;
}

// One thing at a time: a key pressed while a document is on its way would answer one that nobody has read.
async function alone(work) {
  if (state.busy || state.ended) return;
  busy(true);
  try {
    await work();
    part("trouble").hidden = true;
  } catch (error) {
    part("trouble").textContent = error.message;
    part("trouble").hidden = false;
  } finally {
    busy(false);
  }
}

function busy(is) {
  state.busy = is;
  part("document").setAttribute("aria-busy", is);
}

// ---- rubric: headings, lists, bold and code of Markdown, as nodes. In a paragraph, a line that follows the end of a
// sentence begins a new one: rubrics are written so.

function inline(into, text) {
  for (const piece of text.split(/(\*\*[^*]+\*\*|`[^`]+`)/)) {
    if (/^\*\*.+\*\*$/.test(piece)) into.append(element("strong", piece.slice(2, -2)));
    else if (/^`.+`$/.test(piece)) into.append(element("code", piece.slice(1, -1)));
    else into.append(piece);
  }
  return into;
}

function showRubric(text) {
  const target = part("rubric");
  let block = null, ended = false;
  for (const line of text.split("\n")) {
    const heading = /^#{1,6}\s+(.*)/.exec(line);
    const item = /^\s*(?:[-*]|(\d+)[.)])\s+(.*)/.exec(line);
    if (!line.trim()) {
      block = null;
    } else if (heading) {
      target.append(inline(element("h3"), heading[1]));
      block = null;
    } else if (item) {
      const kind = item[1] === undefined ? "UL" : "OL";
      if (block?.tagName !== kind) {
        target.append((block = element(kind.toLowerCase())));
        if (item[1]) block.start = Number(item[1]);
      }
      block.append(inline(element("li"), item[2]));
    } else if (block && !(ended && block.tagName === "P")) {
      inline(block.lastElementChild && block.tagName !== "P" ? block.lastElementChild : block, " " + line.trim());
    } else {
      const lead = /^\p{Lu}[^.:,;]{0,30}:(?=\s)/u.exec(line)?.[0] ?? "";
      target.append((block = element("p")));
      if (lead) block.append(element("strong", lead));
      inline(block, line.slice(lead.length).trimEnd());
    }
    ended = /[.:!?]$/.test(line.trimEnd());
  }
}

// ---- what is asked

function buildPanel() {
  const { scale, topics } = state.session.rubric;
  if (scale) {
    for (let score = scale[0]; score <= scale[1]; score++) {
      const button = element("button", String(score));
      button.type = "button";
      button.dataset.score = score;
      button.addEventListener("click", () => choose({ score }));
      part("scores").append(button);
    }
    part("low").textContent = scale[0];
    part("high").textContent = scale[1];
  }
  part("scores").hidden = !scale;
  part("topics").hidden = !topics;
  document.querySelectorAll(".for-topics").forEach((node) => (node.hidden = !topics));
}

const folded = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

function showTopics() {
  const topics = state.session.rubric.topics;
  if (!topics) return;
  const words = folded(part("search").value).split(/\s+/).filter(Boolean);
  const ranks = topics.map((topic) => {
    const [named, told] = [folded(topic[0] + " " + topic[1]), folded(topic[2])];
    const found = words.every((word) => named.includes(word) || told.includes(word));
    return { topic, rank: !found ? -1 : words.every((word) => named.includes(word)) ? 0 : 1 };
  });
  // Topics with the words in their names come before those with the words in their meaning.
  state.visible = [0, 1].flatMap((rank) => ranks.filter((entry) => entry.rank === rank).map((entry) => entry.topic));
  state.active = Math.min(state.active, Math.max(state.visible.length - 1, 0));
  const list = part("options");
  list.replaceChildren();
  state.visible.forEach(([slug, title, about], place) => {
    const option = element("li", title);
    option.title = about;
    if (about) option.append(element("small", about));
    option.id = "option-" + place;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", slug === state.topic);
    option.addEventListener("click", () => choose({ topic: slug }));
    list.append(option);
  });
  if (!state.visible.length) {
    list.append(element("li", "no such topic"));
    list.lastChild.className = "none";
  }
  markActive();
}

function markActive() {
  const searching = document.activeElement === part("search");
  [...part("options").children].forEach((option, place) => option.classList.toggle("active", searching && place === state.active));
  part("options").children[state.active]?.scrollIntoView({ block: "nearest" });
  part("search").setAttribute("aria-activedescendant", state.visible.length ? "option-" + state.active : "");
}

function showChoice() {
  for (const button of part("scores").children) button.setAttribute("aria-pressed", Number(button.dataset.score) === state.score);
  part("abstain").setAttribute("aria-pressed", state.document?.answer?.state === "abstain");
  showTopics();
}

// ---- documents

function showProgress() {
  const answered = state.session.answered;
  const done = answered.filter(Boolean).length;
  part("bar").style.width = (100 * done) / answered.length + "%";
  part("progress").setAttribute("aria-valuemax", answered.length);
  part("progress").setAttribute("aria-valuenow", done);
  part("count").textContent = `${done.toLocaleString("en")} / ${answered.length.toLocaleString("en")}`;
  part("back").disabled = state.index === 0;
  part("next").disabled = state.index === answered.length - 1;
}

async function show(index) {
  const found = await call("document/" + index);
  state.index = index;
  state.document = found;
  state.score = found.answer?.score ?? null;
  state.topic = found.answer?.topic ?? null;
  state.active = 0;
  part("note").value = found.answer?.note ?? "";
  part("search").value = "";
  part("place").textContent = `Document ${index + 1}` + (found.answer ? " · answered" : "");
  part("length").textContent = `${[...found.text].length.toLocaleString("en")} characters`;
  part("url").textContent = found.url;
  part("title").textContent = found.title;
  part("title").hidden = !found.title;
  const paragraphs = found.text.split("\n").filter((line) => line.trim()).map((line) => {
    const made = element("p", line);
    made.dir = "auto";
    return made;
  });
  part("text").replaceChildren(...paragraphs);
  part("document").scrollTop = 0;
  part("document").focus({ preventScroll: true });
  showChoice();
  showProgress();
  state.shown = performance.now();
}

function following() {
  const answered = state.session.answered;
  const later = answered.indexOf(false, state.index + 1);
  return later >= 0 ? later : answered.indexOf(false);
}

// A score alone, or a topic alone, is half an answer where the rubric asks for both.
function choose(choice) {
  if (state.busy || state.ended) return;
  Object.assign(state, choice);
  const { scale, topics } = state.session.rubric;
  showChoice();
  if (scale && state.score === null) part("document").focus({ preventScroll: true });
  else if (topics && state.topic === null) part("search").focus();
  else answer({ state: "ok", score: state.score, topic: state.topic });
}

function answer(given) {
  alone(async () => {
    const seconds = Math.round((performance.now() - state.shown) / 100) / 10;
    const body = { document_id: state.document.id, ...given, note: part("note").value, seconds };
    const again = state.document.answer !== null;
    state.session.answered = (await call("answer", body)).answered;
    const title = state.session.rubric.topics?.find(([slug]) => slug === given.topic)?.[1];
    const what = given.state === "abstain" ? "cannot tell" : [given.score, title].filter((value) => value != null).join(", ");
    toast(`Saved: ${what}`);
    const to = again ? Math.min(state.index + 1, state.session.answered.length - 1) : following();
    await show(to >= 0 ? to : state.index);
    if (to < 0) part("done").showModal();
  });
}

function undo() {
  alone(async () => {
    const { answered, index } = await call("undo", {});
    state.session.answered = answered;
    toast(index === null ? "Nothing to take back" : "Taken back");
    await show(index ?? state.index);
  });
}

function move(by) {
  const to = state.index + by;
  if (to >= 0 && to < state.session.answered.length) alone(() => show(to));
}

function finish() {
  alone(async () => {
    const { labels, output } = await call("finish", {});
    state.ended = true;
    document.querySelectorAll("button, input").forEach((node) => (node.disabled = true));
    part("place").textContent = "";
    for (const id of ["length", "url", "text", "rubric"]) part(id).replaceChildren();
    part("title").hidden = false;
    part("title").textContent = "Saved";
    part("text").append(element("p", `${labels} labels are in ${output}. You can close this page.`));
    document.querySelector(".end").hidden = true;
  });
}

let fading;
function toast(text) {
  part("toast").textContent = text;
  part("toast").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => part("toast").classList.remove("shown"), 1600);
}

function theme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (!document.documentElement.style.colorScheme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.style.colorScheme = dark ? "light" : "dark";
}

// ---- keys

function scoreOf(key) {
  const scale = state.session.rubric.scale;
  const score = /^\d$/.test(key) ? Number(key) : null;
  return scale && score !== null && score >= scale[0] && score <= scale[1] ? score : null;
}

function pressed(event) {
  if (!state.session || state.ended || document.querySelector("dialog[open]")) return;
  if (event.repeat && !["ArrowDown", "ArrowUp"].includes(event.key)) return;
  if (event.target === part("search")) return searching(event);
  if (event.target === part("note")) {
    if (event.key === "Escape" || event.key === "Enter") part("document").focus({ preventScroll: true });
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); return undo(); }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const score = scoreOf(event.key);
  const keys = {
    a: () => answer({ state: "abstain" }), u: undo, Backspace: undo, d: theme,
    ArrowLeft: () => move(-1), ArrowRight: () => move(1), "?": () => part("keys").showModal(),
    n: () => part("note").focus(), t: () => !part("topics").hidden && part("search").focus(),
  };
  if (score !== null) choose({ score });
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
}

function searching(event) {
  if (event.key === "Escape") part("document").focus({ preventScroll: true });
  else if (event.key === "Enter" && state.visible.length) choose({ topic: state.visible[state.active][0] });
  else if (event.key === "ArrowDown") state.active = Math.max(0, Math.min(state.active + 1, state.visible.length - 1));
  else if (event.key === "ArrowUp") state.active = Math.max(state.active - 1, 0);
  else return;
  event.preventDefault();
  markActive();
}

async function begin() {
  document.addEventListener("keydown", pressed);
  part("search").addEventListener("input", () => { state.active = 0; showTopics(); });
  part("search").addEventListener("focus", markActive);
  part("search").addEventListener("blur", markActive);
  part("back").addEventListener("click", () => move(-1));
  part("next").addEventListener("click", () => move(1));
  part("undo").addEventListener("click", undo);
  part("abstain").addEventListener("click", () => answer({ state: "abstain" }));
  part("theme").addEventListener("click", theme);
  part("help").addEventListener("click", () => part("keys").showModal());
  part("finish").addEventListener("click", finish);
  part("done").addEventListener("close", () => part("done").returnValue === "finish" && finish());
  busy(false);
  await alone(async () => {
    state.session = await call("session");
    part("rubric-name").textContent = state.session.rubric.name;
    part("who").textContent = state.session.annotator;
    document.title = state.session.rubric.name + ": label documents";
    showRubric(state.session.rubric.text);
    buildPanel();
    const first = state.session.answered.indexOf(false);
    await show(Math.max(first, 0));
    if (first < 0) part("done").showModal();
  });
}

begin();
