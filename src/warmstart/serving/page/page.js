"use strict";
// The page of a server: it asks the routes that programs ask, and nothing else. Texts are only ever
// set as text, so that nothing that a model writes can become a part of the page.

const $ = (id) => document.getElementById(id);
const PANES = ["ask", "generate", "chat", "compare", "search"];
const NAMES = { text: "Text", sentence1: "First text", sentence2: "Second text", question: "Question",
  context: "Passage", source: "Text", prompt: "Prompt", answer: "Answer", response: "Answer" };
const LONG = new Set(["text", "context", "source", "documents", "sentence1", "sentence2", "prompt", "answer", "response"]);
const SETTINGS = [
  ["max_tokens", "Tokens at most", { min: 1, step: 1, value: 128 }],
  ["temperature", "Temperature", { min: 0, max: 2, step: "any", value: 0.7 }, "0: always the likeliest token"],
  ["top_p", "Top p", { min: 0.01, max: 1, step: "any", value: 1 }, "1: all tokens"],
  ["top_k", "Top k", { min: 0, step: 1, value: 0 }, "0: all tokens"],
  ["min_p", "Min p", { min: 0, max: 1, step: "any", value: 0 }],
  ["repetition_penalty", "Repetition penalty", { min: 0.01, max: 100, step: "any", value: 1 }, "1: none"],
  ["seed", "Seed", { min: 0, step: 1, value: "" }, "the same seed, the same text"],
];
const SHOWN = 8;
let key = "", models = [], indexes = [];

function el(tag, values, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(values || {})) {
    if (name === "class") node.className = value;
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// ---- asking the server

class Failure extends Error {}

async function send(path, body, signal) {
  const headers = { Accept: "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, signal, cache: "no-store", credentials: "omit",
      body: body ? JSON.stringify(body) : undefined });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server does not answer. Look whether it still runs and you are connected, then try again.");
  }
  if (!response.ok) throw new Failure(await reason(response));
  return response;
}

async function reason(response) {
  let words = "";
  try { words = (await response.json()).error.message; } catch { words = `it answered ${response.status}`; }
  const wait = Number(response.headers.get("Retry-After"));
  if (response.status === 401) {
    askForKey(key ? "The server does not know this key." : "");
    return "The server wants a key: enter it above, then try again.";
  }
  if (response.status === 429 || response.status === 503) {
    return `The server is busy (${words}). Try again ${wait ? `in ${wait} s` : "in a moment"}.`;
  }
  if (response.status >= 500) return `The server could not answer: ${words}.`;
  return sentence(words.replace(/\binput(\.\d+)?\b/, "the text"));
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/\.?$/, ".");

async function ask(path, body, signal) {
  const begin = performance.now();
  const data = await (await send(path, body, signal)).json();
  return { data, ms: performance.now() - begin };
}

async function* events(path, body, signal) {
  const response = await send(path, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", whole = false;
  for (;;) {
    let part;
    try { part = await reader.read(); } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Failure("The connection broke before the text was complete.");
    }
    if (part.done) break;
    rest += part.value.replace(/\r/g, "");
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const data = rest.slice(0, end).split("\n").filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trim()).join("\n");
      rest = rest.slice(end + 2);
      if (data === "[DONE]") { whole = true; continue; }
      if (!data) continue;
      const event = JSON.parse(data);
      if (event.error) throw new Failure(sentence(event.error.message));
      yield event;
    }
  }
  if (!whole) throw new Failure("The connection broke before the text was complete.");
}

// ---- the state of a pane

async function during(pane, work) {
  const form = pane.querySelector("form"), status = pane.querySelector(".status");
  const alarm = pane.querySelector(".alarm"), button = form.querySelector("button.main");
  const stop = pane.querySelector(".stop"), control = new AbortController();
  if (pane.classList.contains("busy")) return;
  alarm.hidden = true;
  button.setAttribute("aria-disabled", "true");
  pane.classList.add("busy");
  status.textContent = "The model is at work";
  if (stop) { stop.hidden = false; stop.onclick = () => control.abort(); }
  try {
    status.textContent = (await work(control.signal)) || "";
  } catch (error) {
    status.textContent = error.name === "AbortError" ? "Stopped." : "";
    if (error.name !== "AbortError") {
      alarm.textContent = error instanceof Failure ? error.message : `This page failed: ${error.message}`;
      alarm.hidden = false;
    }
  } finally {
    pane.classList.remove("busy");
    button.removeAttribute("aria-disabled");
    if (stop) stop.hidden = true;
  }
}

