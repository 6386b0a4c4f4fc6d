// The service worker: rings, and keeps the page for when there is no network. It
// has no passkey (workers have none) and no token: it cannot answer anything.

const cacheName = 'sallyport-1';
const shell = ['./', 'app.js', 'api.js', 'notify.js', 'passkey.js', 'words.js', 'style.css', 'icon.svg', 'icon-192.png', 'manifest.webmanifest', 'config.json'];

addEventListener('install', (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(cacheName);
    await cache.addAll(shell.map((name) => new Request(name, {cache: 'no-cache'})));
    await skipWaiting();
  })());
});

addEventListener('activate', (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name.startsWith('sallyport-') && name !== cacheName) await caches.delete(name);
    await clients.claim();
  })());
});

// The network first, so that a mended page reaches people; what is kept when there
// is none.
addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  const page = event.request.mode === 'navigate';
  const root = new URL(registration.scope);
  if (event.request.method !== 'GET' || url.origin !== root.origin || !url.pathname.startsWith(root.pathname)) return;
  const name = url.pathname.slice(root.pathname.length);
  if (!page && !shell.includes(name) || page && name !== '' && name !== 'index.html') return;
  event.respondWith((async () => {
    const cache = await caches.open(cacheName);
    const key = page ? './' : name;
    try {
      const response = await fetch(event.request, {signal: AbortSignal.timeout(5000)});
      if (response.ok && response.type === 'basic' && !response.redirected) event.waitUntil(cache.put(key, response.clone()));
      return response;
    } catch (error) {
      const kept = await cache.match(key);
      if (kept) return kept;
      throw error;
    }
  })());
});

const services = {'sshd': 'Remote login (SSH)', 'sudo': 'Administrator command (sudo)', 'sudo-i': 'Administrator command (sudo)'};
const shown = (text) => String(text ?? '').replace(/\p{C}/gu, '\uFFFD').slice(0, 200);

addEventListener('push', (event) => {
  let login = null;
  try {
    login = event.data.json();
  } catch {
    // Shown without details: a browser takes the permission from a page that gets
    // messages and shows nothing.
  }
  event.waitUntil((async () => {
    if (login?.type !== 'login' || typeof login.id !== 'string') {
      await registration.showNotification('Sallyport', {body: 'Open to see what is new.', icon: 'icon-192.png', tag: 'sallyport'});
      return;
    }
    const over = Number(login.expires) * 1000 <= Date.now();
    const service = Object.hasOwn(services, login.service) ? services[login.service] : shown(login.service);
    const body = [shown(login.user), service, login.from ? 'from ' + shown(login.from) : 'at the computer itself'].filter(Boolean).join(', ');
    await registration.showNotification(over ? 'A login request has run out' : `Log in to ${shown(login.device)}?`, {
      body, icon: 'icon-192.png', tag: login.id, data: {id: login.id}, requireInteraction: !over, timestamp: Date.now(),
    });
    for (const c of await windows()) c.postMessage({type: 'login', id: login.id});
  })());
});

const windows = () => clients.matchAll({type: 'window', includeUncontrolled: true});

addEventListener('notificationclick', (event) => {
  event.notification.close();
  const id = event.notification.data?.id ?? '';
  event.waitUntil((async () => {
    for (const c of await windows()) {
      c.postMessage({type: 'open', id});
      try {
        await c.focus();
      } catch {
        continue;
      }
      return;
    }
    await clients.openWindow('./#c=' + encodeURIComponent(id));
  })());
});

// A browser that changes its push address tells the worker; only the page may
// tell the server.
addEventListener('pushsubscriptionchange', (event) => {
  event.waitUntil((async () => {
    for (const c of await windows()) c.postMessage({type: 'resubscribe'});
  })());
});
