package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNothingPrintsASecret(t *testing.T) {
	const canary = "CANARY0123456789CANARY0123456789"
	key, err := NewKey([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, v := range []any{New(canary), key, struct{ S String }{New(canary)}, []String{New(canary)}, struct{ K *Key }{key}} {
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(j)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&log, verb, v)
		}
	}
	out := log.String()
	for _, leak := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(out, leak) {
			t.Errorf("the secret was printed: %s", out)
		}
	}
	if !strings.Contains(out, redacted) {
		t.Errorf("no %s in %s", redacted, out)
	}
}

func TestNewKeyTakes32BytesAndWipesItsSource(t *testing.T) {
	src := bytes.Repeat([]byte{7}, 32)
	k, err := NewKey(src)
	if err != nil || !bytes.Equal(src, make([]byte, 32)) || k.Reveal()[31] != 7 {
		t.Fatalf("key %x, source %x, %v", k.Reveal(), src, err)
	}
	k.Wipe()
	if !bytes.Equal(k.Reveal(), make([]byte, 32)) {
		t.Error("not wiped")
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := NewKey(make([]byte, n)); err == nil {
			t.Errorf("took %d bytes", n)
		}
	}
}