const time = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
const sure = (value) =>
  value >= 0.9995 ? "over 99.9 %" : value < 0.0005 ? "< 0.1 %" : `${(100 * value).toFixed(1)} %`;
const has = (model, path) => model.routes.includes(path);
const named = (select) => models.find((model) => model.id === select.value);

// ---- what a model is asked with, and its answer as a part of the page

function fieldsOf(model) {
  if (has(model, "/v1/answer")) return ["question", "context"];
  if (has(model, "/v1/embeddings")) return ["query", "documents"];
  if (has(model, "/v1/completions")) return ["text"];
  return model.inputs.length ? model.inputs : ["text"];
}

function labelOf(field, model) {
  if (field === "query") return "Text";
  if (field === "documents") return "Others to compare it with, one on each line";
  if (field === "text" && has(model, "/v1/completions")) return "Prompt";
  return NAMES[field] || field.charAt(0).toUpperCase() + field.slice(1);
}

function drawFields(place, prefix, model) {
  const old = Object.fromEntries([...place.querySelectorAll("textarea, input")].map((f) => [f.name, f.value]));
  place.replaceChildren(...fieldsOf(model).flatMap((field) => {
    const id = `${prefix}-${field}`;
    const input = LONG.has(field) ? el("textarea", { id, name: field, rows: 4, required: true })
      : el("input", { id, name: field, type: "text", required: true });
    input.value = old[field] || "";
    return [el("label", { htmlFor: id }, labelOf(field, model)), input];
  }));
}

const valuesOf = (place) =>
  Object.fromEntries([...place.querySelectorAll("textarea, input")].map((f) => [f.name, f.value]));

async function answer(model, values, signal) {
  const fields = fieldsOf(model);
  const input = fields.length === 1 ? values[fields[0]] : values;
  if (has(model, "/v1/embeddings")) return ranking(model, values, signal);
  for (const [path, show] of [["/v1/classify", classes], ["/v1/tag", spans], ["/v1/answer", passage],
    ["/v1/score", number]]) {
    if (!has(model, path)) continue;
    const { data, ms } = await ask(path, { model: model.id, input, truncate: true }, signal);
    const cut = data.truncated.length
      ? el("p", { class: "soft" }, `The text is longer than the ${model.limits.tokens} tokens that the model reads: only its beginning was read.`) : null;
    return { node: el("div", {}, show(data.data[0], values), cut), ms, said: data.data[0].label };
  }
  for (const path of ["/v1/summarize", "/v1/translate"]) {
    if (!has(model, path)) continue;
    const { data, ms } = await ask(path, { model: model.id, input }, signal);
    return { node: el("p", { class: "written" }, data.data[0].text || "(nothing)"), ms };
  }
  return written(model, input, signal);
}

async function written(model, text, signal) {
  const talks = has(model, "/v1/chat/completions") && model.chat_template === "own";
  const path = talks ? "/v1/chat/completions" : "/v1/completions";
  const prompt = talks ? { messages: [{ role: "user", content: text }] } : { prompt: text };
  const { data, ms } = await ask(path, { model: model.id, ...prompt, max_tokens: 128, temperature: 0 }, signal);
  const choice = data.choices[0];
  return { node: el("p", { class: "written" }, (talks ? choice.message.content : choice.text) || "(nothing)"), ms };
}

