// The approver's page.

import {API, Failure, base64, bytes, bytesOfURL} from './api.js';
import * as notify from './notify.js';
import * as passkey from './passkey.js';
import * as words from './words.js';

const $ = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const pollEvery = 3000;

let config = null;
let api = null;
let accounts = [];     // {token, user, computer, phone, credential_id, ...}, one for each passkey
let enrolment = null;  // what the code said; in memory only
let wanted = '';       // the challenge that a notification was about
const cards = new Map();
const closed = new Set(); // the ids of cards that the person has put away
let clock = 0;         // by how much this phone's clock is behind the server's, in ms

// What the code says is read once and leaves the address bar at once: it must not
// be in the history, and nobody must be able to read it off the screen.
function readFragment() {
  const fragment = location.hash.slice(1);
  if (fragment === '') return;
  history.replaceState(null, '', location.pathname);
  const said = new URLSearchParams(fragment);
  if (said.has('c')) wanted = said.get('c');
  if (!said.has('e')) return;
  const e = {id: said.get('e'), device: said.get('d') ?? '', computer: said.get('n') ?? '', user: said.get('u') ?? '', secret: null};
  try {
    e.secret = bytesOfURL(said.get('s') ?? '');
  } catch {
    e.secret = new Uint8Array();
  }
  enrolment = e;
}

// Storage can be forbidden: then the page forgets, and opens with the passkey.
function load() {
  try {
    const list = JSON.parse(localStorage.getItem('accounts') ?? '[]');
    accounts = Array.isArray(list) ? list.filter((a) => typeof a?.token === 'string' && typeof a.credential_id === 'string') : [];
  } catch {
    accounts = [];
  }
}

function save() {
  try {
    localStorage.setItem('accounts', JSON.stringify(accounts));
  } catch {
    // See load.
  }
}

function addAccount(token, session) {
  accounts = accounts.filter((a) => a.credential_id !== session.credential_id);
  accounts.push({token, ...session});
  save();
}

function dropAccount(account) {
  accounts = accounts.filter((a) => a !== account);
  save();
}

// The views. One is shown; its heading gets the focus, so that a screen reader
// begins there.
const views = ['loading', 'message', 'enrol', 'enrolled', 'signin', 'home'];

function show(view, quiet) {
  if (!$(view).hidden) return;
  for (const v of views) $(v).hidden = v !== view;
  if (!quiet) document.querySelector(`#${view} h1`)?.focus();
}

function message(mark, title, text, button, action) {
  $('message-mark').className = 'mark ' + mark;
  $('message-title').textContent = title;
  $('message-text').textContent = text;
  $('message-button').hidden = !button;
  $('message-button').textContent = button ?? '';
  $('message-button').onclick = action ?? null;
  show('message');
}

function say(text) {
  $('live').textContent = text;
}

function banner(text) {
  if ($('banner').textContent !== text) $('banner').textContent = text;
  $('banner').hidden = text === '';
}

function status(element, text, wrong) {
  element.textContent = text;
  element.classList.toggle('wrong', wrong === true);
}

// A button stays where the focus is while it works.
function busy(button, is) {
  button.setAttribute('aria-disabled', String(is));
}

const isBusy = (button) => button.getAttribute('aria-disabled') === 'true';

const bdi = (text) => {
  const e = document.createElement('bdi');
  e.textContent = words.shown(text);
  return e;
};

// Enrolment.

