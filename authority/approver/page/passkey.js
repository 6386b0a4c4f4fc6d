// What is signed, and with what. The digests are computed here, from the bytes
// that the page shows, and from nothing else.

const utf8 = (s) => new TextEncoder().encode(s);

function join(...parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

const sha256 = async (b) => new Uint8Array(await crypto.subtle.digest('SHA-256', b));

export const random = (n) => crypto.getRandomValues(new Uint8Array(n));

// A challenge as it is shown: parsed from the bytes, checked for what is shown.
export function parse(bytes) {
  const c = JSON.parse(new TextDecoder('utf-8', {fatal: true}).decode(bytes));
  const text = ['id', 'device', 'name', 'user', 'service', 'from'];
  const whole = ['issued', 'expires'];
  if (c?.type !== 'sallyport.login.v1' || text.some((k) => typeof c[k] !== 'string') || whole.some((k) => !Number.isSafeInteger(c[k]))) {
    throw new Error('not a login challenge');
  }
  return c;
}

export const loginDigest = async (challenge, decision, number) =>
  sha256(join(utf8('sallyport.push.login.v1\0'), await sha256(challenge), utf8(decision + '\0' + number)));

export const sessionDigest = (nonce) => sha256(join(utf8('sallyport.push.session.v1\0'), nonce));

// The proof that the key comes from whoever scanned the code.
export async function enrolmentMAC(secret, id, device, user, made) {
  const key = await crypto.subtle.importKey('raw', secret, {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']);
  const parts = [utf8('sallyport.push.enrol.v1\0')];
  for (const field of [utf8(id), utf8(device), utf8(user), made.credentialID, made.publicKey, made.authenticatorData]) {
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, field.length);
    parts.push(length, field);
  }
  return new Uint8Array(await crypto.subtle.sign('HMAC', key, join(...parts)));
}

export const available = () => window.isSecureContext && 'PublicKeyCredential' in window && 'credentials' in navigator;

// Makes a passkey that asks for the person each time and can be found without a
// name.
export async function create(rp, label) {
  const made = await navigator.credentials.create({publicKey: {
    rp, user: {id: random(32), name: label, displayName: label}, challenge: random(32),
    pubKeyCredParams: [-7, -8, -257].map((alg) => ({type: 'public-key', alg})),
    authenticatorSelection: {residentKey: 'required', requireResidentKey: true, userVerification: 'required'},
    attestation: 'none', timeout: 120000,
  }});
  const publicKey = made.response.getPublicKey();
  if (!publicKey) throw new DOMException('no public key', 'NotSupportedError');
  return {
    credentialID: new Uint8Array(made.rawId),
    publicKey: new Uint8Array(publicKey),
    authenticatorData: new Uint8Array(made.response.getAuthenticatorData()),
  };
}

// Signs a digest; with any passkey of this page, or with one.
export async function sign(rpId, digest, credentialID) {
  const got = await navigator.credentials.get({publicKey: {
    challenge: digest, rpId, userVerification: 'required', timeout: 60000,
    allowCredentials: credentialID ? [{type: 'public-key', id: credentialID}] : [],
  }});
  return {
    credentialID: new Uint8Array(got.rawId),
    authenticatorData: new Uint8Array(got.response.authenticatorData),
    clientData: new Uint8Array(got.response.clientDataJSON),
    signature: new Uint8Array(got.response.signature),
  };
}