function classes(row) {
  const chosen = new Set(row.labels || [row.label]);
  const order = Object.entries(row.scores).sort((a, b) => b[1] - a[1]);
  const title = row.labels && !row.labels.length ? "none of the labels" : [...chosen].join(", ");
  const body = el("tbody");
  const draw = (count) => body.replaceChildren(...order.slice(0, count).map(([label, value]) => {
    const bar = el("div");
    bar.style.width = `${100 * value}%`;
    return el("tr", { class: chosen.has(label) ? "chosen" : "" }, el("th", { scope: "row" }, label),
      el("td", { class: "meter" }, el("div", {}, bar)), el("td", { class: "n" }, sure(value)));
  }));
  draw(SHOWN);
  const more = order.length > SHOWN
    ? el("button", { type: "button", onclick: () => { draw(order.length); more.remove(); } }, `Show all ${order.length} labels`) : null;
  return el("div", {}, el("p", { class: "hero" }, el("strong", {}, title), el("span", {}, row.labels ? "" : sure(row.confidence))),
    el("table", { class: "sure" }, el("caption", {}, "How sure the model is of each label"), body), more);
}

// Places count characters as Python does, which are not the units of a JavaScript string.
function marked(text, parts) {
  const letters = Array.from(text), pieces = [], kinds = [];
  let at = 0;
  for (const part of [...parts].sort((a, b) => a.start - b.start)) {
    if (part.start < at) continue;
    if (!kinds.includes(part.label)) kinds.push(part.label);
    pieces.push(letters.slice(at, part.start).join(""));
    pieces.push(el("mark", { class: `c${kinds.indexOf(part.label) % 6}` }, letters.slice(part.start, part.end).join(""),
      part.label ? el("span", { class: "kind" }, part.label) : null));
    at = part.end;
  }
  return el("p", { class: "text" }, ...pieces, letters.slice(at).join(""));
}

function spans(row, values) {
  const text = values.text ?? Object.values(values)[0];
  if (!row.spans.length) return el("div", {}, el("p", { class: "text" }, text), el("p", { class: "soft" }, "Nothing is marked in this text."));
  const rows = row.spans.map((span) => el("tr", {}, el("th", { scope: "row" }, span.text), el("td", {}, span.label),
    el("td", { class: "n" }, sure(span.score))));
  return el("div", {}, marked(text, row.spans), el("table", { class: "sure" }, el("thead", {}, el("tr", {},
    el("th", { scope: "col" }, "Words"), el("th", { scope: "col" }, "Kind"), el("th", { scope: "col", class: "n" }, "Sure"))),
  el("tbody", {}, ...rows)));
}

function passage(row, values) {
  if (!row.text) return el("div", {}, el("p", { class: "hero" }, el("strong", {}, "No answer"), el("span", {}, sure(row.confidence))),
    el("p", { class: "soft" }, "The model holds that the passage does not answer the question."), el("p", { class: "text" }, values.context));
  const end = row.start + Array.from(row.text).length;
  return el("div", {}, el("p", { class: "hero" }, el("strong", {}, row.text), el("span", {}, sure(row.confidence))),
    row.start === null ? el("p", { class: "text" }, values.context) : marked(values.context, [{ start: row.start, end, label: "" }]));
}

const number = (row) => el("p", { class: "hero" }, el("strong", {}, String(Number(row.value.toPrecision(6)))));

async function ranking(model, values, signal) {
  const documents = values.documents.split("\n").map((line) => line.trim()).filter(Boolean);
  const { data, ms } = await ask("/v1/rerank", { model: model.id, query: values.query, documents, truncate: true }, signal);
  const rows = data.results.map((row) => el("li", {}, el("span", { class: "similarity" }, row.relevance_score.toFixed(3)), documents[row.index]));
  return { node: el("ol", { class: "points" }, ...rows), ms };
}

function facts(model) {
  const parts = [model.task.replace(/_/g, " ")];
  if (model.labels.length) parts.push(`${model.labels.length} labels`);
  parts.push(`${has(model, "/v1/chat/completions") ? "reads and writes" : "reads"} ${model.limits.tokens.toLocaleString("en")} tokens`);
  return parts.join(", ");
}

// ---- the panes