async function startEnrolment() {
  const e = enrolment;
  if (!e.id || e.secret.length !== 32 || e.user === '') {
    enrolment = null;
    message('bad', 'This code is not complete', 'Scan it again with this phone’s camera. If that does not help, have a new one made.', accounts.length ? 'Continue' : '', open);
    return;
  }
  try {
    await api.call('GET', `enrolment/${encodeURIComponent(e.id)}`);
  } catch (error) {
    if (enrolment !== e) return;
    if (error.code === 'not_found') {
      enrolment = null;
      message('bad', 'This code is used up', 'It was used already, or it has run out. Have a new one made on the computer, and scan that.', accounts.length ? 'Continue' : '', open);
    } else {
      message('stop', 'That did not work', error.text ?? '', 'Try again', startEnrolment);
    }
    return;
  }
  $('enrol-user').textContent = words.shown(e.user);
  $('enrol-computer').textContent = words.shown(words.computer(e.device === '' ? '' : e.computer || e.device));
  $('enrol-phone').value = await phoneName();
  status($('enrol-status'), '');
  show('enrol');
}

// A sensible name, of characters that every login screen can show.
async function phoneName() {
  const agent = navigator.userAgent;
  let name = 'My phone';
  if (/iPhone|iPad|iPod/.test(agent)) name = agent.match(/iPhone|iPad|iPod/)[0];
  else if (/Android/.test(agent)) {
    const hints = await navigator.userAgentData?.getHighEntropyValues?.(['model']).catch(() => null);
    const model = hints?.model || agent.match(/Android [^;)]*; ([^;)]+?)(?: Build|\))/)?.[1] || '';
    name = model.length > 1 ? model : 'Android phone';
  } else if (/Macintosh/.test(agent)) name = navigator.maxTouchPoints > 1 ? 'iPad' : 'Mac';
  else if (/Windows/.test(agent)) name = 'Windows computer';
  return printable(name);
}

const printable = (s) => s.normalize('NFKD').replace(/[^ -~]/g, '').trim().slice(0, 64);

async function enrol(event) {
  event.preventDefault();
  const e = enrolment;
  const button = $('enrol-button');
  if (isBusy(button) || !e) return;
  const phone = printable($('enrol-phone').value) || await phoneName();
  $('enrol-phone').value = phone;
  busy(button, true);
  status($('enrol-status'), 'Confirm on your phone that it is you…');
  try {
    // Made once: whoever tries again after a lost connection posts the same.
    if (!e.posted) {
      const computer = e.device === '' ? config.name : e.computer || e.device;
      const made = await passkey.create({id: config.rp_id, name: config.name || 'Sallyport'}, `${e.user} (${computer})`);
      const mac = await passkey.enrolmentMAC(e.secret, e.id, e.device, e.user, made);
      e.secret.fill(0);
      e.posted = {
        credential_id: base64(made.credentialID), public_key: base64(made.publicKey), authenticator_data: base64(made.authenticatorData),
        phone, mac: base64(mac), token: base64(passkey.random(32)),
      };
    }
    status($('enrol-status'), 'Sending…');
    await api.call('POST', `enrolment/${encodeURIComponent(e.id)}`, {body: e.posted});
  } catch (error) {
    busy(button, false);
    if (error.code === 'used' || error.code === 'not_found') {
      enrolment = null;
      message('bad', 'This code is used up', 'It was used already, or it has run out. Have a new one made on the computer, and scan that.');
      return;
    }
    status($('enrol-status'), words.trouble(error), true);
    return;
  }
  await enrolmentResult(e);
  busy(button, false);
}

async function enrolmentResult(e) {
  status($('enrol-status'), e.device === '' ? 'Waiting for the server…' : 'Waiting for the computer…');
  for (;;) {
    try {
      const r = await api.call('GET', `enrolment/${encodeURIComponent(e.id)}/result`, {token: e.posted.token});
      if (r.state === 'accepted') {
        enrolment = null;
        addAccount(e.posted.token, r.session);
        enrolled(r);
        return;
      }
      if (r.state === 'refused') {
        enrolment = null;
        message('bad', 'Not enrolled', r.text || 'The computer did not accept this phone. Have a new code made, and scan that.', accounts.length ? 'Continue' : '', open);
        return;
      }
    } catch (error) {
      if (error.code === 'not_found') {
        enrolment = null;
        message('bad', 'Not enrolled', 'The computer did not answer in time. Have a new code made, and scan that.', accounts.length ? 'Continue' : '', open);
        return;
      }
      status($('enrol-status'), (error.text ?? '') + ' Trying again…');
    }
    await pause(700);
  }
}

