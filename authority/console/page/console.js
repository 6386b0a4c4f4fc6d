// What the console cannot do without a script: passkeys. And a few comforts.
'use strict';

const b64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
const find = (id) => document.getElementById(id);

async function post(path, body) {
  const answer = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.text ?? 'The server did not answer as it should.');
  return said;
}

// say shows how it went, and what a browser's error means.
function say(error) {
  const words = {
    NotAllowedError: 'It was cancelled, took too long, or there is no passkey for this console here.',
    InvalidStateError: 'This device has a passkey for you already.',
    NotSupportedError: 'This browser or key cannot do what is needed.',
    SecurityError: 'The browser does not let this page use passkeys: the address is not the configured one, or its certificate is not trusted.',
    TypeError: 'The server cannot be reached.',
  };
  find('status').textContent = words[error.name] ?? error.message;
}

// once runs one thing at a time.
function once(element, event, run) {
  let busy = false;
  element?.addEventListener(event, async (e) => {
    e.preventDefault();
    if (busy) return;
    busy = true;
    find('status').textContent = 'Waiting for your passkey...';
    try {
      await run();
    } catch (error) {
      say(error);
    }
    busy = false;
  });
}

once(find('login'), 'click', async () => {
  const begun = await post('/login/begin', {});
  const got = await navigator.credentials.get({publicKey: {
    challenge: bytes(begun.challenge), rpId: begun.rp_id, userVerification: 'required', allowCredentials: [], timeout: 60000,
  }});
  const done = await post('/login', {
    nonce: begun.nonce, credential_id: b64(got.rawId), authenticator_data: b64(got.response.authenticatorData),
    client_data: b64(got.response.clientDataJSON), signature: b64(got.response.signature),
  });
  location.replace(done.to);
});

const form = find('invite');
if (form) {
  // The secret leaves the address bar and the history at once.
  const secret = location.hash.slice(1);
  history.replaceState(null, '', location.pathname);
  addEventListener('hashchange', () => location.reload()); // the link, pasted again
  let begun;
  const begin = async () => {
    if (!secret) throw new Error('Open the link of the invitation again: this page does not keep it.');
    begun ??= await post('/invite/begin', {secret});
    find('whose').textContent = `This invitation lets ${begun.name} open the console of ${begun.organisation}'s helpdesk.`;
  };
  begin().catch(say);
  once(form, 'submit', async () => {
    await begin();
    const made = await navigator.credentials.create({publicKey: {
      rp: {id: begun.rp_id, name: begun.organisation + ' helpdesk'},
      user: {id: crypto.getRandomValues(new Uint8Array(32)), name: begun.name, displayName: begun.name},
      challenge: crypto.getRandomValues(new Uint8Array(32)),
      pubKeyCredParams: [-7, -8, -257].map((alg) => ({type: 'public-key', alg})),
      excludeCredentials: begun.have.map((id) => ({type: 'public-key', id: bytes(id)})),
      authenticatorSelection: {residentKey: 'required', requireResidentKey: true, userVerification: 'required'},
      attestation: 'none', timeout: 120000,
    }});
    const publicKey = made.response.getPublicKey();
    if (!publicKey) throw new DOMException('no public key', 'NotSupportedError');
    const done = await post('/invite', {
      secret, credential_id: b64(made.rawId), public_key: b64(publicKey),
      authenticator_data: b64(made.response.getAuthenticatorData()), label: find('label').value,
    });
    location.replace(done.to);
  });
}

for (const button of document.querySelectorAll('[data-copy]')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(find(button.dataset.copy).textContent);
      find('copied').textContent = 'Copied.';
    } catch {
      find('copied').textContent = 'The browser does not allow it: mark it and copy it.';
    }
  });
}

// Times are the server's, in UTC; whoever has a script reads those of the own clock.
function local(root) {
  const two = (n) => String(n).padStart(2, '0');
  for (const e of root.querySelectorAll('time:not([data-local])')) {
    const t = new Date(e.dateTime);
    const seconds = e.textContent.length > 16 ? ':' + two(t.getSeconds()) : '';
    e.textContent = `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}${seconds}`;
    e.dataset.local = '';
  }
  for (const e of root.querySelectorAll('[data-zone]')) e.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
}
local(document);

// What is shown once is not there when somebody comes back to the page.
addEventListener('pagehide', () => {
  for (const e of document.querySelectorAll('[data-once]')) e.remove();
});
document.querySelector('[data-focus]')?.focus();

// The live view can be paused; what happens meanwhile comes afterwards.
const pause = find('pause');
if (pause) {
  pause.hidden = false;
  pause.addEventListener('click', () => pause.setAttribute('aria-pressed', String(pause.getAttribute('aria-pressed') !== 'true')));
  document.addEventListener('htmx:beforeRequest', (e) => {
    if (e.target.tagName === 'TBODY' && pause.getAttribute('aria-pressed') === 'true') e.preventDefault();
  });
}

// It says how much is new, once, and does not grow for ever.
document.addEventListener('htmx:afterSettle', () => {
  local(document);
  const fresh = [...document.querySelectorAll('tbody[data-new]')];
  const news = find('news');
  if (!news || fresh.length === 0) return;
  const n = fresh.reduce((sum, e) => sum + Number(e.dataset.new), 0);
  const said = n === 1 ? '1 new event.' : `${n} new events.`;
  if (news.textContent !== said) news.textContent = said;
  const rows = document.querySelectorAll('.events tbody tr');
  for (let i = rows.length - 1; i >= 500; i--) rows[i].remove();
});
