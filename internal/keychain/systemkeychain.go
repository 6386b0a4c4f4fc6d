package keychain

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"sallyport/internal/secret"
)

// systemKeychain is the kind SystemKeychain: a generic password in the System
// keychain of macOS, which is a file that root alone can write. A daemon has no
// other one: the data protection keychain is a user's who is logged in (Apple's
// TN3137), and so neither its classes (kSecAttrAccessible) nor iCloud concern
// what is here.
//
// macOS encrypts it under a key that lies in /var/db/SystemKey, for root to read.
// So a copy of the state directory does not open the vault. A copy of the whole
// disk does, unless FileVault is on; and so does whoever is root here. Only the
// program that wrote it may read it without a question, which nobody would be there
// to answer: one with the same signature.
type systemKeychain struct{ items items }

// items are this agent's generic passwords in the keychain that is the default of
// the process. Their errors are OSStatus's.
type items interface {
	// where says as whom the process runs and which keychain is its default.
	where() (uid int, keychain string, err error)
	add(account, label string, data []byte) error
	get(account string) ([]byte, error)
	remove(account string) error
	accounts() ([]string, error)
}

const (
	systemKeychainFile = "/Library/Keychains/System.keychain"
	// itemService is kSecAttrService of them all.
	itemService = "com.sallyport.agent"
)

// account is kSecAttrAccount of a key.
func (s site) account(id string) string { return accountPrefix(s.vault) + id }

func accountPrefix(vault string) string { return vault + "/" }

func (k systemKeychain) make(s site, e *entry, _ *slog.Logger) (*secret.Key, error) {
	if err := k.check(s); err != nil {
		return nil, err
	}
	return newKey(e, func(key *secret.Key) error { return k.write(s.account(e.ID), key.Reveal()) })
}

// write adds an item, and reads it back: what cannot be read at the next start
// locks everybody out then.
func (k systemKeychain) write(account string, data []byte) error {
	where := itemName(account)
	if err := k.items.add(account, "Sallyport: opens its vault on this computer", data); err != nil {
		return fmt.Errorf("%s cannot be written: %w; %s; else set keychain = \"file\"", where, err, remedy(err))
	}
	read, err := k.items.get(account)
	if err != nil {
		return fmt.Errorf("%s was written and cannot be read: %w; %s", where, err, remedy(err))
	}
	defer clear(read)
	if !bytes.Equal(read, data) {
		return fmt.Errorf("%s was written and holds something else", where)
	}
	return nil
}

func (k systemKeychain) fetch(s site, e entry) (key *secret.Key, where string, err error) {
	if err := k.check(s); err != nil {
		return nil, "", err
	}
	where = itemName(s.account(e.ID))
	b, err := k.items.get(s.account(e.ID))
	if errors.Is(err, errSecItemNotFound) {
		return nil, "", fmt.Errorf("%s is gone; restore the whole computer from one backup, or make a new vault with 'sallyport vault init' and enrol everyone again: %w", where, ErrMissing)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s cannot be read: %w; %s: %w", where, err, remedy(err), ErrMissing)
	}
	if key, err = secret.NewKey(b); err != nil {
		clear(b)
		return nil, "", fmt.Errorf("%s holds %w: %w", where, err, ErrMissing)
	}
	return key, where, nil
}

func (k systemKeychain) drop(s site, e entry) error {
	if err := k.check(s); err != nil {
		return err
	}
	return k.remove(s.account(e.ID))
}

func (k systemKeychain) remove(account string) error {
	if err := k.items.remove(account); err != nil && !errors.Is(err, errSecItemNotFound) {
		return fmt.Errorf("cannot remove %s: %w", itemName(account), err)
	}
	return nil
}

// sweep leaves nothing but a warning where it fails: a key that is in a file must
// not be lost to a keychain that does not work.
func (k systemKeychain) sweep(s site, keep entry, log *slog.Logger) error {
	if s.cfg.NotService {
		return nil
	}
	err := k.check(s)
	if err != nil && keep.Kind != SystemKeychain {
		return nil // this process has none, and needs none
	}
	var accounts []string
	if err == nil {
		accounts, err = k.items.accounts()
	}
	for _, account := range accounts {
		id, ours := strings.CutPrefix(account, accountPrefix(s.vault))
		if ours && (keep.Kind != SystemKeychain || id != keep.ID) {
			err = errors.Join(err, k.remove(account))
		}
	}
	if err != nil {
		log.Warn("an old key of the vault may be left behind in the System keychain", "error", err)
	}
	return nil
}