function enrolled(r) {
  const s = r.session;
  $('enrolled-user').textContent = words.shown(s.user);
  $('enrolled-computer').textContent = words.shown(words.computer(s.computer));
  $('enrolled-note').hidden = !s.unsigned && !r.text;
  $('enrolled-note').textContent = s.unsigned ? 'It can be used once your administrator has signed it.' : r.text ?? '';
  $('enrolled-more').replaceChildren(notifications());
  show('enrolled');
}

// Opening the page with a passkey.

async function signIn() {
  const button = $('signin-button');
  if (isBusy(button)) return;
  busy(button, true);
  status($('signin-status'), 'Confirm on your phone that it is you…');
  try {
    const {nonce} = await api.call('POST', 'session/begin', {body: {}});
    const digest = await passkey.sessionDigest(bytes(nonce));
    const a = await passkey.sign(config.rp_id, digest, null);
    const r = await api.call('POST', 'session', {body: {
      nonce, credential_id: base64(a.credentialID), authenticator_data: base64(a.authenticatorData),
      client_data: base64(a.clientData), signature: base64(a.signature),
    }});
    addAccount(r.token, r.session);
    status($('signin-status'), '');
    await open();
  } catch (error) {
    status($('signin-status'), words.trouble(error), true);
  } finally {
    busy(button, false);
  }
}

async function signOut(account) {
  try {
    await api.call('DELETE', 'session', {token: account.token});
  } catch (error) {
    if (error.code !== 'signed_out') {
      banner(error.text ?? 'That did not work.');
      return;
    }
  }
  dropAccount(account);
  for (const [id, c] of cards) if (c.account === account) removeCard(id);
  if (accounts.length === 0) {
    await notify.unsubscribe().catch(() => {});
    $('signin-text').textContent = 'You are signed out. Your passkey stays on this phone, and opens this page again.';
    show('signin');
    return;
  }
  await refresh();
}

// The list.

let refreshing = null;
let reached = false; // the server told, last time, what waits

// One at a time; whoever asks meanwhile gets the next.
function refresh() {
  refreshing = (refreshing ?? Promise.resolve()).then(refreshOnce, refreshOnce);
  return refreshing;
}

async function refreshOnce() {
  if (accounts.length === 0 || enrolment) return;
  const seen = new Set();
  let trouble = null;
  for (const account of [...accounts]) {
    try {
      const list = await api.call('GET', 'challenges', {token: account.token});
      clock = list.now * 1000 - Date.now();
      for (const c of list.challenges) {
        seen.add(c.id);
        if (!cards.has(c.id) && !closed.has(c.id)) addCard(account, c, list.last);
      }
    } catch (error) {
      if (error.code === 'signed_out') {
        dropAccount(account);
        continue;
      }
      trouble = error;
      for (const [id, c] of cards) if (c.account === account) seen.add(id);
    }
  }
  banner(trouble ? trouble.text ?? 'Something went wrong. Trying again…' : '');
  for (const [id, c] of cards) if (!seen.has(id) && !c.busy && !c.over) void gone(id, c);
  if (accounts.length === 0) {
    $('signin-text').textContent = 'This page was closed: you signed out, or this phone was removed. If it is still enrolled, its passkey opens this page.';
    show('signin');
    return;
  }
  reached = !trouble;
  settle();
  const named = cards.get(wanted);
  if (named) {
    wanted = '';
    named.element.scrollIntoView({block: 'start'});
    // Not away from the number that is being typed.
    if (!named.element.contains(document.activeElement)) named.heading.focus();
  }
}

