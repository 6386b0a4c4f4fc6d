// Talks to the authority. No cookies: whoever has the token has the session.

export class Failure extends Error {
  constructor(code, text) {
    super(code);
    this.code = code;
    this.text = text;
  }
}

const offline = () => new Failure('offline', navigator.onLine === false
  ? 'You’re offline. Check this phone’s connection.'
  : 'The server cannot be reached. Check this phone’s connection.');

export class API {
  constructor(origin) {
    this.base = new URL('/api/v1/', origin);
  }

  async call(method, path, {token, body} = {}) {
    const headers = {};
    if (token) headers.Authorization = 'Bearer ' + token;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    let response;
    try {
      response = await fetch(new URL(path, this.base), {
        method, headers, body: body === undefined ? undefined : JSON.stringify(body),
        credentials: 'omit', cache: 'no-store', redirect: 'error', referrerPolicy: 'no-referrer', signal: AbortSignal.timeout(15000),
      });
    } catch {
      throw offline();
    }
    let answer = null;
    try {
      const text = await response.text();
      if (text !== '') answer = JSON.parse(text);
    } catch {
      throw offline();
    }
    if (!response.ok) throw new Failure(answer?.error ?? 'internal', answer?.text ?? 'The server answered something odd. Try again in a moment.');
    return answer;
  }
}

export function base64(bytes) {
  let s = '';
  for (const b of new Uint8Array(bytes)) s += String.fromCharCode(b);
  return btoa(s);
}

export const bytes = (s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));

// Of the QR code: base64url without padding.
export const bytesOfURL = (s) => bytes(s.replaceAll('-', '+').replaceAll('_', '/'));