// check refuses whoever has another default keychain than the service: a key in a
// user's own would be out of its reach at the next start. That is decided by the
// session, not by the user: root in a terminal has the keychain of who logged in.
func (k systemKeychain) check(s site) error {
	const start = "start the service (sudo launchctl kickstart system/" + itemService + ")"
	if s.cfg.NotService {
		return fmt.Errorf("the vault's key is in the System keychain, where only the service reads it; %s and run this again: %w", start, ErrMissing)
	}
	uid, path, err := k.items.where()
	switch {
	case err != nil:
		return fmt.Errorf("the System keychain is not there: %w; %s: %w", err, remedy(err), ErrMissing)
	case uid != 0:
		return fmt.Errorf("the System keychain is root's, and the agent runs as uid %d; %s, or set keychain = \"file\": %w", uid, start, ErrMissing)
	case path != systemKeychainFile:
		return fmt.Errorf("the default keychain of this process is %s, not %s, as when the agent is started in a terminal; %s, or set keychain = \"file\": %w", path, systemKeychainFile, start, ErrMissing)
	}
	return nil
}

func itemName(account string) string {
	return fmt.Sprintf("the item %s of %s in %s", account, itemService, systemKeychainFile)
}

// osStatus is an error of Apple's keychain ("Security Framework Result Codes").
type osStatus int32

// Those that have something to be said about.
const (
	errSecWrPerm                osStatus = -61
	errSecNotAvailable          osStatus = -25291
	errSecReadOnly              osStatus = -25292
	errSecAuthFailed            osStatus = -25293
	errSecNoSuchKeychain        osStatus = -25294
	errSecInvalidKeychain       osStatus = -25295
	errSecItemNotFound          osStatus = -25300
	errSecNoDefaultKeychain     osStatus = -25307
	errSecInteractionNotAllowed osStatus = -25308
	errSecInteractionRequired   osStatus = -25315
)

func (s osStatus) Error() string {
	text := map[osStatus]string{
		errSecWrPerm:                "the keychain cannot be written",
		errSecNotAvailable:          "no keychain is available",
		errSecReadOnly:              "the keychain cannot be written",
		errSecAuthFailed:            "the keychain does not open",
		errSecNoSuchKeychain:        "there is no such keychain",
		errSecInvalidKeychain:       "the keychain is damaged",
		errSecItemNotFound:          "there is no such item",
		errSecNoDefaultKeychain:     "there is no default keychain",
		errSecInteractionNotAllowed: "macOS would have to ask somebody, and nobody is there",
		errSecInteractionRequired:   "macOS would have to ask somebody, and nobody is there",
	}[s]
	if text == "" {
		return fmt.Sprintf("the keychain answers with error %d", int32(s))
	}
	return fmt.Sprintf("%s (%d)", text, int32(s))
}

// errNoKeychain is all that a build without cgo can say.
var errNoKeychain = errors.New("this build has no keychain")

// remedy says what to do about an error of the keychain.
func remedy(err error) string {
	var s osStatus
	if errors.Is(err, errNoKeychain) {
		return "build it with cgo, on a Mac (./build.sh build macos)"
	}
	errors.As(err, &s)
	switch s {
	case errSecInteractionNotAllowed, errSecInteractionRequired:
		return "the keychain is locked (sudo systemkeychain -t unlocks it), or this program's signature is not that of the one that wrote the item: put that one back"
	case errSecAuthFailed:
		return "/var/db/SystemKey does not fit the keychain: restore both from one backup"
	case errSecNoSuchKeychain, errSecNoDefaultKeychain, errSecInvalidKeychain:
		return "sudo security default-keychain -d system says which keychain the system's is; it must be " + systemKeychainFile
	case errSecReadOnly, errSecWrPerm:
		return "check the owner and the mode of the keychain (ls -leO /Library/Keychains)"
	case errSecNotAvailable:
		return "securityd does not answer: restart the computer"
	}
	return "'security error CODE' may say more about it"
}