function drawSettings(place, prefix, several) {
  const list = several ? [...SETTINGS, ["n", "Answers", { min: 1, max: 8, step: 1, value: 1 }, "side by side"]] : SETTINGS;
  place.replaceChildren(...list.map(([name, title, limits, help]) => {
    const id = `${prefix}-${name}`, many = several && name === "temperature";
    const input = many ? el("input", { id, name, type: "text", inputMode: "decimal", value: "0.7" })
      : el("input", { id, name, type: "number", ...limits });
    const hint = many ? "several with commas: a column each" : help;
    return el("div", {}, el("label", { htmlFor: id }, title), input, hint ? el("p", { class: "soft" }, hint) : null);
  }), el("div", {}, el("label", { htmlFor: `${prefix}-stop` }, "Stop at"),
    el("input", { id: `${prefix}-stop`, name: "stop", type: "text" }), el("p", { class: "soft" }, "a text at which the answer ends")));
}

function settingsOf(place) {
  const values = {};
  for (const input of place.querySelectorAll("input")) {
    const text = input.value.trim();
    if (!text) continue;
    values[input.name] = input.name === "stop" ? [input.value.replace(/\\n/g, "\n")] : input.name === "temperature" ? text : Number(text);
  }
  return values;
}

function temperatures(text) {
  const values = String(text ?? "1").split(",").map((word) => word.trim()).filter(Boolean).map(Number);
  if (!values.length || values.some((value) => !(value >= 0 && value <= 2))) {
    throw new Failure("Temperature is a number from 0 to 2, or several with commas between.");
  }
  return [...new Set(values)];
}

const ENDS = { stop: "ended by itself", length: "cut at the limit" };

async function generate(signal) {
  const model = named($("generate-model")), place = $("generate-results");
  const { temperature, n = 1, ...rest } = settingsOf($("generate-settings"));
  const values = temperatures(temperature), text = $("generate-prompt").value, begin = performance.now();
  const talks = has(model, "/v1/chat/completions") && model.chat_template === "own" && !$("generate-raw").checked;
  const path = talks ? "/v1/chat/completions" : "/v1/completions";
  const prompt = talks ? { messages: [{ role: "user", content: text }] } : { prompt: text };
  place.replaceChildren();
  let tokens = 0;
  const columns = values.map((value) => Array.from({ length: value === 0 ? 1 : n }, (_, index) => {
    const title = [values.length > 1 ? `Temperature ${value}` : "", n > 1 && value !== 0 ? `answer ${index + 1}` : ""].filter(Boolean).join(", ");
    const column = { text: el("p", { class: "written" }), end: el("p", { class: "small" }) };
    place.append(el("div", { class: "column" }, title ? el("h3", {}, title.charAt(0).toUpperCase() + title.slice(1)) : null, column.text, column.end));
    return column;
  }));
  await Promise.all(values.map(async (value, row) => {
    const body = { model: model.id, ...prompt, ...rest, temperature: value, n: columns[row].length };
    for await (const event of events(path, body, signal)) {
      if (event.usage) tokens += event.usage.completion_tokens;
      for (const choice of event.choices) {
        const column = columns[row][choice.index], more = talks ? choice.delta.content : choice.text;
        if (more) column.text.append(more);
        if (choice.finish_reason) {
          if (!column.text.textContent) column.text.textContent = "(nothing)";
          column.end.textContent = `${ENDS[choice.finish_reason] || choice.finish_reason}, ${time(performance.now() - begin)}`;
        }
      }
    }
  }));
  return pace(tokens, begin);
}

function pace(tokens, begin, first) {
  const ms = performance.now() - begin;
  const start = first ? `, the first after ${time(first)}` : "";
  return `${tokens} ${tokens === 1 ? "token" : "tokens"} in ${time(ms)} (${(1000 * tokens / ms).toFixed(1)} a second${start}).`;
}

const talk = [];

function say(role, text) {
  const words = el("span", { class: "written" }, text);
  const item = el("li", { class: role }, el("span", { class: "who" }, role === "user" ? "You" : "Model"), words);
  $("chat-log").append(item);
  $("chat-log").scrollTop = $("chat-log").scrollHeight;
  return words;
}

function drawTalk() {
  $("chat-log").replaceChildren();
  talk.forEach((message) => say(message.role, message.content || "(nothing)"));
  $("chat-undo").disabled = $("chat-new").disabled = !talk.length;
}