function settle() {
  const open = [...cards.values()].filter((c) => !c.over).length;
  $('empty').hidden = cards.size > 0;
  $('empty-title').textContent = reached ? 'Nothing to approve' : 'No connection';
  $('empty-text').textContent = reached ? 'When you log in to your computer, the request shows up here.' : 'Logins that wait for you show up here once the server can be reached.';
  document.title = open ? `(${open}) Are you logging in?` : 'Sallyport';
}

function addCard(account, c, last) {
  const raw = bytes(c.challenge);
  const element = $('card-template').content.cloneNode(true).querySelector('article');
  const find = (selector) => element.querySelector(selector);
  const card = {
    id: c.id, account, raw, element, heading: find('h2'), left: find('.left'), form: find('form'), number: find('.number'),
    statuses: element.querySelectorAll('.status'), buttons: element.querySelectorAll('form button'), busy: false, over: false, told: 0,
  };
  try {
    card.challenge = passkey.parse(raw);
  } catch {
    card.challenge = null;
  }
  if (card.challenge?.id !== c.id) {
    // Nothing is signed that was not understood and shown.
    cards.set(c.id, card);
    $('cards').prepend(element);
    finish(card, ['bad', 'This request cannot be shown', 'It is not one that this page understands, so it cannot be answered here. Log in with a code, and tell your helpdesk.']);
    return;
  }
  const says = card.challenge;
  const put = (name, text) => {
    find(`[data-of="${name}"]`).textContent = text;
  };
  put('user', words.shown(says.user));
  put('name', words.shown(says.name || says.device));
  put('service', words.shown(words.service(says.service)));
  put('from', words.shown(words.from(says.from)));
  put('when', words.when(says.issued));
  put('last', lastText(last));
  const label = find('label');
  card.heading.id = `h-${c.id}`;
  card.number.id = `n-${c.id}`;
  find('.warn').id = `w-${c.id}`;
  card.statuses[0].id = `s-${c.id}`;
  label.htmlFor = card.number.id;
  card.number.setAttribute('aria-describedby', `${find('.warn').id} ${card.statuses[0].id}`);
  element.setAttribute('aria-labelledby', card.heading.id);
  card.form.addEventListener('submit', (event) => {
    event.preventDefault();
    void approve(card);
  });
  card.number.addEventListener('input', () => {
    card.number.value = card.number.value.replace(/\D/g, '');
    card.number.removeAttribute('aria-invalid');
    status(card.statuses[0], '');
  });
  find('.deny').addEventListener('click', () => void answer(card, 'deny', ''));
  const ask = (sure) => {
    if (card.busy) return;
    find('.answer').hidden = sure;
    find('.sure').hidden = !sure;
    for (const s of card.statuses) status(s, '');
    (sure ? find('.sure h3') : find('.report')).focus();
  };
  find('.report').addEventListener('click', () => ask(true));
  find('.report-no').addEventListener('click', () => ask(false));
  find('.report-yes').addEventListener('click', () => void answer(card, 'report', ''));

  cards.set(c.id, card);
  $('cards').prepend(element);
  tick(card);
  say(`A login waits for your answer: ${words.shown(says.user)} on ${words.shown(says.name || says.device)}.`);
  // The focus goes to the new request, unless the person is busy with another.
  if (!$('home').hidden && !document.activeElement?.closest('.card')) card.heading.focus();
}

function lastText(last) {
  if (!last) return 'never';
  try {
    const c = passkey.parse(bytes(last.challenge));
    return `${words.when(last.ended)}, ${words.shown(c.name || c.device)}`;
  } catch {
    return words.when(last.ended);
  }
}

