//go:build unix

package totp_test

import (
	"encoding/base32"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/factor/totp"
)

// TestOathtoolAgrees asks an implementation that is not ours.
func TestOathtoolAgrees(t *testing.T) {
	oathtool, err := exec.LookPath("oathtool")
	if err != nil {
		t.Skip("oathtool is not installed (Debian package oathtool)")
	}
	seed1, seed2 := rand.Uint64(), rand.Uint64()
	r := rand.New(rand.NewPCG(seed1, seed2))
	for i := range 60 {
		key := make([]byte, 10+r.IntN(119))
		for j := range key {
			key[j] = byte(r.Uint32())
		}
		algorithm := []string{"SHA1", "SHA256", "SHA512"}[i%3]
		digits := []int{6, 8}[i/3%2]
		at := time.Unix(r.Int64N(4_000_000_000)+30, 0).UTC()
		cmd := exec.Command(oathtool, "--totp="+algorithm, "--digits="+strconv.Itoa(digits),
			"--now="+at.Format("2006-01-02 15:04:05 UTC"), "--base32", "-")
		cmd.Stdin = strings.NewReader(base32.StdEncoding.EncodeToString(key) + "\n")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("oathtool: %v", err)
		}
		s, err := totp.FromSeed(key, algorithm, digits, 30)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Verify(strings.TrimSpace(string(out)), at); got != totp.Correct || s.LastStep != at.Unix()/30 {
			t.Errorf("PCG(%d, %d) round %d, %s, %d digits, %v: %v at step %d", seed1, seed2, i, algorithm, digits, at, got, s.LastStep)
		}
	}
}
