// The page: asks the API of this app, and shows tweets as text, never as markup.

import { WORDS } from "./words.js";

const LABELS = ["negative", "neutral", "positive"];
// A shape for each label: colour is never the only difference.
const SIGNS = { negative: "▼", neutral: "■", positive: "▲" };
const API = new URL("../", import.meta.url);
const KEY = "functions-key";
const PER_REQUEST = 100;
const MOST_LINES = 500;
const PATIENCE = 30_000;
// Seconds before each look at a correction that was just sent.
const LOOKS = [0.3, 0.7, 1, 2, 3, 5, 8, 10];

const language = navigator.languages.map((one) => one.slice(0, 2).toLowerCase()).find((one) => one in WORDS) ?? "en";
const plural = new Intl.PluralRules(language);
const percent = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });
const count = new Intl.NumberFormat(language);
const signed = new Intl.NumberFormat(language, { maximumFractionDigits: 0, signDisplay: "exceptZero" });

const find = (selector, under = document) => under.querySelector(selector);
const pause = (seconds) => new Promise((resume) => setTimeout(resume, 1000 * seconds));

function say(name, values = {}) {
  return WORDS[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

// --- the API --------------------------------------------------------------

/** What went wrong, in the reader's words; `detail` is what the API says of it, in English. */
class Trouble extends Error {
  constructor(words, status = 0, detail = "") {
    super(words);
    this.status = status;
    this.detail = detail;
  }
}

let key = "";
try {
  key = sessionStorage.getItem(KEY) ?? "";
} catch {
  // Storage is switched off: the key lasts as long as the page.
}

function keep(value) {
  key = value;
  find("#key-state").textContent = key ? say("keySet") : "";
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // As above.
  }
}

async function call(method, path, content) {
  const headers = key ? { "x-functions-key": key } : {};
  if (content) headers["Content-Type"] = "application/json";
  let response;
  let answer = null;
  try {
    response = await fetch(new URL(path, API), {
      method,
      headers,
      body: content && JSON.stringify(content),
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    answer = await response.json().catch((error) => {
      if (error instanceof SyntaxError) return null;
      throw error;
    });
  } catch (error) {
    throw new Trouble(say(error.name === "TimeoutError" ? "slow" : "gone"));
  }
  if (response.ok && answer !== null) return answer;
  throw trouble(response.status, answer);
}

function trouble(status, problem) {
  const detail = typeof problem?.detail === "string" ? problem.detail : "";
  if (status === 401 || status === 403) return new Trouble(say(key ? "keyWrong" : "keyAsked"), 401);
  if (status === 404 && !detail) return new Trouble(say("absent"), status);
  if (status === 429 || status === 503) return new Trouble(say("unready"), status, detail);
  if (status < 500 && status >= 400) return new Trouble(say("refused"), status, detail);
  return new Trouble(say("defect", { status }), status, detail);
}

// --- what is said ---------------------------------------------------------

function tell(place, words, detail = "") {
  place.classList.remove("error");
  place.replaceChildren(words);
  if (detail) {
    const said = element("span", "", detail);
    said.lang = "en";
    place.append(" ", said);
  }
}

function complain(place, error) {
  if (!(error instanceof Trouble)) throw error;
  if (error.status === 401) {
    tell(place, "");
    askForKey(error);
    return;
  }
  tell(place, error.message, error.detail);
  place.classList.add("error");
}

function askForKey(error) {
  find("#access").open = true;
  find("#key").setAttribute("aria-invalid", String(Boolean(key)));
  find("#key").focus();
  const said = find("#key-said");
  tell(said, error.message);
  said.classList.toggle("error", Boolean(key));
}

// --- the model ------------------------------------------------------------

let shownVersion = "";

async function showModel() {
  const model = await call("GET", "model");
  shownVersion = model.version;
  let words = say("model", { version: model.version });
  const sets = Object.entries(model.metrics ?? {}).filter(([, set]) => typeof set?.macro_recall === "number");
  // The golden set says more than any other; without one, the first that is there.
  const [set, figures] = sets.find(([name]) => name.includes("golden")) ?? sets[0] ?? [];
  if (figures) {
    const values = { score: percent.format(figures.macro_recall), rows: count.format(figures.rows ?? 0), set };
    words += ` ${say(figures.rows ? "score" : "scoreOnly", values)}`;
  }
  find("#model").textContent = words;
}

// --- why ------------------------------------------------------------------

async function explain(card, text, button) {
  const place = find(".reasons", card);
  button.hidden = true;
  tell(place, say("weighing"));
  try {
    const answer = await call("POST", "explain", { text });
    const strongest = Math.max(0, ...answer.words.map((word) => Math.abs(word.weight)));
    const matters = answer.words.filter((word) => Math.abs(word.weight) >= Math.max(0.02, strongest / 4));
    mark(find("blockquote", card), text, matters, answer.label);
    tell(place, reasons(say(answer.label), matters));
  } catch (error) {
    button.hidden = false;
    complain(place, error);
  }
}

function mark(place, text, words, label) {
  const characters = Array.from(text); // the offsets count code points
  const slice = (start, end) => characters.slice(start, end).join("");
  let at = 0;
  place.replaceChildren();
  for (const { start, end, weight } of words) {
    place.append(slice(at, start), element("mark", weight > 0 ? `for ${label}` : "against", slice(start, end)));
    at = end;
  }
  place.append(slice(at));
}

function reasons(label, words) {
  if (!words.length) return say("none");
  const list = (wanted) =>
    words
      .filter(({ weight }) => weight > 0 === wanted)
      .sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight))
      .map(({ text, weight }) => {
        const points = signed.format(100 * weight).replace("-", "−");
        return say("word", { word: text.replace(/[,.;:]+$/, ""), points });
      })
      .join(", ");
  const sentences = [];
  if (list(true)) sentences.push(say("for", { label, words: list(true) }));
  if (list(false)) sentences.push(say("against", { words: list(false) }));
  return [...sentences, say("points", { label })].join(" ");
}

// --- feedback -------------------------------------------------------------

async function correct(card, answer, label) {
  const verdict = find(".verdict", card);
  const place = find(".state", card);
  if (verdict.dataset.sending) return;
  const buttons = verdict.querySelectorAll("button");
  verdict.dataset.sending = "yes";
  for (const button of buttons) button.setAttribute("aria-disabled", "true");
  tell(place, say("sending"));
  try {
    const { id } = await call("POST", "feedback", { prediction: answer.prediction, text: answer.text, label });
    const focused = verdict.contains(document.activeElement);
    tell(place, `${say("thanks")} ${say("queued")}`);
    verdict.hidden = true;
    if (focused) place.focus();
    await follow(place, id, LOOKS);
  } catch (error) {
    for (const button of buttons) button.removeAttribute("aria-disabled");
    delete verdict.dataset.sending;
    complain(place, error);
  }
}

/** Look until the correction is stored; a look that fails is as good as none. */
async function follow(place, id, looks) {
  for (const seconds of looks) {
    await pause(seconds);
    if (!place.isConnected) return;
    const found = await call("GET", `corrections/${encodeURIComponent(id)}`).catch(() => null);
    if (found && !onItsWay(found)) {
      showState(place, id, found);
      return;
    }
  }
  tell(place, say("queuedStill"));
  lookAgain(place, id);
}

/** Accepted by the API and not stored yet: there is no date of it. */
function onItsWay({ state, created_at: created }) {
  return state === "queued" || (state === "pending" && !created);
}

function showState(place, id, found) {
  const isKnown = ["pending", "held", "accepted", "learned", "erased"].includes(found.state);
  let words = isKnown ? say(found.state) : say("other", { state: found.state });
  if (found.kind === "confirmation" && found.state !== "erased") words = say("confirmed");
  // What is accepted needs no reason. Others are "code: reason in English"; known codes have words of ours.
  const why = found.state === "accepted" ? "" : (found.why ?? "");
  const known = `why.${why.split(":")[0]}`;
  if (known in WORDS[language]) tell(place, `${say("thanks")} ${words} ${say(known)}`);
  else tell(place, `${say("thanks")} ${words}`, why);
  if (!["accepted", "learned", "erased"].includes(found.state)) lookAgain(place, id);
}

function lookAgain(place, id) {
  const button = element("button", "plain", say("again"));
  button.type = "button";
  button.addEventListener("click", () => {
    place.focus();
    follow(place, id, [0]);
  });
  place.append(" ", button);
}

// --- answers --------------------------------------------------------------

function makeCard(answer, number) {
  const card = find("#card").content.cloneNode(true).firstElementChild;
  find("blockquote", card).textContent = answer.text;
  if (answer.error) {
    find(".answer", card).hidden = true;
    const failed = find(".failed", card);
    failed.hidden = false;
    tell(failed, say("refused"), answer.error.detail);
    return card;
  }
  const { label } = answer;
  const head = find(".label", card);
  head.classList.add(label);
  find(".sign", head).textContent = SIGNS[label];
  find(".name", head).textContent = say(label);
  find(".bars", card).append(...LABELS.map((one) => bar(one, answer.scores[one], one === label)));
  const cut = find(".cut", card);
  cut.hidden = !answer.truncated;
  cut.textContent = say("cut");
  const why = find(".ask-why", card);
  why.textContent = say("why");
  why.setAttribute("aria-label", say("whyOf", { number }));
  why.addEventListener("click", () => explain(card, answer.text, why));
  addVerdict(card, answer, number);
  return card;
}

function bar(label, score, chosen) {
  const fill = element("span", "fill");
  fill.style.width = `${100 * score}%`;
  const track = element("span", "track", fill);
  track.setAttribute("aria-hidden", "true");
  const row = element("li", label, element("span", "", say(label)), track);
  row.append(" ", element("span", "amount", percent.format(score)));
  row.classList.toggle("chosen", chosen);
  return row;
}

function addVerdict(card, answer, number) {
  const verdict = find(".verdict", card);
  verdict.setAttribute("aria-label", say("verdict", { number }));
  const right = find(".right", verdict);
  right.textContent = say("right");
  right.addEventListener("click", () => correct(card, answer, answer.label));
  const wrong = find(".wrong", verdict);
  wrong.append(element("span", "asked", say("wrong")));
  for (const label of LABELS.filter((one) => one !== answer.label)) {
    const button = element("button", label, `${SIGNS[label]} ${say(label)}`);
    button.type = "button";
    button.setAttribute("aria-label", `${say("wrong")} ${say(label)}`);
    button.addEventListener("click", () => correct(card, answer, label));
    wrong.append(button);
  }
}

async function predict(texts) {
  if (texts.length === 1) {
    const answer = await call("POST", "predict", { text: texts[0] });
    return [{ ...answer, text: texts[0] }];
  }
  const answers = [];
  for (let start = 0; start < texts.length; start += PER_REQUEST) {
    const documents = texts.slice(start, start + PER_REQUEST).map((text, at) => ({ id: String(at), text }));
    const batch = await call("POST", "predict", { documents });
    for (const one of [...batch.documents, ...batch.errors]) {
      answers[start + Number(one.id)] = { ...one, text: texts[start + Number(one.id)], model_version: batch.model_version };
    }
  }
  return answers;
}

function summary(answers) {
  if (answers.length === 1) {
    const [{ label, scores }] = answers;
    return say("single", { label: say(label), score: percent.format(scores[label]) });
  }
  const failed = answers.filter((answer) => answer.error).length;
  const done = answers.length - failed;
  const words = say(`done.${plural.select(done)}`, { count: done });
  return failed ? `${words} ${say(`failed.${plural.select(failed)}`, { count: failed })}` : words;
}

async function ask(event) {
  event.preventDefault();
  const send = find("#send");
  const said = find("#said");
  if (send.getAttribute("aria-disabled")) return;
  const texts = find("#texts").value.split(/\r\n|[\n\r\u2028\u2029]/).filter((line) => line.trim());
  if (!texts.length || texts.length > MOST_LINES) {
    const words = say(texts.length ? "many" : "nothing", { most: MOST_LINES, count: texts.length });
    complain(said, new Trouble(words));
    find("#texts").focus();
    return;
  }
  send.setAttribute("aria-disabled", "true");
  tell(said, say("working"));
  try {
    const answers = await predict(texts);
    const cards = answers.map((answer, at) => makeCard(answer, at + 1));
    find("#cards").replaceChildren(...cards);
    find("#results").hidden = false;
    tell(said, summary(answers));
    tell(find("#key-said"), "");
    if (answers.length === 1) explain(cards[0], texts[0], find(".ask-why", cards[0]));
    const { model_version: version } = answers.find((answer) => answer.model_version) ?? {};
    if (version && version !== shownVersion) showModel().catch(() => {});
  } catch (error) {
    complain(said, error);
  } finally {
    send.removeAttribute("aria-disabled");
  }
}

// --- the key --------------------------------------------------------------

async function useKey(event) {
  event.preventDefault();
  const said = find("#key-said");
  const input = find("#key");
  const given = input.value.trim();
  if (!/^[!-~]+$/.test(given)) {
    complain(said, new Trouble(say(given ? "keyStrange" : "keyEmpty")));
    input.focus();
    return;
  }
  keep(given);
  try {
    await showModel();
  } catch (error) {
    if (error.status === 401) keep("");
    // Said of the key that was given, although it is not kept.
    complain(said, error.status === 401 ? new Trouble(say("keyWrong")) : error);
    input.setAttribute("aria-invalid", String(error.status === 401));
    input.focus();
    return;
  }
  input.value = "";
  input.removeAttribute("aria-invalid");
  find("#access").open = false;
  tell(said, say("keyGood"));
  find("#texts").focus();
}

function start() {
  document.documentElement.lang = language;
  for (const place of document.querySelectorAll("[data-say]")) place.textContent = say(place.dataset.say);
  keep(key);
  find("#ask").addEventListener("submit", ask);
  find("#texts").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) ask(event);
  });
  find("#key-form").addEventListener("submit", useKey);
  find("#key-forget").addEventListener("click", () => {
    keep("");
    find("#key").value = "";
    tell(find("#key-said"), say("keyForgotten"));
  });
  showModel().catch((error) => complain(find("#said"), error));
}

start();