function tick(card) {
  if (card.over || !card.challenge) return;
  const seconds = Math.max(0, Math.ceil((card.challenge.expires * 1000 - Date.now() - clock) / 1000));
  card.left.textContent = words.left(seconds);
  card.left.classList.toggle('soon', seconds <= 15);
  // Said aloud now and then, not every second.
  for (const mark of [30, 10]) {
    if (seconds <= mark && seconds > 0 && card.told !== mark && (card.told === 0 || card.told > mark)) {
      card.told = mark;
      say(`${mark} seconds left to answer.`);
    }
  }
  if (seconds === 0 && !card.busy) finish(card, words.outcome('timed_out'));
}

// A request that the server does not list any longer was answered elsewhere, or
// it is over.
async function gone(id, card) {
  card.busy = true;
  let told = words.outcome('timed_out');
  try {
    const s = await api.call('GET', `challenges/${encodeURIComponent(id)}`, {token: card.account.token});
    if (s.state === 'ended') told = words.outcome(s.outcome);
    if (s.state === 'answered') told = ['stop', 'Answered already', 'It was answered on another phone or in another window.'];
  } catch {
    told = words.outcome('cancelled');
  }
  finish(card, told);
}

async function approve(card) {
  const number = card.number.value.trim();
  if (!/^[0-9]{2,6}$/.test(number)) {
    card.number.setAttribute('aria-invalid', 'true');
    status(card.statuses[0], 'Type the number that the login screen of your computer shows.', true);
    card.number.focus();
    return;
  }
  await answer(card, 'approve', number);
}

async function answer(card, decision, number) {
  if (card.busy || card.over) return;
  card.busy = true;
  for (const b of card.buttons) busy(b, true);
  const tell = (text, wrong) => {
    for (const s of card.statuses) status(s, text, wrong);
  };
  tell('Confirm on your phone that it is you…');
  try {
    // From the bytes that were shown, and nothing else.
    const digest = await passkey.loginDigest(card.raw, decision, number);
    const a = await passkey.sign(config.rp_id, digest, bytes(card.account.credential_id));
    tell('Sending…');
    await api.call('POST', `challenges/${encodeURIComponent(card.id)}/answer`, {token: card.account.token, body: {
      decision, credential_id: base64(a.credentialID), authenticator_data: base64(a.authenticatorData),
      client_data: base64(a.clientData), signature: base64(a.signature),
    }});
  } catch (error) {
    card.busy = false;
    for (const b of card.buttons) busy(b, false);
    if (error.code === 'used' || error.code === 'not_found') {
      await gone(card.id, card);
      return;
    }
    tell(words.trouble(error), true);
    tick(card);
    return;
  }
  tell('Waiting for the computer…');
  finish(card, await outcomeOf(card));
}

async function outcomeOf(card) {
  const until = Date.now() + 12000;
  while (Date.now() < until) {
    try {
      const s = await api.call('GET', `challenges/${encodeURIComponent(card.id)}`, {token: card.account.token});
      if (s.state === 'ended') return words.outcome(s.outcome);
      if (s.state === 'expired') return words.unknown;
    } catch {
      // Asked again: the answer was taken.
    }
    await pause(400);
  }
  return words.unknown;
}

function finish(card, [mark, title, text]) {
  if (card.over) return;
  card.over = true;
  const had = card.element.contains(document.activeElement);
  const result = card.element.querySelector('.result');
  card.element.querySelector('.body').hidden = true;
  result.hidden = false;
  result.querySelector('.mark').className = 'mark ' + mark;
  const heading = result.querySelector('h2');
  heading.textContent = title;
  heading.id = `r-${card.id}`;
  card.element.setAttribute('aria-labelledby', heading.id);
  const [textElement, what] = result.querySelectorAll('p');
  textElement.textContent = text;
  what.className = 'what note';
  if (card.challenge) {
    const c = card.challenge;
    what.replaceChildren(bdi(c.user), ' on ', bdi(c.name || c.device), ', ', words.when(c.issued));
  }
  result.querySelector('.close').addEventListener('click', () => {
    closed.add(card.id);
    removeCard(card.id);
  });
  card.element.dataset.result = title;
  say(`${title}. ${text}`);
  if (had || document.activeElement === document.body) heading.focus();
  void notify.close(card.id);
  settle();
  void showHistory();
}

