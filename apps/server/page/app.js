import {ApiFailure, listModels, readStats, streamAnswer} from "./api.js";
import {Conversations} from "./conversations.js";
import {renderMarkdown} from "./markdown.js";
import {RoutingPanel} from "./routing.js";

const $ = (id) => document.getElementById(id);
const kSettings = ["system", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "max_tokens"];

const conversations = new Conversations();
const routing = new RoutingPanel({
  heat: $("heat"), cell: $("heat-cell"), note: $("heat-note"), none: $("no-routing"), tokens: $("tokens"), token: $("token"),
});
let running = null;  // {turn, controller} of the answer that is being written.

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

function button(label, title, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = label;
  element.title = title;
  element.addEventListener("click", action);
  return element;
}

// ---- the conversation ----------------------------------------------------------------------------

function branchButtons(turn) {
  const siblings = conversations.children(turn.parent);
  if (siblings.length < 2) return [];
  const turnTo = (step) => () => {
    if (running) return;
    conversations.switchBranch(turn, step);
    showConversation();
  };
  return [
    button("‹", "Branch before", turnTo(-1)),
    `${siblings.findIndex((sibling) => sibling.id === turn.id) + 1} of ${siblings.length}`,
    button("›", "Next branch", turnTo(1)),
  ];
}

function edit(turn, message) {
  const field = document.createElement("textarea");
  field.value = turn.text;
  field.setAttribute("aria-label", "Edited message");
  const done = button("Send as a new branch", "", () => {
    if (!field.value.trim() || running) return;
    answer(conversations.add(turn.parent, "user", field.value));
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") showConversation();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    done.click();
  });
  message.replaceChildren(field, done, button("Cancel", "", showConversation));
  field.focus();
}

function messageItem(turn) {
  const item = document.createElement("li");
  item.className = turn.role;
  item.dataset.turn = turn.id;
  const message = document.createElement("div");
  message.className = "message";
  if (turn.role === "user") message.textContent = turn.text;
  else renderMarkdown(message, turn.text);
  const actions = document.createElement("div");
  actions.className = "actions";
  actions.append(...branchButtons(turn));
  if (turn.role === "user") {
    actions.append(button("Edit", "Ask differently, as a new branch", () => running || edit(turn, message)));
    if (conversations.children(turn.id).length === 0)
      actions.append(button("Ask again", "There was no answer", () => running || answer(turn)));
  } else {
    actions.append(
        button("Again", "Another answer, as a new branch", () => running || answer(conversations.turn(turn.parent))),
        button("Copy", "Copy the answer's text", () => copy(turn.text)));
  }
  item.append(message, actions);
  return item;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("The browser does not let this page copy.", true);
  }
}

function showConversation() {
  $("messages").replaceChildren(...conversations.path().map(messageItem));
  $("messages").scrollTop = $("messages").scrollHeight;
  showConversationList();
}

function showConversationList() {
  $("conversation").replaceChildren(...conversations.all.map((conversation) => {
    const option = new Option(Conversations.title(conversation), conversation.id);
    option.selected = conversation === conversations.current;
    return option;
  }));
}

// ---- an answer -----------------------------------------------------------------------------------

function requestBody(turn) {
  const messages = conversations.history(turn.id).map(({role, text}) => ({role, content: text}));
  const system = $("system").value.trim();
  if (system) messages.unshift({role: "system", content: system});
  const body = {model: $("model").value, messages, routing: true};
  for (const name of kSettings.slice(1)) {
    if ($(name).value !== "") body[name] = Number($(name).value);
  }
  return body;
}

/// Draws what has changed at most once a frame, however fast tokens come.
function framePainter(paint) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      paint();
    });
  };
}

/// Asks for an answer to the user's turn and shows it as it is written.
async function answer(question) {
  const body = requestBody(question);
  const conversation = conversations.current;
  const turn = conversations.add(question.id, "assistant", "");
  showConversation();
  const message = $("messages").lastElementChild.querySelector(".message");
  const controller = new AbortController();
  running = {turn, controller};
  showRunning(true);
  routing.clear();
  const before = storeCounts();
  const meter = {tokens: 0, first: 0, start: performance.now()};
  const paint = framePainter(() => {
    const list = $("messages");
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    renderMarkdown(message, turn.text);
    if (follows) list.scrollTop = list.scrollHeight;
    routing.draw();
    showSpeed(meter);
  });
  try {
    const {reason, timings} = await streamAnswer(body, $("key").value, controller.signal, (text, chosen) => {
      turn.text += text;
      ++meter.tokens;
      meter.first ||= performance.now();
      meter.last = performance.now();
      routing.add(text, chosen);
      paint();
    });
    meter.speed = timings?.decode_tokens_per_s;
    say(reason === "length" ? "The answer was cut at the token limit." : "");
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else say(error instanceof ApiFailure ? error.message : "The server cannot be reached.", true);
  }
  running = null;
  showRunning(false);
  if (!turn.text && meter.tokens === 0) conversations.discard(conversation, turn);
  if (!conversations.save()) say("The browser's storage is full: this conversation is not kept.", true);
  showConversation();
  routing.draw();
  await showStats(await before);
  showSpeed(meter);  // Beside the bound as it is now.
}

function showRunning(isRunning) {
  $("send").hidden = isRunning;
  $("stop").hidden = !isRunning;
  if (isRunning) say("…");
  else $("prompt").focus();
}

