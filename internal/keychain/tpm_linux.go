package keychain

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"sallyport/internal/secret"
)

// tpmPatience bounds a conversation with the TPM. A discrete TPM takes well
// under a second for each command; one that hangs must not hang the agent.
var tpmPatience = 20 * time.Second

// tpm is the kind TPM. The sealed key is in the record; what the TPM itself keeps
// is the counter.
type tpm struct{}

func (c Config) tpmDevice() string {
	if c.TPMDevice == "" {
		return "/dev/tpmrm0"
	}
	return c.TPMDevice
}

func (t tpm) make(s site, e *entry, log *slog.Logger) (*secret.Key, error) {
	key, err := newKey(e, func(key *secret.Key) (err error) {
		e.Public, e.Private, err = sealTPM(s.cfg.tpmDevice(), key)
		return err
	})
	if err == nil {
		e.Counter = t.newCounter(s, log)
	}
	return key, err
}

func (tpm) fetch(s site, e entry) (key *secret.Key, where string, err error) {
	key, err = unsealTPM(s.cfg.tpmDevice(), e.Public, e.Private)
	return key, "the TPM " + s.cfg.tpmDevice(), err
}

func (tpm) drop(s site, e entry) error {
	if e.Counter == 0 {
		return nil
	}
	if err := undefineCounter(s.cfg.tpmDevice(), e.Counter); err != nil && !errors.Is(err, ErrCounter) {
		return fmt.Errorf("the counter %#x of the TPM %s cannot be removed: %w", e.Counter, s.cfg.tpmDevice(), err)
	}
	return nil
}

// sealTPM seals the key to the TPM: a KEYEDHASH object below the storage key
// that the TPM derives, always the same, from its owner seed (TCG TPM v2.0
// Provisioning Guidance, section 7.5.1). The blob is worthless without this TPM
// and after this TPM is cleared.
//
// There is no PCR policy and no password: the key opens to whatever system is
// booted on this computer. It stops a copied disk, not somebody who boots this
// computer from a stick; the threat model says so. noDA keeps other programs'
// failures from locking us out.
func sealTPM(device string, key *secret.Key) (public, private []byte, err error) {
	rsp, err := withStorage(device, func(tpm transport.TPM, storage *storageKey) (*tpm2.CreateResponse, error) {
		return tpm2.Create{
			ParentHandle: storage.auth(encryptIn),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: key.Reveal()}),
			}},
			InPublic: tpm2.New2B(tpm2.TPMTPublic{
				Type:    tpm2.TPMAlgKeyedHash,
				NameAlg: tpm2.TPMAlgSHA256,
				ObjectAttributes: tpm2.TPMAObject{
					FixedTPM:     true,
					FixedParent:  true,
					UserWithAuth: true,
					NoDA:         true,
				},
			}),
		}.Execute(tpm)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("the TPM %s cannot seal the vault's key: %w", device, err)
	}
	return tpm2.Marshal(rsp.OutPublic), tpm2.Marshal(rsp.OutPrivate), nil
}

func unsealTPM(device string, public, private []byte) (*secret.Key, error) {
	pub, err := tpm2.Unmarshal[tpm2.TPM2BPublic](public)
	if err != nil {
		return nil, fmt.Errorf("the TPM's sealed key is malformed: %w", ErrRecord)
	}
	priv, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](private)
	if err != nil {
		return nil, fmt.Errorf("the TPM's sealed key is malformed: %w", ErrRecord)
	}
	raw, err := withStorage(device, func(tpm transport.TPM, storage *storageKey) ([]byte, error) {
		obj, err := tpm2.Load{ParentHandle: storage.auth(), InPrivate: *priv, InPublic: *pub}.Execute(tpm)
		if err != nil {
			// TPM_RC_INTEGRITY and its kin speak about the blob: it is not
			// this TPM's, or no longer.
			var refused tpm2.TPMFmt1Error
			if errors.As(err, &refused) {
				err = fmt.Errorf("%w: %w", err, ErrForeign)
			}
			return nil, err
		}
		defer flush(tpm, obj.ObjectHandle)
		rsp, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
			Handle: obj.ObjectHandle,
			Name:   obj.Name,
			Auth:   storage.session(encryptOut),
		}}.Execute(tpm)
		if err != nil {
			return nil, err
		}
		return rsp.OutData.Buffer, nil
	})
	if errors.Is(err, ErrForeign) {
		return nil, fmt.Errorf("the TPM %s did not seal this vault's key (%w): the vault was copied from another computer, the TPM was cleared or replaced, or the record is damaged; make a new vault with 'sallyport vault init' and enrol everyone again", device, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the vault's key is in the TPM %s, which cannot be used (%w); bring the TPM back (firmware set-up, kernel module, permissions) and restart the agent: %w", device, err, ErrMissing)
	}
	return secret.NewKey(raw)
}

// storageKey is the TPM's primary storage key while a conversation lasts.
type storageKey struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

var (
	encryptIn  = tpm2.AESEncryption(128, tpm2.EncryptIn)
	encryptOut = tpm2.AESEncryption(128, tpm2.EncryptOut)
)

// session authorizes with an empty password in an HMAC session that is salted
// with the storage key. With one of the two options above, the secret in the
// command or in its response is encrypted to whoever only listens on the bus
// (TPM 2.0 Library, Part 1, section 21).
func (s *storageKey) session(opts ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, append(opts, tpm2.Salted(s.handle, s.public))...)
}

func (s *storageKey) auth(opts ...tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: s.handle, Name: s.name, Auth: s.session(opts...)}
}

// withStorage derives the storage key and runs one conversation with it.
func withStorage[T any](device string, talk func(transport.TPM, *storageKey) (T, error)) (T, error) {
	return withTPM(device, func(tpm transport.TPM) (none T, err error) {
		rsp, err := tpm2.CreatePrimary{
			PrimaryHandle: tpm2.TPMRHOwner,
			InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
		}.Execute(tpm)
		if err != nil {
			return none, fmt.Errorf("no storage key (is the owner hierarchy locked by a password?): %w", err)
		}
		defer flush(tpm, rsp.ObjectHandle)
		public, err := rsp.OutPublic.Contents()
		if err != nil {
			return none, err
		}
		return talk(tpm, &storageKey{rsp.ObjectHandle, rsp.Name, *public})
	})
}

// withTPM opens the TPM for one conversation. After tpmPatience it gives up; the
// goroutine then lasts as long as the driver keeps it.
func withTPM[T any](device string, talk func(transport.TPM) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		tpm, err := openTPM(device)
		if a.err = err; err == nil {
			a.value, a.err = talk(tpm)
			_ = tpm.Close()
		}
		done <- a
	}()
	timeout := time.NewTimer(tpmPatience)
	defer timeout.Stop()
	select {
	case a := <-done:
		return a.value, a.err
	case <-timeout.C:
		var none T
		return none, fmt.Errorf("no answer within %v", tpmPatience)
	}
}

func openTPM(device string) (transport.TPMCloser, error) {
	info, err := os.Stat(device)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return linuxudstpm.Open(device)
	}
	return linuxtpm.Open(device)
}

// flush drops an object from the TPM's scarce memory. The resource manager does
// it too when the device is closed, so a failure has no consequence.
func flush(tpm transport.TPM, handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(tpm)
}