function removeCard(id) {
  cards.get(id)?.element.remove();
  cards.delete(id);
  settle();
  const next = [...cards.values()].find((c) => !c.over);
  (next?.heading ?? $('home-title')).focus();
}

async function showHistory() {
  const all = [];
  let told = true;
  for (const account of [...accounts]) {
    try {
      const {logins} = await api.call('GET', 'history', {token: account.token});
      for (const l of logins) {
        try {
          all.push({...l, says: passkey.parse(bytes(l.challenge))});
        } catch {
          // Not one that this page can show.
        }
      }
    } catch {
      told = false;
    }
  }
  all.sort((a, b) => b.ended - a.ended);
  if (!told && all.length === 0) {
    $('history-empty').textContent = 'They cannot be shown right now.';
    return;
  }
  $('history-empty').textContent = 'None yet.';
  $('history-empty').hidden = all.length > 0;
  $('history').replaceChildren(...all.slice(0, 10).map((l) => {
    const item = document.createElement('li');
    const what = document.createElement('div');
    what.append(bdi(l.says.name || l.says.device));
    const small = document.createElement('small');
    small.append(words.when(l.ended), ' · ', bdi(words.service(l.says.service)));
    if (accounts.length > 1) small.append(' · ', bdi(l.says.user));
    what.append(small);
    const [mark, , , word] = words.outcome(l.outcome);
    const came = document.createElement('span');
    came.className = 'outcome ' + mark;
    came.textContent = word;
    item.append(what, came);
    return item;
  }));
}

function showAccounts() {
  $('accounts').replaceChildren(...accounts.map((a) => {
    const item = document.createElement('li');
    const who = document.createElement('div');
    who.append(bdi(a.user));
    const small = document.createElement('small');
    small.append(bdi(words.computer(a.computer)), ' · ', bdi(a.phone));
    if (a.unsigned) small.append(' · waits for your administrator’s signature');
    who.append(small);
    const out = document.createElement('button');
    out.type = 'button';
    out.textContent = 'Sign out';
    out.setAttribute('aria-label', `Sign out ${words.shown(a.user)}, ${words.shown(words.computer(a.computer))}`);
    out.addEventListener('click', () => void signOut(a).then(showAccounts));
    item.append(who, out);
    return item;
  }));
}

// Notifications.

let installer = null;
addEventListener('beforeinstallprompt', (event) => {
  event.preventDefault();
  installer = event;
  for (const b of document.querySelectorAll('.notifications .install')) b.hidden = false;
});

const notificationTexts = {
  on: 'On. This phone rings when a login waits for you.',
  off: 'Off. Open this page when you log in, or have this phone ring.',
  blocked: 'Blocked in this browser’s settings. Allow notifications for this page there, then open it again.',
  install: 'On an iPhone or iPad they need this page on the Home Screen:',
  none: 'This browser cannot show any. Open this page when you log in.',
};

