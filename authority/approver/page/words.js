// What people read.

const services = {
  'sshd': 'Remote login (SSH)',
  'sudo': 'Administrator command (sudo)',
  'sudo-i': 'Administrator command (sudo)',
  'su': 'Switching users (su)',
  'su-l': 'Switching users (su)',
  'login': 'Login at the console',
  'gdm-password': 'Login at the screen',
  'gdm': 'Login at the screen',
  'lightdm': 'Login at the screen',
  'sddm': 'Login at the screen',
  'gnome-screensaver': 'Unlocking the screen',
  'kde': 'Unlocking the screen',
  'xscreensaver': 'Unlocking the screen',
  'polkit-1': 'Administrator action',
  'cockpit': 'Web console (Cockpit)',
  'xrdp-sesman': 'Remote desktop (xrdp)',
};

export const service = (name) => Object.hasOwn(services, name) ? services[name] : name === '' ? 'Login' : name;

// Characters that cannot be seen, or that turn others around, are shown as what
// they are: something odd.
export const shown = (text) => String(text).replace(/\p{C}/gu, '\uFFFD');

export const from = (address) => address === '' ? 'At the computer itself' : address;

export const computer = (name) => name === '' ? 'all your computers' : name;

export function when(seconds) {
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return new Intl.DateTimeFormat(undefined, today ? {timeStyle: 'short'} : {dateStyle: 'medium', timeStyle: 'short'}).format(date);
}

export function left(seconds) {
  return seconds >= 120 ? `${Math.round(seconds / 60)} min left` : `${seconds} s left`;
}

// What a login came to: mark, heading, text, and the word for the list.
const outcomes = {
  approved: ['good', 'Approved', 'The login goes on at the computer. You can put the phone away.', 'Approved'],
  denied: ['stop', 'Denied', 'Nobody was let in with this request.', 'Denied'],
  reported: ['bad', 'Reported', 'Approving on the phone is locked for you until your helpdesk clears it. Change your password, and tell them what happened.', 'Reported'],
  wrong_number: ['bad', 'That was not the number', 'Nobody was let in, and this request is over. If it is you, start the login again and type the new number.', 'Wrong number'],
  code: ['good', 'Logged in with a code', 'A code was typed at the computer instead. There is nothing left to do here.', 'Logged in with a code'],
  cancelled: ['stop', 'The login was cancelled', 'The computer does not wait for an answer any longer.', 'Cancelled'],
  timed_out: ['stop', 'Too late', 'The request ran out before it was answered. If it is you, start the login again.', 'Not answered'],
};
const other = ['bad', 'Not accepted', 'The computer did not accept this answer. Log in with a code, and tell your helpdesk.', 'Not accepted'];

export const outcome = (name) => Object.hasOwn(outcomes, name) ? outcomes[name] : name === '' ? outcomes.timed_out : other;

export const unknown = ['stop', 'Sent', 'Your answer is with the computer, which has not said yet what came of it. Look at its screen.'];

// Why a passkey was not made or did not sign.
export function trouble(error) {
  switch (error?.name) {
    case 'NotAllowedError':
      return 'Nothing was sent: it was cancelled, or the phone did not recognise you. Passkeys need a screen lock (fingerprint, face or PIN).';
    case 'InvalidStateError':
      return 'This phone has this passkey already.';
    case 'SecurityError':
      return 'This page is not where your passkeys belong. Scan the code again, and tell your helpdesk if that does not help.';
    case 'NotSupportedError':
    case 'ConstraintError':
      return 'This phone cannot keep the passkey that is needed. Set a screen lock, or update the phone’s system.';
    case 'AbortError':
      return 'Nothing was sent: it was cancelled.';
  }
  return error?.text ?? 'Something went wrong on this phone. Open the page again.';
}
