// Notifications: the worker, the subscription, and why there is none.

import {bytesOfURL} from './api.js';

const patience = 15000; // subscribing waits for the push service, and some wait for ever

// What may become a script's URL: the worker, and nothing else.
const trusted = globalThis.trustedTypes?.createPolicy('sallyport', {
  createScriptURL(url) {
    if (url !== 'sw.js') throw new TypeError('refused');
    return url;
  },
});

export async function register(heard) {
  if (!('serviceWorker' in navigator)) return;
  navigator.serviceWorker.addEventListener('message', (event) => heard(event.data));
  try {
    await navigator.serviceWorker.register(trusted ? trusted.createScriptURL('sw.js') : 'sw.js', {updateViaCache: 'none'});
  } catch {
    // Without it the page works, and does not ring.
  }
}

const apple = () => /iPhone|iPad|iPod/.test(navigator.userAgent) || navigator.userAgent.includes('Macintosh') && navigator.maxTouchPoints > 1;
const installed = () => navigator.standalone === true || matchMedia('(display-mode: standalone)').matches;

const inTime = (promise) => Promise.race([promise, new Promise((_, reject) => setTimeout(() => reject(new DOMException('', 'TimeoutError')), patience))]);

async function subscription() {
  const worker = await navigator.serviceWorker.getRegistration();
  return await worker?.pushManager?.getSubscription() ?? null;
}

// on, off, blocked, install (iOS: Home Screen first), none.
export async function state() {
  if (!('serviceWorker' in navigator) || !('PushManager' in window) || !('Notification' in window)) {
    return apple() && !installed() ? 'install' : 'none';
  }
  if (Notification.permission === 'denied') return 'blocked';
  if (Notification.permission !== 'granted') return 'off';
  return await subscription() ? 'on' : 'off';
}

const wire = (s) => {
  const {endpoint, expirationTime, keys} = s.toJSON();
  return {endpoint, expirationTime: expirationTime ?? null, keys: {p256dh: keys.p256dh, auth: keys.auth}};
};

export async function current() {
  const s = 'serviceWorker' in navigator && 'PushManager' in window ? await subscription() : null;
  return s && wire(s);
}

// To be called in a gesture. Returns the subscription, or throws why not: its name is
// blocked, TimeoutError, or the browser's.
export async function subscribe(vapid) {
  const answer = await Notification.requestPermission();
  if (answer !== 'granted') throw new DOMException('', answer === 'denied' ? 'blocked' : 'dismissed');
  const worker = await inTime(navigator.serviceWorker.ready);
  const key = bytesOfURL(vapid);
  const old = await worker.pushManager.getSubscription();
  const oldKey = old?.options?.applicationServerKey;
  if (old && oldKey && new Uint8Array(oldKey).join() !== key.join()) await old.unsubscribe();
  return wire(await inTime(worker.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: key})));
}

export async function unsubscribe() {
  await (await subscription())?.unsubscribe();
}

// A login that is over need not lie on the lock screen.
export async function close(id) {
  if (!('serviceWorker' in navigator)) return;
  const worker = await navigator.serviceWorker.getRegistration();
  for (const n of await worker?.getNotifications?.({tag: id}) ?? []) n.close();
}