function notifications() {
  const panel = $('notifications-template').content.cloneNode(true).querySelector('section');
  const text = panel.querySelector('.state');
  const toggle = panel.querySelector('.toggle');
  const install = panel.querySelector('.install');
  let is = 'none';
  const draw = async (why) => {
    is = await notify.state();
    status(text, why ?? notificationTexts[is], why !== undefined);
    panel.querySelector('.steps').hidden = is !== 'install';
    toggle.hidden = is !== 'on' && is !== 'off';
    toggle.className = is === 'off' ? 'toggle primary' : 'toggle';
    toggle.textContent = is === 'on' ? 'Turn off' : 'Turn on notifications';
    install.hidden = installer === null;
  };
  toggle.addEventListener('click', async () => {
    if (isBusy(toggle)) return;
    busy(toggle, true);
    let why;
    try {
      if (is === 'on') {
        await notify.unsubscribe();
        for (const a of accounts) await api.call('DELETE', 'subscription', {token: a.token});
      } else {
        status(text, 'One moment…');
        await tellSubscription(await notify.subscribe(config.vapid));
      }
    } catch (error) {
      if (error instanceof Failure) why = error.text;
      else if (error.name === 'TimeoutError') why = 'This browser’s push service does not answer. Try again later; until then, open this page when you log in.';
      else if (error.name !== 'blocked' && error.name !== 'dismissed') why = 'This browser could not turn them on. Open this page when you log in.';
      if (why && is === 'off') await notify.unsubscribe().catch(() => {});
    }
    busy(toggle, false);
    await draw(why);
  });
  install.addEventListener('click', async () => {
    await installer?.prompt();
    installer = null;
    install.hidden = true;
  });
  void draw();
  return panel;
}

async function tellSubscription(subscription) {
  for (const a of accounts) {
    await api.call('PUT', 'subscription', {token: a.token, body: subscription});
    a.rung = subscription.endpoint;
  }
  save();
}

// What changed while the page was closed: the phone was signed, say, or this
// browser's push address is another one.
async function catchUp() {
  let now = null;
  try {
    if ('Notification' in window && Notification.permission === 'granted') now = await notify.current();
  } catch {
    // The panel says how it stands.
  }
  for (const a of [...accounts]) {
    try {
      Object.assign(a, await api.call('GET', 'session', {token: a.token}));
      if (now && (!a.rings || a.rung !== now.endpoint)) {
        await api.call('PUT', 'subscription', {token: a.token, body: now});
        a.rung = now.endpoint;
      }
    } catch {
      // refresh tells.
    }
  }
  save();
  showAccounts();
}

// Running.

async function open() {
  if (enrolment) {
    await startEnrolment();
    return;
  }
  if (accounts.length === 0) {
    show('signin', true);
    return;
  }
  show('home', true);
  if (!$('home-more').hasChildNodes()) $('home-more').append(notifications());
  showAccounts();
  await refresh();
  void showHistory();
  void catchUp();
}

function heard(data) {
  switch (data?.type) {
    case 'open':
      wanted = String(data.id);
      void refresh();
      break;
    case 'login':
      void refresh();
      break;
    case 'resubscribe':
      void catchUp();
      break;
  }
}

async function start() {
  readFragment();
  load();
  addEventListener('hashchange', () => {
    readFragment();
    if (api) void (enrolment ? startEnrolment() : refresh());
  });
  if (!passkey.available()) {
    message('bad', 'This browser cannot be used', 'It has no passkeys, or this page was not opened over https. Open it in the phone’s own browser, up to date.');
    return;
  }
  try {
    const response = await fetch('config.json', {cache: 'no-cache', credentials: 'omit'});
    if (!response.ok) throw new Error('config.json');
    config = await response.json();
    api = new API(config.api || location.origin);
  } catch {
    message('stop', 'You’re offline', 'The server cannot be reached. Check this phone’s connection.', 'Try again', () => location.reload());
    return;
  }
  if (config.name) $('brand').textContent = words.shown(config.name);
  $('enrol-form').addEventListener('submit', (event) => void enrol(event));
  $('enrolled-done').addEventListener('click', () => void open());
  $('signin-button').addEventListener('click', () => void signIn());
  $('another').addEventListener('click', () => {
    $('signin-text').textContent = 'Choose the passkey of the account to add.';
    show('signin');
  });
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') void refresh();
  });
  addEventListener('online', () => void refresh());
  setInterval(() => {
    for (const c of cards.values()) tick(c);
  }, 500);
  setInterval(() => {
    if (document.visibilityState === 'visible' && !$('home').hidden) void refresh();
  }, pollEvery);
  void notify.register(heard);
  await open();
}

await start();
document.documentElement.dataset.ready = 'true';