async function chat(signal) {
  const input = $("chat-text"), text = input.value, model = named($("chat-model")), begin = performance.now();
  const system = $("chat-system").value.trim();
  const { temperature, ...rest } = settingsOf($("chat-settings"));
  const messages = [...(system ? [{ role: "system", content: system }] : []), ...talk, { role: "user", content: text }];
  const body = { model: model.id, messages, ...rest, temperature: temperatures(temperature)[0] };
  $("chat-log").setAttribute("aria-busy", "true");
  say("user", text);
  input.value = "";
  const words = say("assistant", "");
  let tokens = 0, first = 0, whole = "";
  try {
    for await (const event of events("/v1/chat/completions", body, signal)) {
      if (event.usage) tokens = event.usage.completion_tokens;
      const more = event.choices.length ? event.choices[0].delta.content : "";
      if (!more) continue;
      first = first || performance.now() - begin;
      whole += more;
      words.textContent = whole;
      $("chat-log").scrollTop = $("chat-log").scrollHeight;
    }
  } catch (error) {
    $("chat-log").removeAttribute("aria-busy");
    if (error.name !== "AbortError" || !whole) {
      if (!input.value) input.value = text;
      drawTalk();
      throw error;
    }
  }
  talk.push({ role: "user", content: text }, { role: "assistant", content: whole });
  $("chat-log").removeAttribute("aria-busy");
  drawTalk();
  return signal.aborted ? "Stopped." : pace(tokens, begin, first);
}

async function compare(signal) {
  const both = [named($("compare-first")), named($("compare-second"))], values = valuesOf($("compare-fields"));
  const place = $("compare-results");
  place.replaceChildren();
  const answers = [];
  // one after the other, so that the times are their own
  for (const model of both) answers.push(await answer(model, values, signal));
  place.replaceChildren(...answers.map(({ node, ms }, index) => el("div", { class: "column" },
    el("h3", {}, both[index].id), node, el("p", { class: "small" }, time(ms)))));
  const [first, second] = answers.map((one) => one.said);
  if (!first || !second) return "";
  return first === second ? `Both give “${first}”.` : "They do not give the same label.";
}

async function search(signal) {
  const body = { index: $("search-index").value, query: $("search-query").value, top: Number($("search-top").value) };
  const { data, ms } = await ask("/v1/search", body, signal);
  $("search-results").replaceChildren(...data.data.map((row) => el("li", {}, el("span", { class: "similarity" }, row.similarity.toFixed(3)), row.text,
    el("p", { class: "soft small" }, `${row.file}, line ${row.line}`))));
  return data.data.length ? `${data.data.length} texts in ${time(ms)}, the nearest first.` : "The index holds no text.";
}

async function askOne(signal) {
  const place = $("ask-results");
  place.replaceChildren();
  const { node, ms } = await answer(named($("ask-model")), valuesOf($("ask-fields")), signal);
  place.replaceChildren(node);
  return `Answered in ${time(ms)}.`;
}

// ---- which panes there are, and moving between them

function fill(select, list) {
  const old = select.value;
  select.replaceChildren(...list.map((item) => el("option", { value: item.id ?? item }, item.id ?? item)));
  if (list.some((item) => (item.id ?? item) === old)) select.value = old;
}

const same = (one, two) => fieldsOf(one).join() === fieldsOf(two).join();

function draw() {
  const writers = models.filter((model) => has(model, "/v1/completions"));
  const talkers = models.filter((model) => has(model, "/v1/chat/completions"));
  const askable = models.filter((model) => !writers.includes(model) || has(model, "/v1/summarize") || has(model, "/v1/translate"));
  const pairs = models.filter((model) => models.some((other) => other !== model && same(model, other)));
  fill($("ask-model"), askable);
  fill($("generate-model"), writers);
  fill($("chat-model"), talkers);
  fill($("compare-first"), pairs);
  fill($("search-index"), indexes);
  const there = { ask: askable, generate: writers, chat: talkers, compare: pairs, search: indexes };
  for (const name of PANES) $(`tab-${name}`).hidden = !there[name].length;
  if (askable.length) choose("ask");
  if (writers.length) choose("generate");
  if (talkers.length) choose("chat");
  if (pairs.length) choose("compare");
  const open = PANES.filter((name) => there[name].length);
  $("tabs").hidden = !open.length;
  if (open.length) show(open.includes(location.hash.slice(1)) ? location.hash.slice(1) : open[0]);
  else alarm("This server has no models.");
}