// ---- facts ---------------------------------------------------------------------------------------

const facts = new Map();

function showFacts(entries) {
  for (const [name, value] of Object.entries(entries)) {
    if (value === undefined || value === null) facts.delete(name);
    else facts.set(name, value);
  }
  $("facts").replaceChildren(...[...facts].flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
}

let bound = 0;

/// Three digits, as measurements have no more.
const kRate = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
const kCount = new Intl.NumberFormat("en");

function rate(tokensPerSecond) {
  return `${kRate.format(tokensPerSecond)} tokens/s`;
}

function showSpeed(meter) {
  if (meter.tokens < 2) return;
  // While it runs as pieces arrive, afterwards as the engine timed it.
  const speed = meter.speed || ((meter.tokens - 1) * 1000) / Math.max(1, meter.last - meter.first);
  const share = bound > 0 ? `, ${((100 * speed) / bound).toFixed(0)} % of bound` : "";
  showFacts({
    "first token": `${((meter.first - meter.start) / 1000).toFixed(2)} s`,
    speed: rate(speed) + share,
  });
}

/// What the machine allows an answer, and by what; undefined where nothing is known of it.
function boundText(stats) {
  if (bound > 0) return `${rate(bound)}${stats.expert_store ? `, by the ${stats.decode_bound_by}` : ""}`;
  return stats.expert_store ? "not known: this model's disk has not been measured" : undefined;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; count >= 1024 && i < units.length - 1; ++i) count /= 1024;
  return `${count.toFixed(i > 0 ? 1 : 0)} ${units[i]}`;
}

/// What the experts' cache has done so far, or null.
async function storeCounts() {
  try {
    return (await readStats($("key").value, $("model").value))?.expert_store ?? null;
  } catch {
    return null;
  }
}

/// `before`: the experts' cache when the last answer began, so that its part can be told.
async function showStats(before = null) {
  let stats;
  try {
    stats = await readStats($("key").value, $("model").value);
  } catch {
    return;  // A server without it, or gone: the answer's own errors say so.
  }
  if (!stats) return;
  routing.experts = stats.experts;
  bound = stats.decode_bound_tokens_per_s ?? 0;
  const store = stats.expert_store;
  const part = (name) => (store?.[name] ?? 0) - (before?.[name] ?? 0);
  const looked = part("hits") + part("misses");
  const since = before ? "" : " since the start";
  showFacts({
    model: stats.family,
    experts: stats.experts > 0 ? `${stats.experts_per_token} of ${stats.experts}` : undefined,
    "machine's bound": boundText(stats),
    "keys and values": `${kCount.format(stats.kv_pages_used)} of ${kCount.format(stats.kv_pages)} pages`,
    "prompt tokens reused": kCount.format(stats.prefix_hit_tokens),
    arithmetic: `${stats.kernels}, ${stats.threads} ${stats.threads === 1 ? "thread" : "threads"}`,
    "expert cache hits": looked > 0 ? `${((100 * part("hits")) / looked).toFixed(1)} %${since}` : undefined,
    "read from disk": looked > 0 ? bytes(part("bytes_read")) + since : undefined,
  });
}

// ---- the page ------------------------------------------------------------------------------------

async function showModels() {
  try {
    const models = await listModels($("key").value);
    $("model").replaceChildren(...models.map((model) => new Option(model.id, model.id)));
    say("");
    showStats();
  } catch (error) {
    say(error instanceof ApiFailure ? error.message : "The server cannot be reached.", true);
  }
}

function toggle(buttonId, targetId, shown = $(targetId).hidden) {
  $(targetId).hidden = !shown;
  $(buttonId).setAttribute("aria-expanded", shown);
}

function send() {
  const text = $("prompt").value.trim();
  if (!text || running) return;
  $("prompt").value = "";
  const last = conversations.path().at(-1);
  // A question that got no answer is left beside the new one, as a branch.
  const parent = last?.role === "user" ? last.parent : last?.id ?? 0;
  answer(conversations.add(parent, "user", text));
}

function startAnew() {
  running?.controller.abort();
  conversations.begin();
  routing.clear();
  showConversation();
  $("prompt").focus();
}

function restoreSettings() {
  const kept = JSON.parse(localStorage.getItem("moxie.settings") ?? "{}");
  for (const name of kSettings) {
    $(name).value = kept[name] ?? "";
    $(name).addEventListener("change", () => {
      const now = Object.fromEntries(kSettings.map((setting) => [setting, $(setting).value]));
      localStorage.setItem("moxie.settings", JSON.stringify(now));
    });
  }
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", () => running?.controller.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.controller.abort();
  if (event.altKey && event.key.toLowerCase() === "n") startAnew();
});
$("new").addEventListener("click", startAnew);
$("remove").addEventListener("click", () => {
  if (running || !confirm("Delete this conversation?")) return;
  conversations.remove();
  showConversation();
});
$("conversation").addEventListener("change", (event) => {
  running?.controller.abort();
  conversations.open(Number(event.target.value));
  showConversation();
});
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("settings-button").addEventListener("click", () => toggle("settings-button", "settings"));
$("panel-button").addEventListener("click", () => toggle("panel-button", "panel"));
$("key").addEventListener("change", showModels);
$("model").addEventListener("change", () => showStats());

restoreSettings();
showConversation();
showModels();
toggle("panel-button", "panel", window.matchMedia("(min-width: 801px)").matches);
$("prompt").focus();
