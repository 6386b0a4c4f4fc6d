//go:build linux

package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

const (
	period = 30 * time.Second

	// maxMeasured is how many accounts there can be to log in to. Only these are
	// in passwd: with 100,000 there, looking one up would be what is measured.
	maxMeasured = 500
	firstUID    = 200000
)

// account is somebody who has a second factor. Those numbered below the number
// of measured accounts log in; the rest only fill the contenders' tables.
type account int

func (a account) name() string { return fmt.Sprintf("bench%06d", int(a)) }
func (a account) uid() int     { return firstUID + int(a) }

// secret is the key the account shares with its phone. A generation after the
// first is a new phone.
func (a account) secret(generation int) []byte {
	key := sha1.Sum(fmt.Appendf(nil, "bench %d %d", int(a), generation))
	return key[:]
}

var unpadded = base32.StdEncoding.WithPadding(base32.NoPadding)

// code is what the phone shows now.
func (a account) code(generation int, now time.Time) (string, error) {
	return totp.GenerateCodeCustom(unpadded.EncodeToString(a.secret(generation)), now,
		totp.ValidateOpts{Period: uint(period / time.Second), Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
}

func (a account) otpauthURI(generation int) string {
	return fmt.Sprintf("otpauth://totp/bench:%s?secret=%s&issuer=bench", a.name(), unpadded.EncodeToString(a.secret(generation)))
}

// oathLine is the account in pam_oath's usersfile, which `sallyport import oath`
// reads as well.
func (a account) oathLine() string {
	return fmt.Sprintf("HOTP/T30/6 %s - %s\n", a.name(), hex.EncodeToString(a.secret(0)))
}

// accounts is the range [from, to).
func accounts(from, to int) []account {
	var list []account
	for i := from; i < to; i++ {
		list = append(list, account(i))
	}
	return list
}

func oathFile(list []account) []byte {
	var file bytes.Buffer
	for _, a := range list {
		file.WriteString(a.oathLine())
	}
	return file.Bytes()
}

// passwd is /etc/passwd as the sandbox began with it, to which accounts are
// added and from which they are taken away again.
type passwd struct {
	before []byte
	homes  string
}

func newPasswd(homes string) (*passwd, error) {
	before, err := os.ReadFile("/etc/passwd")
	return &passwd{before, homes}, err
}

// set makes the list the only accounts of ours that resolve.
func (p *passwd) set(list []account) error {
	file := bytes.NewBuffer(bytes.Clone(p.before))
	for _, a := range list {
		fmt.Fprintf(file, "%s:x:%d:100::%s:/bin/sh\n", a.name(), a.uid(), p.home(a))
	}
	return os.WriteFile("/etc/passwd", file.Bytes(), 0o644)
}

func (p *passwd) home(a account) string { return filepath.Join(p.homes, a.name()) }