function choose(pane) {
  if (pane === "compare") {
    const first = named($("compare-first"));
    fill($("compare-second"), models.filter((model) => model !== first && same(first, model)));
    const second = named($("compare-second"));
    drawFields($("compare-fields"), "compare", first);
    $("compare-first-facts").textContent = facts(first);
    $("compare-second-facts").textContent = facts(second);
    return;
  }
  const model = named($(`${pane}-model`));
  $(`${pane}-facts`).textContent = facts(model);
  if (pane === "ask") drawFields($("ask-fields"), "ask", model);
  if (pane === "generate") $("generate-raw-line").hidden = model.chat_template !== "own";
  const most = $(`${pane}-max_tokens`);
  if (most && model.limits.new_tokens) most.max = model.limits.new_tokens;
}

function show(name, focus) {
  for (const other of PANES) {
    const tab = $(`tab-${other}`), on = other === name;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    $(other).hidden = !on;
  }
  if (focus) $(`tab-${name}`).focus();
  history.replaceState(null, "", `#${name}`);
}

function move(event) {
  const open = PANES.filter((name) => !$(`tab-${name}`).hidden);
  const at = open.findIndex((name) => $(`tab-${name}`) === document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: open.length - 1 }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  show(open[(to + open.length) % open.length], true);
}

// ---- keys, and the beginning

function askForKey(why) {
  $("key-form").hidden = false;
  $("key-alarm").hidden = !why;
  $("key-alarm").textContent = why;
  $("key").focus();
}

function alarm(text) {
  $("load-alarm").textContent = text;
  $("load-alarm").hidden = !text;
}

async function load() {
  alarm("");
  $("again").hidden = true;
  try {
    const { data } = await ask("/v1/models");
    models = data.data;
    indexes = data.indexes;
    $("key-form").hidden = true;
    draw();
  } catch (error) {
    if (!$("key-form").hidden) return;
    alarm(error.message);
    $("again").hidden = false;
  }
}

function begin() {
  drawSettings($("generate-settings"), "generate", true);
  drawSettings($("chat-settings"), "chat", false);
  for (const name of PANES) {
    $(`tab-${name}`).addEventListener("click", () => show(name));
    const work = { ask: askOne, generate, chat, compare, search }[name];
    $(name).querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      during($(name), work);
    });
    $(name).addEventListener("keydown", (event) => {
      const quick = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      const plain = event.key === "Enter" && event.target.id === "chat-text" && !event.shiftKey && !event.isComposing;
      if (quick || plain) {
        event.preventDefault();
        $(name).querySelector("form").requestSubmit();
      }
    });
  }
  document.addEventListener("keydown", (event) => {
    const stop = [...document.querySelectorAll(".stop")].find((button) => button.offsetParent);
    if (event.key === "Escape" && stop) stop.click();
  });
  $("tabs").addEventListener("keydown", move);
  for (const pane of ["ask", "generate", "chat"]) $(`${pane}-model`).addEventListener("change", () => choose(pane));
  $("compare-first").addEventListener("change", () => choose("compare"));
  $("compare-second").addEventListener("change", () => {
    $("compare-second-facts").textContent = facts(named($("compare-second")));
  });
  $("chat-new").addEventListener("click", () => { talk.length = 0; drawTalk(); $("chat-text").focus(); });
  $("chat-undo").addEventListener("click", () => {
    $("chat-text").value = talk.splice(-2)[0].content;
    drawTalk();
    $("chat-text").focus();
  });
  $("load-again").addEventListener("click", load);
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = $("key").value.trim();
    load();
  });
  load();
}

begin();
