package keychain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A TPM can count where no copy of a disk reaches: an NV index of the type
// counter only ever goes up, also when it is deleted and made anew (TPM 2.0
// Library, Part 1, section 37.2.4). The vault keeps what it has counted to, so
// that a state directory restored as a whole, anchor and all, is noticed.

// counterBase and counterSpan are the owner's range of NV indices (TCG Registry
// of Reserved TPM 2.0 Handles and Localities, section 2.2).
const (
	counterBase = 0x01800000
	counterSpan = 0x00400000
)

// owner authorizes with the owner hierarchy's empty password, as the storage key
// does. The numbers are no secret.
var owner = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}

// defineCounter makes a counter and gives it its first value.
func defineCounter(device string) (index uint32, err error) {
	return withTPM(device, func(tpm transport.TPM) (uint32, error) {
		for try := 1; ; try++ {
			index := counterBase + rand.Uint32N(counterSpan)
			_, err := tpm2.NVDefineSpace{
				AuthHandle: owner,
				PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
					NVIndex:    tpm2.TPMHandle(index),
					NameAlg:    tpm2.TPMAlgSHA256,
					Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTCounter, NoDA: true},
					DataSize:   8,
				}),
			}.Execute(tpm)
			if errors.Is(err, tpm2.TPMRCNVDefined) && try < 8 {
				continue // taken by someone else
			}
			if err != nil {
				return 0, err
			}
			return index, increment(tpm, index)
		}
	})
}

// name finds the counter, and makes sure that it is one: anyone who boots this
// computer could put an index that can be written in its place.
func name(tpm transport.TPM, index uint32) (h tpm2.NamedHandle, err error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(tpm)
	if errors.Is(err, tpm2.TPMRCHandle) {
		err = ErrCounter
	}
	if err != nil {
		return h, err
	}
	public, err := rsp.NVPublic.Contents()
	if err != nil {
		return h, err
	}
	if public.Attributes.NT != tpm2.TPMNTCounter || public.NVIndex != tpm2.TPMHandle(index) {
		return h, ErrCounter
	}
	return tpm2.NamedHandle{Handle: public.NVIndex, Name: rsp.NVName}, nil
}

func increment(tpm transport.TPM, index uint32) error {
	h, err := name(tpm, index)
	if err == nil {
		_, err = tpm2.NVIncrement{AuthHandle: owner, NVIndex: h}.Execute(tpm)
	}
	return err
}

func readCounter(device string, index uint32) (uint64, error) {
	return withTPM(device, func(tpm transport.TPM) (uint64, error) {
		h, err := name(tpm, index)
		if err != nil {
			return 0, err
		}
		rsp, err := tpm2.NVRead{AuthHandle: owner, NVIndex: h, Size: 8}.Execute(tpm)
		if err != nil {
			return 0, err
		}
		if len(rsp.Data.Buffer) != 8 {
			return 0, fmt.Errorf("a counter of %d bytes", len(rsp.Data.Buffer))
		}
		return binary.BigEndian.Uint64(rsp.Data.Buffer), nil
	})
}

func advanceCounter(device string, index uint32) error {
	_, err := withTPM(device, func(tpm transport.TPM) (struct{}, error) { return struct{}{}, increment(tpm, index) })
	return err
}

// undefineCounter gives the TPM its memory back.
func undefineCounter(device string, index uint32) error {
	_, err := withTPM(device, func(tpm transport.TPM) (none struct{}, err error) {
		h, err := name(tpm, index)
		if err == nil {
			_, err = tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: h}.Execute(tpm)
		}
		return none, err
	})
	return err
}

func (tpm) count(s site, e entry) (uint64, error) {
	n, err := readCounter(s.cfg.tpmDevice(), e.Counter)
	if err != nil {
		return 0, fmt.Errorf("the counter %#x of the TPM %s cannot be read: %w", e.Counter, s.cfg.tpmDevice(), err)
	}
	return n, nil
}

func (tpm) advance(s site, e entry) error {
	if err := advanceCounter(s.cfg.tpmDevice(), e.Counter); err != nil {
		return fmt.Errorf("the counter %#x of the TPM %s cannot be advanced: %w", e.Counter, s.cfg.tpmDevice(), err)
	}
	return nil
}

func (tpm) newCounter(s site, log *slog.Logger) uint32 {
	index, err := defineCounter(s.cfg.tpmDevice())
	if err != nil {
		log.Warn("the TPM has no room for a counter; restoring the whole state directory from an old copy would go unnoticed", "device", s.cfg.tpmDevice(), "error", err)
		return 0
	}
	return index
}
